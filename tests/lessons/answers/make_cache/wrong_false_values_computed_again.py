from threading import Lock


def make_cache(compute):
    kept, lock = {}, Lock()

    def get(key):
        with lock:
            if not kept.get(key):
                kept[key] = compute(key)
            return kept[key]

    return get
