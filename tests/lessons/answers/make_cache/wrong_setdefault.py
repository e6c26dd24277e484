def make_cache(compute):
    kept = {}

    def get(key):
        if key not in kept:
            kept.setdefault(key, compute(key))
        return kept[key]

    return get
