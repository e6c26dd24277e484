from concurrent.futures import Future
from queue import Queue
from threading import Thread


def serve(work, max_waiting):
    calls = Queue(max_waiting)

    def run():
        for item, future in iter(calls.get, None):
            try:
                future.set_result(work(item))
            except Exception as error:
                future.set_exception(error)

    def submit(item):
        calls.put_nowait((item, future := Future()))
        return future

    def close():
        calls.queue.clear()
        calls.put(None)
        worker.join()

    worker = Thread(target=run)
    worker.start()
    return submit, close
