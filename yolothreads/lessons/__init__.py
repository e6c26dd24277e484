"""Notebook helpers: settings, verdicts, figures, texts, exercises and panels.

Everything that a notebook needs of the kit can be imported from here, from `yolothreads` or from `yolothreads.races`.
"""
# ruff: noqa: E402

from yolothreads.errors import need_extra

need_extra("yolothreads.lessons", "lessons")  # in a sentence, before an import below fails

from yolothreads.lessons import exercises, figures, jobs
from yolothreads.lessons.advice import Advice, Needs, recommend
from yolothreads.lessons.claims import CLAIMS, VERDICT_MIME, Verdict, judge
from yolothreads.lessons.jobs import local_cluster, memory_of_children
from yolothreads.lessons.lesson import Lesson
from yolothreads.lessons.panels.batching import BatchingPanel
from yolothreads.lessons.panels.cameras import CamerasPanel
from yolothreads.lessons.panels.explorer import ExplorerPanel
from yolothreads.lessons.panels.pools import ComparePanel, Panel
from yolothreads.lessons.texts import say, table, text

__all__ = [
    "CLAIMS", "VERDICT_MIME", "Advice", "BatchingPanel", "CamerasPanel", "ComparePanel", "ExplorerPanel", "Lesson",
    "Needs", "Panel", "Verdict", "exercises", "figures", "jobs", "judge", "local_cluster", "memory_of_children",
    "recommend", "say", "table", "text",
]  # fmt: skip
