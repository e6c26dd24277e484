import threading


class Cache:
    def __init__(self, compute):
        self.compute, self.kept, self.lock = compute, {}, threading.RLock()

    def get(self, key):
        self.lock.acquire()
        try:
            if key not in self.kept:
                self.kept[key] = self.compute(key)
            return self.kept[key]
        finally:
            self.lock.release()


def make_cache(compute):
    return Cache(compute).get
