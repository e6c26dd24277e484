"""Benchmarks of the pools beside upper bounds and common alternatives, and of how each grows.

contenders   the setting, the alternatives and the upper bounds     goals   the goals of the kit
runs         `bench`, `growth` and their results                    plots   the figures
"""

from yolothreads.bench.contenders import Setting
from yolothreads.bench.runs import Bench, Growth, bench, growth

__all__ = ["Bench", "Growth", "Setting", "bench", "growth"]
