"""Races: small functions under every schedule within a bound, and how often something goes wrong by itself.

    explorer     explore() and replay()
    search       every schedule with at most so many preemptions      random_runs   random priorities instead
    trial        one schedule: fresh state, one run, the kind of its outcome
    scheduler    runs the bodies in real threads, one at a time       watchdog      ends what hangs
    blocking     knows at once that a thread blocks                   switch        stops a thread before a line
    schedule     a schedule as a string                               task          a controlled thread
    outcomes     what was found: table, source map, picture           trials        the same without forcing

Standard library only; it knows nothing of YOLO.
"""

from yolothreads.races.blocking import holder, is_exploring
from yolothreads.races.equality import same
from yolothreads.races.explorer import explore, replay
from yolothreads.races.lines import Where
from yolothreads.races.outcomes import KINDS, Exploration, Outcome, Step, Trial, side_by_side
from yolothreads.races.schedule import label
from yolothreads.races.trials import DEADLOCK, EXCEPTION, RIGHT, WRONG, Rate, rate
from yolothreads.races.views import Drawing, SideBySide, SourceMap

__all__ = [
    "DEADLOCK",
    "EXCEPTION",
    "KINDS",
    "RIGHT",
    "WRONG",
    "Drawing",
    "Exploration",
    "Outcome",
    "Rate",
    "SideBySide",
    "SourceMap",
    "Step",
    "Trial",
    "Where",
    "explore",
    "holder",
    "is_exploring",
    "label",
    "rate",
    "replay",
    "same",
    "side_by_side",
]
