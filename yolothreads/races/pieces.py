"""What a run touches, piece by piece: a piece is what one thread does between two entries of the log."""

from __future__ import annotations

from typing import Any

WHOLE = None
"""Instead of a key: the whole object."""
ORDER = object()
"""Instead of a key: which keys a dictionary has, and in which order."""


class Touched:
    """What a piece of a run reads and writes."""

    __slots__ = ("everything", "reads", "writes")

    def __init__(self) -> None:
        self.reads: dict[int, set[Any]] = {}  # by the id of the object, the keys
        self.writes: dict[int, set[Any]] = {}
        self.everything = ""  # the reason why it counts as touching everything

    def add(self, other: Touched) -> None:
        """Add what another piece touches."""
        self.everything = self.everything or other.everything
        for mine, others in ((self.reads, other.reads), (self.writes, other.writes)):
            for thing, keys in others.items():
                mine.setdefault(thing, set()).update(keys)

    def conflicts(self, other: Touched) -> bool:
        """Return whether the two pieces may not be exchanged."""
        if self.everything or other.everything:
            return True
        return (
            _meet(self.writes, other.writes) or _meet(self.writes, other.reads) or _meet(self.reads, other.writes)
        )  # fmt: skip


def _meet(a: dict[int, set[Any]], b: dict[int, set[Any]]) -> bool:
    return any(WHOLE in a[i] or WHOLE in b[i] or not a[i].isdisjoint(b[i]) for i in a.keys() & b.keys())


class Piece:
    """What a thread touches between two entries of the log, or until another thread goes on."""

    __slots__ = ("began", "entry", "name", "of_new", "touched")

    def __init__(self, name: str, began: int, entry: int):
        self.name = name  # of the thread
        self.began = began  # the length of the log then
        self.entry = entry  # the index of the thread's last entry in the log
        self.touched = Touched()
        self.of_new = Touched()  # the same, of the objects that were made since the thread last got the turn
