"""The same stock after the repair: the check and the change belong together, so one lock holds both."""

from threading import Lock

from shop.stock import SoldOutError


class Stock:
    """A number of equal items."""

    def __init__(self, items: int = 1):
        self.items, self.sold = items, 0
        self._lock = Lock()

    def sell(self) -> None:
        """Sell one item."""
        with self._lock:
            if self.items == 0:
                raise SoldOutError
            self.items -= 1
            self.sold += 1
