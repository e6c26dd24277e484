def run_in_threads(work, items):
    return [work(i) for i in items][:]
