"""The schedules that are run: all with at most so many preemptions, or some with random priorities."""

from __future__ import annotations

import random
import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from yolothreads.races.dependency import DEPENDENCY, Dependencies, is_one_stretch
from yolothreads.races.judge import named
from yolothreads.races.references import BudgetEndedError, NotRepeatableError
from yolothreads.races.results import EXCEPTION, RIGHT, Trial, Where
from yolothreads.races.schedule import END, LOCKED, WAIT, Random, Schedule, Stop, plain
from yolothreads.races.session import Session
from yolothreads.races.threads import TIMEOUT
from yolothreads.races.turns import Execution

_BUDGET = "the budget ended first"


class _CallbackError(Exception):
    """A function of the caller that is told about the search raised an error."""

    def __init__(self, name: str, error: Exception):
        super().__init__(name)
        self.name, self.error = name, error


class Search(ABC):
    """Base class of the strategies: keeps the trials, and the reason why the search ended early."""

    def __init__(self, session: Session):
        self.session, self.options = session, session.options
        self.trials: list[Trial] = []
        self.run_count = 0
        self.total = 0  # schedules that are known to exist
        self.ended_by = ""
        self.exhausted = False
        self.bound = ""  # the task in words, and the reason why it ended
        self.notes: list[str] = []

    def search(self) -> None:
        """Search until everything is done, the budget is spent, or the search is stopped."""
        try:
            self._search()
            if not self._found_any():
                self.session.references.check_again()
        except KeyboardInterrupt:
            self.ended_by = "interrupted"
        except BudgetEndedError:
            self.ended_by = _BUDGET
        except NotRepeatableError as error:
            if not self._found_any():
                raise
            self.ended_by = "the results are not repeatable"
            self.session.references.remarks[str(error)] = None
        except _CallbackError as failed:
            if not self._found_any():
                raise failed.error from None
            self.ended_by = f"{failed.name} raised {named(failed.error)}"
        self._leave_kept_state()
        self._report()
        self.notes += self.session.references.remarks

    def _found_any(self) -> bool:
        """Return whether a bad schedule has been found."""
        return any(trial.kind != RIGHT for trial in self.trials)

    def _leave_kept_state(self) -> None:
        """Leave a state that `restore` kept until now; if only that raises an exception, the last run is bad."""
        error = self.session.leave_kept_state()
        if error is not None and self.trials:
            detail = f"leaving the state after the last schedule raised {named(error)}"
            self.trials[-1] = replace(self.trials[-1], kind=EXCEPTION, detail=detail, results=(error,))

    @abstractmethod
    def _search(self) -> None:
        """Run schedules until nothing is left to run, or the search is out of time."""

    @abstractmethod
    def _report(self) -> None:
        """Set `bound` and the other fields about the whole search."""

    def _is_out_of_time(self) -> bool:
        if time.perf_counter() > self.session.until:
            self.ended_by = _BUDGET
        return bool(self.ended_by)

    def _trial(self, schedule: Schedule, run: Execution) -> Trial:
        """Return the trial of a run; a bad outcome has been met again by then."""
        trial = self.session.trial(schedule, run)
        if trial.kind != RIGHT:
            self.session.references.confirm(schedule, run, trial)
        return trial

    def _keep(self, trial: Trial) -> None:
        self.trials.append(trial)
        self._call_back("on_trial", self.options.on_trial, trial)

    def _report_progress(self) -> None:
        self._call_back("progress", self.options.progress, len(self.trials), self.total)

    @staticmethod
    def _call_back(name: str, function: Callable[..., object] | None, *arguments: Any) -> None:
        try:
            if function is not None:
                function(*arguments)
        except Exception as error:
            raise _CallbackError(name, error) from error


class RandomSearch(Search):
    """Runs with random priorities (PCT): any of them may meet a bug, with a known least probability."""

    def _search(self) -> None:
        self.total = self.options.runs
        self.steps = max(1, self.session.steps)
        first_seed = self.options.seed * 1_000_000
        for seed in range(first_seed, first_seed + self.options.runs):
            if self._is_out_of_time():
                return
            schedule = Schedule("", random=Random(self.options.depth, self.steps, seed))
            self._keep(self._trial(schedule, self.session.run(schedule)))
            self._report_progress()

    def _report(self) -> None:
        """State the guarantee: one run meets a bug of depth d with at least 1 / (n k^(d-1)) (PCT, theorem 3)."""
        self.run_count = len(self.trials)
        threads, depth = len(self.session.scheduler.tasks.all), self.options.depth
        p = 1 / (threads * self.steps ** (depth - 1))
        reason = f" ({self.ended_by})" if self.ended_by else ""
        self.bound = (
            f"Random priorities, {self.run_count} of {self.total} runs{reason}: one run meets a bug of depth {depth} "
            f"or less with a probability of at least 1/({threads} x {self.steps}^{depth - 1}) = {p:.2g}, all of them "
            f"with at least {1 - (1 - p) ** self.run_count:.2g}."
        )


@dataclass(slots=True)
class Candidate:
    """A schedule to run, the run that it branches off, and other schedules that cannot differ from it.

    There may be a hundred thousand of them, most of which are never run; so a schedule is put together when it is
    needed.
    """

    base: Schedule  # that of the run that it branches off
    stop: Stop | None  # where it does
    path: tuple[int, ...]  # the place where it branches off, in the log of each run before it: the order of the program
    where: Where | None = None
    parent: Trial | None = None
    siblings: dict[tuple[int, str], Candidate] | None = None  # all branches of the same run, by place and next thread
    equal: tuple[tuple[Stop, Where | None], ...] = ()  # other places to stop; the same thread goes on there
    equals_parent: bool = False  # it cannot differ from its parent
    before: Candidate | None = None  # the same thread's stop before this one, which is run only if it can differ

    @property
    def at(self) -> int:
        """The index of its stop in the log of the run that it branches off."""
        return self.path[-2]

    @property
    def recorded(self) -> tuple[str, int] | None:
        """Where its thread is stopped, if its run has to be recorded: its label, and the index in the log."""
        return None if self.before is None or self.stop is None else (self.stop.thread, self.at)

    @property
    def schedule(self) -> Schedule:
        """The schedule."""
        return self.base if self.stop is None else self.base.then(self.stop)

    @property
    def equal_schedules(self) -> Iterator[tuple[Schedule, Where | None]]:
        """The schedules that cannot differ from it, each with the source of its last stop."""
        following = "" if self.stop is None else self.stop.next
        return ((self.base.then(replace(stop, next=following)), where) for stop, where in self.equal)


class LevelSearch(Search):
    """All schedules with 0 preemptions, then all with 1, and so on; each kind of equal ones is run once."""

    def _search(self) -> None:
        self._random = random.Random(self.options.seed)
        self._dependencies = Dependencies(self.session.scheduler)
        self._skipped = 0  # schedules that were not run, because `setup` or `restore` raised
        self._bad_before: list[Trial] = []  # found before switch points were added
        codes = [getattr(body, "__code__", None) for body in self.options.bodies]
        self._first_code = dict(zip(self.session.labels, codes, strict=True))
        while not self._search_levels():  # code was met that makes further points necessary
            pass

    def _search_levels(self) -> bool:
        """Run all levels; return False if switch points were added meanwhile, so that all has to be run again."""
        self._bad_before += [trial for trial in self.trials if trial.kind != RIGHT]
        self.trials, self.run_count = [], 0
        self._paths: list[tuple[int, ...]] = []  # of the trials
        self._diverged: list[str] = []
        generation = self.session.watch.generation
        level = [Candidate(Schedule(name), None, (i,)) for i, name in enumerate(self.session.labels)]
        self.total = len(level)
        for preemptions in range(self.options.preemptions + 1):
            if not level:
                break
            level = self._run_level(level, preemptions)
            if self.ended_by:
                return True
            if self.session.watch.generation != generation:
                self.session.references.sequential.clear()
                return False
        return True

    def _report(self) -> None:
        self.exhausted = not self.ended_by and not self._diverged and not self._skipped
        limit = self.options.preemptions
        reason = self.ended_by or f"some schedules could not be {'followed' if self._diverged else 'begun'}"
        cut_short = f"NOT every schedule ({reason}): {len(self.trials)} of at least {self.total}:"
        run = "every schedule:" if self.exhausted else cut_short
        self.bound = f"At most {limit} preemption{'s' * (limit != 1)}, {run}"
        self.notes = [f"Could not be followed from run to run: {text}" for text in self._diverged[:3]]
        if self.ended_by == _BUDGET and not self._found_any():
            self.notes.append(
                'strategy="random" spreads its runs over all schedules, and so meets some of them sooner.'
            )
        order = sorted(range(len(self.trials)), key=lambda i: (len(self._paths[i]), self._paths[i]))
        self.trials = [self.trials[i] for i in order]
        if self.ended_by:  # nothing that was found is lost
            known = {trial.schedule for trial in self.trials}
            self.trials += [trial for trial in self._bad_before if trial.schedule not in known]

    def _run_level(self, level: list[Candidate], preemptions: int) -> list[Candidate]:
        """Run all schedules of one level; return those of the next."""
        next_level: list[Candidate] = []
        self._random.shuffle(level)
        generation = self.session.watch.generation
        while level:
            if self._is_out_of_time() or self.session.watch.generation != generation:
                return []
            candidate = level.pop()
            if candidate.equals_parent:
                assert candidate.parent is not None
                self._keep_all(candidate, candidate.parent)
                level += [candidate.before] if candidate.before is not None else []
                continue
            schedule = candidate.schedule
            run = None if schedule.stops else self.session.references.sequential.get(schedule.first)
            if run is None:
                is_last = preemptions == self.options.preemptions
                record = candidate.recorded if self._dependencies.can_judge() else None
                run = self.session.run(
                    schedule, keep_alternatives=True, stop_early=is_last and record is None, record=record
                )
            if run.strategy.diverged or run.strategy.unfollowed:
                self._note_diverged(run.strategy.diverged or schedule.text(""))
                level += [candidate.before] if candidate.before is not None else []
                continue
            trial = self._trial(schedule, run)
            self.run_count += 1
            self._skipped += run.setup_failed
            self._keep_all(candidate, trial)
            self._leave_out(candidate, run, trial, level)
            if self.options.reduce and self._blocked_at_once(candidate, run):
                continue
            for branch in self._linked(list(self._branches(candidate, schedule, trial, run, preemptions)), run):
                (next_level if branch.stop is not None and branch.stop.is_preemption else level).append(branch)
        return next_level

    def _linked(self, branches: list[Candidate], run: Execution) -> list[Candidate]:
        """Count the branches of a run; return the last one of each stretch, with the others linked to it."""
        self.total += sum(1 + len(branch.equal) for branch in branches)
        if self.options.reduce != DEPENDENCY:
            return branches
        last: dict[str, Candidate] = {}
        linked: set[int] = set()
        for branch in branches:
            following = "" if branch.stop is None else branch.stop.next
            before, last[following] = last.get(following), branch
            if before is not None and not following.endswith(TIMEOUT) and is_one_stretch(run.log, before.at, branch.at):
                branch.before = before
                linked.add(id(before))
        return [branch for branch in branches if id(branch) not in linked]

    def _leave_out(self, candidate: Candidate, run: Execution, trial: Trial, level: list[Candidate]) -> None:
        """Keep a trial for the stops before this one that cannot differ; put the next one on the level."""
        before, stop = candidate.before, candidate.stop
        if (
            before is not None
            and stop is not None
            and (can_differ := self._dependencies.of(run, stop.thread, candidate.at))
        ):
            while before is not None and not can_differ(before.at):
                self._keep_all(before, trial)
                before = before.before
        if before is not None:
            level.append(before)

    def _note_diverged(self, text: str) -> None:
        if not self._diverged:
            self.session.references.look_for_changed_state()
        self._diverged.append(text)

    def _keep_all(self, candidate: Candidate, trial: Trial) -> None:
        """Keep the outcome of one run as that of all the schedules that its candidate stands for."""
        for schedule, where in ((candidate.schedule, candidate.where), *candidate.equal_schedules):
            text = schedule.text(self.session.version)
            if text != trial.schedule:
                switches = trial.switches if where is None else (*trial.switches[: schedule.preemptions - 1], where)
                trial = replace(trial, schedule=text, where=where or trial.where, switches=switches)
            self._paths.append(candidate.path)
            self._keep(trial)
        self._report_progress()

    def _branches(
        self, candidate: Candidate, schedule: Schedule, trial: Trial, run: Execution, preemptions: int
    ) -> Iterator[Candidate]:
        """Yield the schedules that follow this one up to some point, and differ there."""
        siblings: dict[tuple[int, str], Candidate] = {}
        equal: list[tuple[Stop, Where | None]] = []
        for i, stop, where, others in self._stops(run, preemptions < self.options.preemptions):
            if self.options.reduce and self._is_local_line(run, i):  # to stop before it is to stop before the next
                equal.append((stop, where))
                continue
            same = tuple(equal)
            for n, other in enumerate(others):
                last = Stop(stop.thread, stop.function, stop.line, stop.offset, stop.visit, other)
                branch = Candidate(schedule, last, (*candidate.path, i, n), where, trial, siblings, same)
                siblings[i, other] = branch
                yield branch
            equal.clear()

    def _stops(self, run: Execution, preempt: bool) -> Iterator[tuple[int, Stop, Where | None, tuple[str, ...]]]:
        """Yield where a run could be made to differ: index in its log, stop, source, and the other threads there."""
        watch, visits = self.session.watch, Counter[tuple[str, str, int]]()
        for i, (task, code, at, others) in enumerate(run.log):
            if not isinstance(code, str):
                visits[task.label, code.co_name, at] += 1
            if not preempt:
                others = tuple(o for o in others if not o.endswith(TIMEOUT)) if code in (WAIT, END) else ()
            if i < run.strategy.followed or not others:
                continue
            if isinstance(code, str):
                yield i, Stop(task.label, code, 0, None, at, ""), None, others
            else:
                where, offset = watch.where(code, at), ~at if at < 0 else None
                visit = visits[task.label, code.co_name, at]
                yield i, Stop(task.label, plain(code.co_name), where.line, offset, visit, ""), where, others

    def _is_local_line(self, run: Execution, i: int) -> bool:
        """Return whether a line uses only the thread's own names, and another line of the same call follows at once.

        A further call begins with the first line; what was called in between could have touched anything.
        """
        task, code, at, _ = run.log[i]
        if isinstance(code, str) or i + 1 == len(run.log):
            return False
        facts, (next_task, next_code, next_at, _) = self.session.watch.facts(code), run.log[i + 1]
        follows = next_task is task and next_code is code and next_at != facts.first_line
        return follows and at in facts.local_lines

    def _blocked_at_once(self, candidate: Candidate, run: Execution) -> bool:
        """Return whether the thread that was switched to blocked on a lock before it had done anything.

        Then this run did the same as the one that it branches off; and so do those that switch to the same thread
        later on, as long as the lock is held: these are marked.
        """
        stop, log = candidate.stop, run.log
        if stop is None or candidate.siblings is None or not stop.is_preemption:
            return False
        after = self._place_of_block(run, stop.next)
        if after is None:
            return False
        for j, (task, code, _, others) in enumerate(log[after + 1 :], start=candidate.path[-2] + 1):
            if task.label != stop.thread or isinstance(code, str) or stop.next in others:
                break
            if (sibling := candidate.siblings.get((j, stop.next))) is not None:
                sibling.equals_parent = True
        return True

    def _place_of_block(self, run: Execution, name: str) -> int | None:
        """Return where in the log the thread that was switched to last waits for a lock, if it only looked that up."""
        log, after, watch = run.log, run.strategy.followed, self.session.watch
        if after == len(log) or log[after][0].label != name:
            return None
        before = [(code, at) for task, code, at in run.lines(after) if task.label == name]
        is_first = not before and log[after][1] is self._first_code.get(name)
        if is_first:
            before, after = [log[after][1:3]], after + 1  # type: ignore[list-item]  # its very first line
        if not before:
            return None
        code, at = before[-1]
        if at > 0:
            looked_up = watch.facts(code).lock_lines.get(at)
            if looked_up is None or watch.may_do_more(looked_up):
                return None
        elif ~at not in watch.facts(code).enters:
            return None
        while after < len(log) and log[after][0].label == name and log[after][1] is code:
            is_of_lock = watch.line_of(code, log[after][2]) == at and log[after][2] < 0
            if not is_of_lock:
                return None
            after += 1
        is_blocked = after < len(log) and log[after][0].label == name and log[after][1] == LOCKED
        return after if is_blocked else None
