"""Runs code under every thread schedule within a bound, and measures how often it fails unforced.

    explorer     explore() and replay()
    search       the schedules that are run                  session      what stays the same from one to the next
    references   the sequential orders                       orders       which there are, and which bodies are equal
    judge        right or wrong                              watching     which code is watched
    bytecode     which lines have to be split                tracing      stops a thread before a line
    scheduler    starts and ends threads                     turns        who has the turn, and who gets it
    threads      controlled threads                          blocking     reports every wait
    watchdog     makes every call end                        schedule     a schedule as a string
    results      the data                                    report       tables, source map, drawing
    page         one schedule as a page                      values       short texts of what threads share
    headroom     room on the stack                           executors    their idle threads
    rates        unforced trials                             process_locks  the locks of multiprocessing

Standard library only, and independent of YOLO.
"""

from yolothreads.races.blocking import holder, is_exploring
from yolothreads.races.explorer import explore, replay, replayed
from yolothreads.races.judge import same
from yolothreads.races.rates import Rate, rate
from yolothreads.races.report import Drawing, Exploration, SideBySide, SourceMap, side_by_side
from yolothreads.races.results import DEADLOCK, EXCEPTION, KINDS, RIGHT, WRONG, Outcome, Step, Trial, Where
from yolothreads.races.schedule import label

__all__ = [
    "DEADLOCK", "EXCEPTION", "KINDS", "RIGHT", "WRONG", "Drawing", "Exploration", "Outcome", "Rate", "SideBySide",
    "SourceMap", "Step", "Trial", "Where", "explore", "holder", "is_exploring", "label", "rate", "replay", "replayed",
    "same", "side_by_side",
]  # fmt: skip
