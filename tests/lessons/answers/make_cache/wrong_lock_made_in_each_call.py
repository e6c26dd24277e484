from threading import Lock


def make_cache(compute):
    kept = {}

    def get(key):
        with Lock():
            if key not in kept:
                kept[key] = compute(key)
            return kept[key]

    return get
