"""Lessons show it to people: settings, verdicts, figures, exercises, panels. What they teach lives below them."""

from yolothreads.lessons import exercises, figures
from yolothreads.lessons.claims import judge
from yolothreads.lessons.lesson import Lesson
from yolothreads.lessons.panel import Panel

__all__ = ["Lesson", "Panel", "exercises", "figures", "judge"]
