from threading import Lock


def make_cache(compute):
    kept, lock = {}, Lock()

    def get(key):
        if key not in kept:
            with lock:
                kept[key] = compute(key)
        return kept[key]

    return get
