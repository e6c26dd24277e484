"""Two threads sell the last item. The first test fails, and that is what it is for: it finds the bug."""

import pytest
from shop import repaired, stock


def test_the_last_item_is_sold_once(every_schedule):
    every_schedule(
        stock.Stock.sell, stock.Stock.sell, setup=stock.Stock, observe=lambda stock: (stock.items, stock.sold)
    )


@pytest.mark.every_schedule(preemptions=2, budget_s=30)
def test_after_the_repair(every_schedule):
    every_schedule(
        repaired.Stock.sell, repaired.Stock.sell, setup=repaired.Stock, observe=lambda stock: (stock.items, stock.sold)
    )
