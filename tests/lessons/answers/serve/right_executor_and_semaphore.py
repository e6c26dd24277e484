from concurrent.futures import ThreadPoolExecutor
from queue import Full
from threading import BoundedSemaphore


def serve(work, max_waiting):
    worker, room = ThreadPoolExecutor(1), BoundedSemaphore(max_waiting + 1)

    def submit(item):
        if not room.acquire(blocking=False):
            raise Full
        future = worker.submit(work, item)
        future.add_done_callback(lambda _: room.release())
        return future

    return submit, worker.shutdown
