"""Lessons show it to people: settings, claims and verdicts, figures, exercises. What they teach lives below them."""

from yolothreads.lessons import exercises, figures
from yolothreads.lessons.claims import judge
from yolothreads.lessons.lesson import Lesson

__all__ = ["Lesson", "exercises", "figures", "judge"]
