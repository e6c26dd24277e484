from threading import Lock

ABSENT = object()


def make_cache(compute):
    kept, lock = {}, Lock()

    def get(key):
        value = kept.get(key, ABSENT)
        if value is ABSENT:
            with lock:
                value = kept.get(key, ABSENT)
                if value is ABSENT:
                    value = kept[key] = compute(key)
        return value

    return get
