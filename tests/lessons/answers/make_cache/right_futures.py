from concurrent.futures import Future
from threading import Lock


def make_cache(compute):
    futures, lock = {}, Lock()

    def get(key):
        with lock:
            mine = key not in futures
            future = futures.setdefault(key, Future())
        if mine:
            try:
                future.set_result(compute(key))
            except Exception as error:
                with lock:
                    del futures[key]
                future.set_exception(error)
        return future.result()

    return get
