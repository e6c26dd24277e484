"""Notebook helpers: settings, verdicts, figures, texts, exercises and panels. What they teach lives below them."""

from yolothreads.lessons import exercises, figures
from yolothreads.lessons.claims import judge
from yolothreads.lessons.lesson import Lesson
from yolothreads.lessons.panels.batching import BatchingPanel
from yolothreads.lessons.panels.cameras import CamerasPanel
from yolothreads.lessons.panels.compare import ComparePanel
from yolothreads.lessons.panels.explorer import ExplorerPanel
from yolothreads.lessons.panels.pools import Panel
from yolothreads.lessons.texts import say, table, text

__all__ = [
    "BatchingPanel",
    "CamerasPanel",
    "ComparePanel",
    "ExplorerPanel",
    "Lesson",
    "Panel",
    "exercises",
    "figures",
    "judge",
    "say",
    "table",
    "text",
]
