"""What `map` costs beside the work: the copy of each frame, and the thread that reads the source.

    python -m benchmarks.map_cost --rounds 9

The baseline takes the images in the caller's thread, with the same look-ahead and without copies. All ways run in turn
within each round, so that a ratio compares what ran at nearly the same time.
"""

import argparse
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from itertools import islice, repeat
from time import perf_counter, process_time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from yolothreads import Replicas, Spread, Table, clip, stamp
from yolothreads.pools import Pool
from yolothreads.pools.feed import Feed, in_order

_SHAPE = (1080, 1920)


def in_callers_thread(pool: Pool, images: Iterable[Any]) -> Iterator[Any]:
    """Return the results in order; the caller's thread takes the images."""
    under_way: deque[Future[Any]] = deque()
    for image in images:
        under_way.append(pool.submit(image))
        if len(under_way) == 2 * pool.at_once:
            yield under_way.popleft().result()
    while under_way:
        yield under_way.popleft().result()


WAYS: dict[str, Callable[[Pool, Iterable[Any]], Iterator[Any]]] = {
    "caller's thread, no copies": in_callers_thread,
    "map, copy=False": lambda pool, images: pool.map(images, copy=False),
    "map": lambda pool, images: pool.map(images),
}


def ms_each(work: Callable[[], Iterable[Any]], clock: Callable[[], float] = perf_counter) -> float:
    """Return the milliseconds per item."""
    start = clock()
    count = sum(1 for _ in work())
    return 1000 * (clock() - start) / count


def copies(frame: NDArray[np.uint8], count: int) -> Iterator[NDArray[np.uint8]]:
    """Return copies of a frame, of which four live at the same time, as in the look-ahead of two workers."""
    alive: deque[NDArray[np.uint8]] = deque(maxlen=4)
    for _ in range(count):
        alive.append(frame.copy())
        yield alive[-1]


def handed_over(count: int) -> Iterator[int]:
    """Return numbers through the thread of a `map` over a pool that answers at once."""

    def answer(number: int) -> Future[int]:
        future: Future[int] = Future()
        future.set_result(number)
        return future

    return in_order(Feed(None, lambda: None, answer, ahead=4, copy=False), range(count), None, False)


def main() -> None:
    """Measure, and print two tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--images", type=int, default=32)
    given = parser.parse_args()
    frame = next(iter(clip(1, 1, _SHAPE))).image
    alone: dict[str, list[float]] = {f"copy of a frame, {frame.nbytes / 1e6:.1f} MB": [], "hand-over of an image": []}
    took: dict[str, list[float]] = {way: [] for way in WAYS}
    with Replicas(workers=2, device="cpu", imgsz=320, threads=1) as pool:
        for way in WAYS.values():
            list(way(pool, [frame] * 4))
        for _ in range(given.rounds):
            for values, work in zip(
                alone.values(), (lambda: copies(frame, 50), lambda: handed_over(2000)), strict=True
            ):
                values.append(ms_each(work, process_time))
            for name, way in WAYS.items():
                took[name].append(ms_each(lambda way=way: way(pool, islice(repeat(frame), given.images))))
    base = took["caller's thread, no copies"]
    rows = [
        (name, f"{Spread.of(values):.3g}", f"{Spread.of([b / v for b, v in zip(base, values, strict=True)]):.3g}")
        for name, values in took.items()
    ]
    print(Table(["", "ms of processor time"], [(name, f"{Spread.of(values):.3g}") for name, values in alone.items()]))
    print(Table(["Replicas, 2 workers", "ms per image", "speed, of the baseline"], rows))
    print(stamp("cpu"))


if __name__ == "__main__":
    main()
