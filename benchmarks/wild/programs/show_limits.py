"""limits 5.8.0: of the first two hits of a client, one is not counted."""

import threading

from limits.storage import MemoryStorage

counted, second_is_done = threading.Event(), threading.Event()


class SlowToExpire(dict):
    """Times of expiry that are stored late the first time: after the second hit, as on a busy machine."""

    def __setitem__(self, key, value):
        """Store, the first time after the second hit."""
        if not counted.is_set():
            counted.set()
            second_is_done.wait(2)
        super().__setitem__(key, value)


storage = MemoryStorage()
storage.expirations = SlowToExpire()
first = threading.Thread(target=storage.incr, args=("client", 60))
first.start()
counted.wait()
storage.incr("client", 60)
second_is_done.set()
first.join()
print(f"{storage.get('client')} of 2 hits were counted")
