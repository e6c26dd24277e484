from threading import Lock


def make_cache(compute):
    kept, lock = {}, Lock()

    def get(key):
        with lock:
            if key not in kept:
                try:
                    kept[key] = compute(key)
                except LookupError:
                    return None
            return kept[key]

    return get
