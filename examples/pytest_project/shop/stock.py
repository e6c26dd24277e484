"""The stock of a shop: several threads sell from it at once."""


class SoldOutError(Exception):
    """Nothing is left to sell."""


class Stock:
    """A number of equal items."""

    def __init__(self, items: int = 1):
        self.items, self.sold = items, 0

    def sell(self) -> None:
        """Sell one item."""
        if self.items == 0:
            raise SoldOutError
        self.items -= 1
        self.sold += 1
