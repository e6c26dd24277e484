from threading import Lock


def make_cache(compute):
    kept, lock = {}, Lock()

    def get(key):
        lock.acquire()
        if key not in kept:
            kept[key] = compute(key)
        lock.release()
        return kept[key]

    return get
