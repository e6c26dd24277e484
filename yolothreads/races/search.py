"""Every schedule with at most so many preemptions, each kind of equal ones once."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial

from yolothreads.races.lines import Where
from yolothreads.races.outcomes import Exploration, Trial
from yolothreads.races.schedule import LOCKED, Schedule, Stop, label, plain
from yolothreads.races.task import Run
from yolothreads.races.trial import Trials


@dataclass(slots=True)
class Item:
    """A schedule to run, the run that it branches off from, and schedules that cannot differ from it."""

    schedule: Schedule
    path: tuple[int, ...]  # where it branches off, in the log of each run before it: the order of the program
    where: Where | None = None
    parent: Trial | None = None
    siblings: dict[tuple[int, str], Item] | None = None  # all that branch off the same run, by place in it and target
    equal: tuple[tuple[Schedule, Where | None], ...] = ()
    known: bool = False  # it cannot differ from its parent

    @property
    def count(self) -> int:
        """How many schedules it stands for."""
        return 1 + len(self.equal)


class Search:
    """The levels of a search: all schedules with 0 preemptions, then with 1, and so on."""

    def __init__(
        self,
        trials: Trials,
        preemptions: int,
        seed: int,
        reduce: bool,
        until: float,
        progress: Callable[[int, int], None] | None,
        on_trial: Callable[[Trial], None] | None,
    ):
        self.trials, self.preemptions, self.reduce, self.until = trials, preemptions, reduce, until
        self.chance = random.Random(seed)
        self.progress, self.on_trial = progress, on_trial
        self.done: list[tuple[tuple[int, ...], Trial]] = []
        self.run = 0
        self.known = 0  # schedules that were found to exist
        self.diverged: list[str] = []
        self.ended_by = ""

    def found(self) -> Callable[..., Exploration]:
        """Search; gives what makes the report."""
        level = [Item(Schedule(label(i)), (i,)) for i in range(len(self.trials.bodies))]
        self.known = len(level)
        try:
            for preemptions in range(self.preemptions + 1):
                level = self._level(level, preemptions)
                if self.ended_by:
                    break
        except KeyboardInterrupt:
            self.ended_by = "interrupted"
        exhausted = not self.ended_by and not self.diverged
        bound = f"At most {self.preemptions} preemption{'s' * (self.preemptions != 1)}, "
        if exhausted:
            bound += "every schedule:"
        else:
            reason = self.ended_by or "some schedules could not be followed"
            bound += f"NOT every schedule ({reason}): {len(self.done)} of at least {self.known}:"
        notes = [f"Could not be followed from run to run: {text}" for text in self.diverged[:3]]
        done = sorted(self.done, key=lambda pair: (len(pair[0]), pair[0]))
        return partial(
            Exploration, tuple(trial for _, trial in done), self.run, self.known, bound,
            exhausted, **self.trials.facts(notes),
        )  # fmt: skip

    def _level(self, level: list[Item], preemptions: int) -> list[Item]:
        """Run all schedules of one level; gives those of the next."""
        following: list[Item] = []
        self.chance.shuffle(level)
        while level:
            if time.perf_counter() > self.until:
                self.ended_by = "the budget ended first"
                return []
            item = level.pop()
            if item.known:
                assert item.parent is not None
                self._keep(item, item.parent)
                continue
            last = preemptions == self.preemptions
            learned = self.trials.learned.get(item.schedule.first) if not item.schedule.stops else None
            run, results = learned or self.trials.run(item.schedule, branching=True, brisk=last)
            if run.diverged or run.unfollowed:
                self.diverged.append(run.diverged or item.schedule.text(""))
                continue
            self.run += 1
            trial = self.trials.trial(item.schedule, run, results)
            self._keep(item, trial)
            if self.reduce and self._came_to_nothing(item, run):
                continue
            more = list(self._branches(item, trial, run, preemptions))
            self.known += sum(branch.count for branch in more)
            level += [branch for branch in more if branch.schedule.preemptions == preemptions]
            following += [branch for branch in more if branch.schedule.preemptions > preemptions]
        return following

    def _keep(self, item: Item, trial: Trial) -> None:
        """The outcome of one run is that of all the schedules that its item stands for."""
        for schedule, where in ((item.schedule, item.where), *item.equal):
            text = schedule.text(self.trials.version)
            if text != trial.schedule:
                switches = trial.switches if where is None else (*trial.switches[: schedule.preemptions - 1], where)
                trial = replace(trial, schedule=text, where=where or trial.where, switches=switches)
            self.done.append((item.path, trial))
            if self.on_trial is not None:
                self.on_trial(trial)
        if self.progress is not None:
            self.progress(len(self.done), self.known)

    def _branches(self, item: Item, trial: Trial, run: Run, preemptions: int) -> Iterator[Item]:
        """The schedules that follow this one to some point, and differ there."""
        siblings: dict[tuple[int, str], Item] = {}
        equal: list[tuple[Stop, Where | None]] = []
        for i, stop, where, others in self._stops(run, preemptions < self.preemptions):
            if self.reduce and self._touches_nothing(run, i):  # to stop before this line is to stop before the next
                equal.append((stop, where))
                continue
            for n, other in enumerate(others):
                same = [(item.schedule.then(replace(s, next=other)), w) for s, w in equal]
                schedule = item.schedule.then(replace(stop, next=other))
                branch = Item(schedule, (*item.path, i, n), where, trial, siblings, tuple(same))
                siblings[i, other] = branch
                yield branch
            equal.clear()

    def _stops(self, run: Run, preempt: bool) -> Iterator[tuple[int, Stop, Where | None, tuple[str, ...]]]:
        """Where a run could be made to differ: index in its log, the place, its source, and who could go on there."""
        visits: Counter[tuple[str, str, int]] = Counter()
        for i, (task, code, at, others) in enumerate(run.log):
            if isinstance(code, str):
                stop = Stop(task.label, code, 0, None, at, "")
            else:
                visits[task.label, code.co_name, at] += 1
                line, offset = self.trials.line(code, at)
                stop = Stop(task.label, plain(code.co_name), line, offset, visits[task.label, code.co_name, at], "")
            if i >= run.followed and others and (preempt or not stop.is_preemption):
                where = None if isinstance(code, str) else self.trials.where(code, at)
                yield i, stop, where, others

    def _touches_nothing(self, run: Run, i: int) -> bool:
        """Whether a line uses only the thread's own names, and another line of the same code follows at once."""
        if i + 1 >= len(run.log):
            return False
        (task, code, at, _), (next_task, next_code, _, _) = run.log[i : i + 2]
        if isinstance(code, str) or task is not next_task or code is not next_code or self.trials.instructions:
            return False
        known = self.trials.watch.get(code)
        return known is not None and at in known.local_lines

    def _came_to_nothing(self, item: Item, run: Run) -> bool:
        """Whether the thread that was switched to blocked on a lock before it had done anything.

        Then this run did what the one did that it branches off from; and so do those that switch to the same thread
        later on, as long as the lock is held.
        """
        if not item.schedule.stops or item.siblings is None or not item.schedule.stops[-1].is_preemption:
            return False
        stop, log = item.schedule.stops[-1], run.log
        before = [
            entry for entry in log[: run.followed] if entry[0].label == stop.next and not isinstance(entry[1], str)
        ]
        after = run.followed
        if not before and after < len(log) and log[after][1] is getattr(log[after][0].body, "code", None):
            before = [log[after]]  # its very first line
            after += 1
        if after >= len(log) or log[after][0].label != stop.next or log[after][1] != LOCKED:
            return False
        if before:
            known = self.trials.watch.get(before[-1][1])  # type: ignore[arg-type]
            if known is None or self.trials.instructions or before[-1][2] not in known.lock_lines:
                return False
        for j, (task, code, _, others) in enumerate(log[after + 1 :], start=item.path[-2] + 1):
            if task.label != stop.thread or isinstance(code, str) or stop.next in others:
                break
            if (sibling := item.siblings.get((j, stop.next))) is not None:
                sibling.known = True
        return True
