from collections import defaultdict
from threading import Lock


def make_cache(compute):
    kept, locks, guard = {}, defaultdict(Lock), Lock()

    def get(key):
        with guard:
            lock = locks[key]
        with lock:
            if key not in kept:
                kept[key] = compute(key)
            return kept[key]

    return get
