"""What a panel costs that redraws while a pool works: milliseconds a redraw, and the share of images that it loses.

Measured in a kernel of its own, as in JupyterLab, so that what a redraw sends through Jupyter's sockets counts too.
"""

from __future__ import annotations

import json
import math
import statistics
import threading
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from yolothreads.arguments import at_least_one
from yolothreads.errors import ArgumentError, YoloThreadsError
from yolothreads.measure import Spread, stamp, turns
from yolothreads.tables import Table

MOST_MS, LEAST = 3.0, 0.98
"""What the kit promises: a redraw takes less than 3 ms, and throughput is bent by less than 2 %."""

_POOL, _IMGSZ = "ModelPerThread", 320
_IMAGES = 100_000  # more than it will do
_WARM_UP_S = 3.0
_PATIENCE_S = 120.0  # beyond the time of the windows


@dataclass(frozen=True)
class PanelCost:
    """Milliseconds of each redraw; of each round the mean images/s of its windows with redraws and of those without."""

    redraws_ms: Sequence[float]
    with_redraws: Sequence[float]
    without: Sequence[float]
    setting: str
    stamp: str

    @property
    def ratio(self) -> Spread:
        """Images/s with redraws by those without: taken in each round, then median and range."""
        return Spread.of([a / b for a, b in zip(self.with_redraws, self.without, strict=True)])

    def table(self) -> Table:
        """What was measured beside what is promised."""
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
        """Everything as plain numbers and strings, for a JSON file."""
        return asdict(self)

    def __str__(self) -> str:
        return str(self.table())


def panel_cost(rounds: int = 5, pairs: int = 60, window_s: float = 0.3, workers: int = 2) -> PanelCost:
    """Run one pool, and in turns let its panel redraw for a moment and keep still for a moment.

    Args:
        rounds: 1 or more.
        pairs: of such moments in a round, 1 or more: many short ones, for the speed of a machine drifts by more than
            what is measured.
        window_s: seconds of each moment.
        workers: threads of the pool, 1 or more.

    Raises:
        ArgumentError: a number that makes no sense. YoloThreadsError: the kernel did not answer.
    """
    from jupyter_client.manager import start_new_kernel

    for name, number in (("rounds", rounds), ("pairs", pairs), ("workers", workers)):
        at_least_one(name, number)
    if not 0 < window_s < math.inf:
        raise ArgumentError(f"window_s={window_s:g} makes no sense; give seconds, more than 0.")
    code = (
        f"from yolothreads.headless import panel_cost; panel_cost.in_kernel({rounds}, {pairs}, {window_s}, {workers})"
    )
    said: list[str] = []

    def hear(message: dict[str, Any]) -> None:
        if message["msg_type"] == "stream":
            said.append(message["content"]["text"])

    manager, client = start_new_kernel(kernel_name="python3", extra_arguments=["--log-level=ERROR"])
    try:
        limit_s = 2 * pairs * rounds * window_s + _PATIENCE_S
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
    """What the kernel does; prints lists of numbers as JSON."""
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
    """Images per second between the first and the last one that were done in this time."""
    moments = panel.current.progress.moments
    before = len(moments)
    pause.wait(seconds)
    here = moments[before:]
    if not panel.is_running:
        panel.result()  # raises what ended it
    if len(here) < 2:
        raise YoloThreadsError(f"Fewer than two images were done in {seconds:g} s; make the windows longer.")
    return float((len(here) - 1) / (here[-1] - here[0]))
