"""Runs the bodies one after the other, to know which results are right, and whether results can be repeated at all.

Of n different bodies there are n! orders. Only the first of them is run at once, and of two bodies both; the others
are run when an outcome is like none that is known yet.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import combinations_with_replacement, islice, product
from time import perf_counter
from types import CodeType
from typing import NamedTuple, Protocol

from yolothreads.errors import ExploreError
from yolothreads.races.judge import Judge, Results, named, same_error, short, without_addresses
from yolothreads.races.orders import QUIET, Between, distinct_orders
from yolothreads.races.results import DEADLOCK, EXCEPTION, RIGHT, Trial
from yolothreads.races.schedule import Schedule, label
from yolothreads.races.scheduler import Scheduler
from yolothreads.races.turns import Execution
from yolothreads.races.watching import Watch


class Order(NamedTuple):
    """A sequential order: the bodies, and what workers do before, between and after them."""

    bodies: tuple[int, ...]
    between: Between = QUIET


_NO_ORDER = Order(())
_OBSERVE = "observe"
_MOST_WAKES = 3  # so many time-outs of a worker are spread
_SERIES = 1000  # so many ways to spread the time-outs that passed in a run over a sequential order are tried

_CONFIRMED = 5  # so many different bad outcomes are run again before they are reported
_ROUNDS, _MOST_ROUNDS, _ROUNDS_S = 2, 10, 0.1  # of repetitions: at least, at most, and the time for more of them
_ADVICE = (
    "Let setup= or restore= renew everything that the bodies change, seed what is random (random.seed(0) in setup=), "
    "or pass same=."
)


class BudgetEndedError(Exception):
    """The budget ended before the outcome of a run was known."""


class NotRepeatableError(ExploreError):
    """The same run gave another outcome than before."""


class Runs(Protocol):
    """What this module needs of the session."""

    judge: Judge
    scheduler: Scheduler
    watch: Watch
    until: float

    def run(
        self,
        schedule: Schedule,
        order: Sequence[int] = (),
        keep_alternatives: bool = False,
        *,
        between: Between = QUIET,
    ) -> Execution:
        """Run the bodies once, under a schedule, or one after the other in an order."""


class References:
    """The results of sequential orders, and the orders that have not been run yet.

    Args:
        session: makes the runs.
        groups: for each body the index of the first one that is equal to it.
    """

    def __init__(self, session: Runs, groups: Sequence[int]):
        self._session, self._judge, self._groups = session, session.judge, groups
        self._results: dict[Order, Results] = {}  # of the orders in which every body ended
        self._cut_short: set[Order] = set()  # those among them in which only a deadline ended the wait for another body
        self._together: list[Results] = []  # of runs that count as sequential, because no order ends by itself
        self._tried: set[Order] = set()
        self._patterns: set[Order] = set()  # the same, but each body stands for all that are equal to it
        self._route: list[tuple[str, CodeType, int]] = []  # the switch points of the first order
        self._route_generation = 0
        self._confirmed: set[tuple[str, str]] = set()
        self._has_learned = False
        self.remarks: dict[str, None] = {}  # sentences about the runs that were made again
        self.sequential: dict[str, Execution] = {}  # runs that are schedules without a stop, by their first thread

    # --- before the search

    def learn(self) -> list[Execution]:
        """Run the first order twice, because the first calls in a process may do things that later ones do not.

        Of two bodies the other order is run, too. Where a body does not end in its turn, orders are run that begin
        with those which came to nothing.

        Raises:
            ExploreError: the bodies do not end in any of these orders, or the same order gives other results.
        """
        count = len(self._groups)
        first = Order(tuple(range(count)))
        early = self._run(first)
        generation = self._session.watch.generation
        runs = [] if early.endless or self._is_late() else [self._run(first)]  # one endless run takes long enough
        again = [*runs, early][0]
        for i in range(1, count):
            order = Order((i, *(body for body in first.bodies if body != i)))
            has_come = count > 2 and label(i) in {name for run in (early, *runs) for name in run.began}
            if not self._is_late() and not has_come:
                runs.append(self._run(order))
        runs = runs or [early]
        if all(run.endless for run in runs):
            raise ExploreError(
                f"The bodies end in no sequential order: {runs[0].failure}. Pass bodies that end by themselves."
            )
        if not early.failure and not again.failure and early is not again:
            self._check_first_order(first, _results_of(early), _results_of(again))
        for error, names in self._raised().items():
            if names == [_OBSERVE]:
                raise ExploreError(f"observe raised {error} after each sequential order; correct observe=.")
        if generation != self._session.watch.generation:
            self.sequential.clear()  # some of these runs passed fewer switch points than they would now
        self._route, self._route_generation = _route_of(again), generation
        self._has_learned = True
        return runs

    def _run(self, order: Order) -> Execution:
        """Run the bodies in an order, and keep what it gives as right."""
        bodies, between = order
        run = self._session.run(Schedule(""), bodies, len(bodies) == 2, between=between)
        if run.setup_failed and not self._has_learned:  # nothing was found before
            raise next(iter(run.outside.values()))
        self._tried.add(order)
        self._patterns.add(self._pattern(order))
        if not run.failure and not run.setup_failed:
            self._results[order] = _results_of(run)
            if run.cut_short:
                self._cut_short.add(order)
            is_schedule = not any(isinstance(code, str) for _, code, *_ in run.log)
            if len(bodies) == 2 and is_schedule and between == QUIET:
                self.sequential[label(bodies[0])] = run
        return run

    def _pattern(self, order: Order) -> Order:
        return order._replace(bodies=tuple(self._groups[i] for i in order.bodies))

    def _check_first_order(self, order: Order, first: Results, second: Results) -> None:
        """Refuse bodies whose results differ in the same order: then no outcome has a meaning."""
        if self._judge.equal(first, second):
            return
        third = _results_of(self._session.run(Schedule(""), order.bodies))  # the very first run may leave things behind
        if not self._judge.equal(second, third):
            raise NotRepeatableError(
                f"The results are not repeatable: the same order twice gave {short(second.all)} and then "
                f"{short(third.all)}. {_ADVICE}"
            )

    def _is_late(self) -> bool:
        return perf_counter() > self._session.until

    def always_raised(self) -> Iterator[str]:
        """Yield remarks about the bodies that raise the same error in each order, so that little is compared."""
        for error, names in self._raised().items():
            yield f"In each sequential order, {', '.join(names)} raised {error}"

    def _raised(self) -> dict[str, list[str]]:
        """Return the errors that occur in each order that is known, with the labels of the bodies, or `observe`."""
        found: dict[str, list[str]] = {}
        whole = [known.values for order, known in self._results.items() if order not in self._cut_short]
        for i, values in enumerate(zip(*whole, strict=True)):
            first = values[0]
            if isinstance(first, BaseException) and all(same_error(first, value) for value in values):
                name = label(i) if i < len(self._groups) else _OBSERVE
                found.setdefault(without_addresses(named(first)), []).append(name)
        return found

    # --- during the search

    def kind(self, run: Execution) -> tuple[str, str]:
        """Return the kind of a run's outcome, and its description in words; run further orders if that is needed.

        Raises:
            BudgetEndedError: the outcome is not known, because orders are left that might give it.
        """
        if run.failure:
            return DEADLOCK, f"{run.failure}\n{run.stacks}"
        results = _results_of(run)
        if run.setup_failed:
            what, error = next(iter(run.outside.items()))
            return EXCEPTION, f"{what} raised {named(error)}"
        found = self._kind(results)
        if found[0] == RIGHT and self._alike(results):
            return found
        for order in self._orders_for(run):
            if found[0] == RIGHT and self._alike(results):
                break
            if self._is_late():
                self.remarks[
                    f"A schedule gave {short(results.all)}, as none of {len(self._tried)} sequential orders did; there "
                    f"was no time for the others, so it is not counted."
                ] = None
                raise BudgetEndedError
            self._run(order)
            found = self._kind(results)
        if found[0] != RIGHT and not self._together and self._results.keys() <= self._cut_short:
            self._run_together(results)
            found = self._kind(results)
        return found

    def _run_together(self, results: Results) -> None:
        """Take as right what the bodies give without a preemption, because they need one another to end by themselves.

        If that is nothing, the first outcome is right.
        """
        for i in range(len(self._groups)):
            run = self._session.run(Schedule(label(i)))
            if not (run.failure or run.setup_failed or run.cut_short):
                self._together.append(_results_of(run))
        if not self._results and not self._together:
            self._together.append(results)

    def _kind(self, results: Results) -> tuple[str, str]:
        """Compare with the orders in which the services woke up as often; with all others, if there is none."""
        self._judge.references = self._alike(results) or self._known
        return self._judge.kind(results)

    @property
    def _known(self) -> list[Results]:
        return [*self._results.values(), *self._together]

    def _alike(self, results: Results) -> list[Results]:
        return [known for known in self._known if known.beats == results.beats]

    def _orders_for(self, run: Execution) -> Iterator[Order]:
        """Yield the orders that were not run yet, those that are most like a run first.

        Equal bodies are exchanged only in the order in which they began and ended: usually it does not matter, but the
        name of a thread, for instance, may be part of a result.
        """
        likely = [Order(bodies) for names in (run.began, run.ended) if (bodies := self._bodies(names))]
        others = (Order(bodies) for bodies in distinct_orders(self._groups))
        yield from (order for order in likely if order not in self._tried)
        is_served = any(known.beats for order, known in self._results.items() if order.between == QUIET)
        ways = list(islice(_ways_of_workers(run, len(self._groups) + 1, is_served), _SERIES))
        of_ways = (order._replace(between=between) for between in ways for order in likely)
        yield from (order for order in of_ways if order not in self._tried)
        yield from (order for order in others if self._pattern(order) not in self._patterns)
        for between in ways:
            for bodies in distinct_orders(self._groups):
                if self._pattern(order := Order(bodies, between)) not in self._patterns:
                    yield order

    def _bodies(self, names: Sequence[str]) -> tuple[int, ...]:
        """Return the bodies with these labels, if these are all; otherwise nothing."""
        bodies = tuple(i for name in names for i in range(len(self._groups)) if label(i) == name)
        return bodies if len(bodies) == len(self._groups) else ()

    def confirm(self, schedule: Schedule, run: Execution, trial: Trial) -> None:
        """Make sure that a bad outcome can be repeated, before it is reported.

        The schedule is run again, and so are the known orders. Only a few different bad outcomes are checked.

        Raises:
            NotRepeatableError: one of these runs had another outcome than before.
            BudgetEndedError: there was no time left for this.
        """
        outcome = trial.kind, without_addresses(trial.detail.partition("\n")[0])
        if outcome in self._confirmed or len(self._confirmed) == _CONFIRMED or run.setup_failed:
            return
        for _ in self._rounds():
            if run.endless:
                continue
            again = self._run_in_time(schedule)
            if not self._session.scheduler.uncontrolled:
                self._check_again(run, again, "one schedule")
            elif not self._is_like(run, again):
                self.remarks["A bad outcome was not repeatable, because some threads run freely."] = None
        self._confirmed.add(outcome)

    def check_again(self) -> None:
        """Make sure that the sequential orders still give the same, after a search that found nothing.

        Raises:
            NotRepeatableError: one of them does not.
        """
        with suppress(BudgetEndedError):
            for _ in self._rounds():
                pass

    def _rounds(self) -> Iterator[int]:
        """Repeat some known orders a few times, and yield after each round."""
        began = perf_counter()
        for i in range(_MOST_ROUNDS):
            if i >= _ROUNDS and perf_counter() - began > _ROUNDS_S:
                return
            for order, known in [*self._results.items()][:2]:
                self._check_again(known, self._run_in_time(Schedule(""), order), "a sequential order")
            yield i

    def _run_in_time(self, schedule: Schedule, order: Order = _NO_ORDER) -> Execution:
        if self._is_late():
            raise BudgetEndedError
        run = self._session.run(schedule, order.bodies, between=order.between)
        if run.setup_failed:
            what, error = next(iter(run.outside.items()))
            self.remarks[f"Before a run was repeated, {what} raised {named(error)}"] = None
        return run

    def _check_again(self, before: Execution | Results, again: Execution, what: str) -> None:
        if not self._is_like(before, again):
            texts = [_in_words(run) for run in (before, again)]
            raise NotRepeatableError(
                f"The results are not repeatable: {what} gave {texts[0]} and then {texts[1]}. {_ADVICE}"
            )

    def _is_like(self, before: Execution | Results, again: Execution) -> bool:
        if again.setup_failed:  # nothing is known about it
            return True
        if again.strategy.diverged or again.strategy.unfollowed:
            return False
        if isinstance(before, Results):
            return not again.failure and self._is_equal(before, _results_of(again))
        if before.failure or again.failure:
            return bool(before.failure) == bool(again.failure)
        return self._is_equal(_results_of(before), _results_of(again))

    def _is_equal(self, a: Results, b: Results) -> bool:
        try:
            return self._judge.equal(a, b)
        except ExploreError:  # they cannot be compared, which was the outcome
            return True

    # --- a schedule that could not be followed

    def look_for_changed_state(self) -> None:
        """Run the known orders again, and make a remark if one of them now goes another way."""
        known = [*self._results] or [Order(tuple(range(len(self._groups))))]
        for order in (known[0], known[-1], known[0]):
            if self._is_late():
                break
            run = self._session.run(Schedule(""), order.bodies, between=order.between)
            route, generation = _route_of(run), self._session.watch.generation
            if generation != self._route_generation and order == known[0]:  # switch points were added
                self._route, self._route_generation = route, generation
            if order != known[0] or route == self._route or run.failure:
                continue
            pairs = zip(self._route, route, strict=False)
            at = next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(route), len(self._route)))
            ways = [
                f"{name} at {self._session.watch.where(code, line)}"
                for name, code, line in (*route[at : at + 1], *self._route[at : at + 1])
            ]
            text = (
                f"The state changed between runs: the same order, run again, went another way, first with "
                f"{' instead of '.join(ways)}. Renew it with restore=, or let setup= make everything anew."
            )
            self.remarks[text] = None
            return


def _ways_of_workers(run: Execution, gaps: int, is_served: bool) -> Iterator[Between]:
    """Yield what workers may do around the bodies of a sequential order, where in a run they did more than usual.

    The threads that bodies start may run before the next body; and where time-outs of workers passed in the run, some
    of them may pass in each way before, between and after the bodies. The others pass where nobody else can go on. If
    there `is_served` a body that waits, they may also pass last, because it may have waited for a shorter time.
    """
    has_threads = any(name.startswith("W") for name in run.ended) or any(task.of_body for task, *_ in run.log)
    counts = Counter(name for name in run.wakes if name in run.beats or "." in name)  # services, threads of bodies
    for some in product(*(range(min(count, _MOST_WAKES), -1, -1) for count in counts.values())):
        others = tuple((counts - Counter(dict(zip(counts, some, strict=True)))).elements())
        for cuts in product(*(combinations_with_replacement(range(gaps), count) for count in some)):
            wakes = tuple(
                tuple(name for name, chosen in zip(counts, cuts, strict=True) for at in chosen if at == gap)
                for gap in range(gaps)
            )
            for first in (False, True)[: 1 + has_threads]:
                if is_served:
                    yield Between((*wakes[:-1], wakes[-1] + others), first, exact=True)
                if first or any(wakes):
                    yield Between(wakes, first)


def _route_of(run: Execution) -> list[tuple[str, CodeType, int]]:
    return [(task.label, code, at) for task, code, at in run.lines()]


def _results_of(run: Execution) -> Results:
    for error in run.outside.values():
        error.__traceback__ = None  # which would keep frames, and their variables, alive
    return Results(run.results, run.outside, run.beats)


def _in_words(run: Execution | Results) -> str:
    if isinstance(run, Results):
        return short(run.all)
    if run.strategy.diverged or run.strategy.unfollowed:
        return "another way through the code"
    return run.failure or short(_results_of(run).all)
