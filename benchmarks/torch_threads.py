"""How much of two cores torch's own threads use, and what a pool of one worker loses besides.

    python -m benchmarks.torch_threads --rounds 9

The bound is one network per core, each with one torch thread, and nothing before or after it. The others run one
network with all cores, one image at a time or in batches, bare and in a pool. All take turns within each round.
"""

import argparse
from collections.abc import Iterator
from itertools import islice
from typing import Any

from yolothreads.bench.contenders import BareForward, Setting
from yolothreads.measure import Contender, compare
from yolothreads.pools import BatchingWorker, Image, ModelPerThread, Pool, Sequential
from yolothreads.tables import Table


class BareInTurn(BareForward):
    """One network with all cores, one image at a time."""

    def __init__(self, like: ModelPerThread) -> None:
        super().__init__(like)
        self.workers, self.name = 1, "bare forward, all cores for each image"


class BareBatches(BareInTurn):
    """One network with all cores, several images at a time."""

    def __init__(self, like: ModelPerThread, batch: int) -> None:
        super().__init__(like)
        self._batch, self.name = batch, f"bare forward, all cores for each batch of {batch}"

    def _work(self, own: Any, left: Iterator[Image]) -> None:
        own.tensor = own.tensor[:1].expand(self._batch, -1, -1, -1).contiguous()
        while batch := list(islice(left, self._batch)):
            own.tensor = own.tensor[: len(batch)]
            super()._work(own, iter(batch[:1]))


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser("python -m benchmarks.torch_threads", description=__doc__)
    parser.add_argument("--rounds", type=int, default=9, help="interleaved rounds (9)")
    parser.add_argument("--images", type=int, default=24, help="images per round, a multiple of the batch (24)")
    args = parser.parse_args()
    setting = Setting()
    like = ModelPerThread(**setting.made())
    one = {name: value for name, value in setting.made().items() if name != "workers"}
    pools: list[Pool | Contender] = [
        BareForward(like), BareInTurn(like), Sequential(**one), BareBatches(like, setting.batch),
        BatchingWorker(**one, max_batch=setting.batch),
    ]  # fmt: skip
    found = compare(pools, setting.images(args.images), args.rounds, latency=False)
    bound = found[0].pool
    rows = [(m.pool, str(m.images_per_s), f"{found.ratio(m.pool, bound):.2f}") for m in found]
    caption = f"{setting}; medians of {args.rounds} interleaved rounds. {found.stamp}"
    print(Table(["contender", "images/s (range)", f"of {bound} (range)"], rows, caption))


if __name__ == "__main__":
    main()
