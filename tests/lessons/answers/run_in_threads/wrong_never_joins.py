from threading import Thread


def run_in_threads(work, items):
    for item in items:
        t = Thread(target=lambda: work(item), daemon=True)
        t.start()
