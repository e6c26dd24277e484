from concurrent.futures import ThreadPoolExecutor


def run_in_threads(work, items):
    with ThreadPoolExecutor(len(items)) as pool:
        return list(pool.map(work, items))
