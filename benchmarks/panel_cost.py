"""Benchmark of a panel that redraws while a pool works: milliseconds per redraw, and the loss of throughput.

It runs in a Jupyter kernel, as in JupyterLab, so that messages through Jupyter's sockets count, too.

    python -m benchmarks.panel_cost --rounds 9 --workers 2 --json panel.json
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import threading
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from yolothreads.errors import ArgumentError, YoloThreadsError, at_least_one
from yolothreads.measure import Spread, stamp, turns
from yolothreads.tables import Table

MOST_MS, LEAST = 3.0, 0.98
"""Goals of the kit: a redraw takes less than 3 ms, and throughput falls by less than 2 %."""

_POOL, _IMGSZ = "ModelPerThread", 320
_IMAGES = 100_000  # more than it can do in time
_ROOT = str(Path(__file__).parent.parent)  # where the kernel finds this package
_WARM_UP_S = 3.0
_START_UP_S = 120.0  # beyond the time of the windows


@dataclass(frozen=True)
class PanelCost:
    """Milliseconds of each redraw, and per round the mean images/s of windows with redraws and without."""

    redraws_ms: Sequence[float]
    with_redraws: Sequence[float]
    without: Sequence[float]
    setting: str
    stamp: str

    @property
    def ratio(self) -> Spread:
        """Return images/s with redraws divided by images/s without: one ratio per round, their median and range."""
        return Spread.of([a / b for a, b in zip(self.with_redraws, self.without, strict=True)])

    def table(self) -> Table:
        """Return the measured numbers beside the goals."""
        ordered = sorted(self.redraws_ms)
        rows = [
            ("a redraw takes, ms (median)", f"{statistics.median(ordered):.2f}", f"below {MOST_MS:g}"),
            ("95 of 100 redraws take at most, ms", f"{ordered[math.ceil(0.95 * len(ordered)) - 1]:.2f}", ""),
            ("the longest, ms", f"{ordered[-1]:.2f}", ""),
            ("images/s with redraws", f"{Spread.of(self.with_redraws):.1f}", ""),
            ("images/s without", f"{Spread.of(self.without):.1f}", ""),
            ("with / without", f"{self.ratio:.3f}", f"over {LEAST:g}"),
        ]
        caption = f"{self.setting}; {len(ordered)} redraws, {len(self.without)} rounds. {self.stamp}."
        return Table(["what", "measured", "promised"], rows, caption)

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain numbers and strings, for a JSON file."""
        return asdict(self)

    def __str__(self) -> str:
        return str(self.table())


def panel_cost(rounds: int = 5, pairs: int = 60, window_s: float = 0.3, workers: int = 2) -> PanelCost:
    """Run one pool, and alternate between short windows with redraws of its panel and without.

    Args:
        rounds: 1 or more.
        pairs: pairs of windows per round, 1 or more. Many short ones are better, because the speed of a machine drifts
            by more than the effect.
        window_s: seconds of each window.
        workers: threads of the pool, 1 or more.

    Raises:
        ArgumentError: a number that makes no sense. YoloThreadsError: the kernel did not answer.
    """
    from jupyter_client.manager import start_new_kernel

    for name, number in (("rounds", rounds), ("pairs", pairs), ("workers", workers)):
        at_least_one(name, number)
    if not 0 < window_s < math.inf:
        raise ArgumentError(f"window_s={window_s:g} makes no sense; give seconds, more than 0.")
    code = f"from benchmarks import panel_cost; panel_cost.in_kernel({rounds}, {pairs}, {window_s}, {workers})"
    said: list[str] = []

    def hear(message: dict[str, Any]) -> None:
        if message["msg_type"] == "stream":
            said.append(message["content"]["text"])

    manager, client = start_new_kernel(kernel_name="python3", extra_arguments=["--log-level=ERROR"], cwd=_ROOT)
    try:
        limit_s = 2 * pairs * rounds * window_s + _START_UP_S
        reply = client.execute_interactive(code, allow_stdin=True, output_hook=hear, timeout=limit_s)
    except TimeoutError as error:
        raise YoloThreadsError(f"The kernel that measures the panel took longer than {limit_s:.0f} s.") from error
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
    if reply["content"]["status"] != "ok":
        raise YoloThreadsError(f"The panel could not be measured: {reply['content'].get('evalue', '')}")
    answer = json.loads("".join(said).splitlines()[-1])
    setting = f"{_POOL}, workers {workers}, imgsz {_IMGSZ}, {pairs} pairs of windows of {window_s:g} s a round"
    return PanelCost(**answer, setting=setting, stamp=stamp("cpu"))


def in_kernel(rounds: int, pairs: int, window_s: float, workers: int) -> None:
    """Measure inside the kernel, and print lists of numbers as JSON."""
    from yolothreads.lessons import Lesson, Panel

    pause = threading.Event()
    means: tuple[list[float], list[float]] = ([], [])
    with Panel(Lesson("cpu", workers=workers), _POOL, workers=workers, imgsz=_IMGSZ, images=_IMAGES) as panel:
        panel.show()
        panel.run()
        while panel.current.done == 0 and panel.is_running:
            pause.wait(0.1)
        usual_s = panel.redraws_every_s
        pause.wait(_WARM_UP_S)
        panel.redraws_ms.clear()
        for _ in range(rounds):
            speeds: tuple[list[float], list[float]] = ([], [])
            for still in turns(2, pairs):  # forwards and backwards, so that a drift hits both alike
                panel.redraws_every_s = math.inf if still else usual_s
                speeds[still].append(_speed(panel, window_s, pause))
            for mean, speed in zip(means, speeds, strict=True):
                mean.append(statistics.mean(speed))
        panel.stop()
    numbers = {"redraws_ms": list(panel.redraws_ms), "with_redraws": means[0], "without": means[1]}
    print(json.dumps(numbers), flush=True)


def _speed(panel: Any, seconds: float, pause: threading.Event) -> float:
    """Return the images per second between the first and the last image done in this time."""
    moments = panel.current.moments
    before = len(moments)
    pause.wait(seconds)
    here = moments[before:]
    if not panel.is_running:
        panel.result()  # raises what ended it
    if len(here) < 2:
        raise YoloThreadsError(f"Fewer than two images were done in {seconds:g} s; make the windows longer.")
    return float((len(here) - 1) / (here[-1] - here[0]))


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser("python -m benchmarks.panel_cost", description="Benchmark a panel.")
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="rounds (5)")
    parser.add_argument("--window", type=float, default=0.3, metavar="S", help="seconds of a window (0.3)")
    parser.add_argument("--workers", type=int, default=2, metavar="N", help="threads of the pool (2)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write everything to FILE")
    args = parser.parse_args(argv)
    done = panel_cost(args.rounds, window_s=args.window, workers=args.workers)
    print(done)
    if args.json:
        args.json.write_text(json.dumps(done.to_dict(), indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
