from functools import lru_cache


def make_cache(compute):
    return lru_cache(maxsize=None)(compute)
