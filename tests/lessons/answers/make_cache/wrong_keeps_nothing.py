from threading import Lock


def make_cache(compute):
    lock = Lock()

    def get(key):
        with lock:
            return compute(key)

    return get
