"""A model without threads of programs with time: every order of their steps that `explore` promises to try."""

from functools import lru_cache
from math import inf
from types import CodeType
from typing import Any, NamedTuple

from random_programs import OWN, SHARED, Case, Step

from yolothreads.races.turns import LOOK_S

HUNG = "hung"
SHORT = 1.0  # a time-out of at most so many seconds may pass at any time, as a preemption

Values = tuple[tuple[str, Any], ...]


class Thread(NamedTuple):
    """A thread before its next step; or in it, while it waits."""

    at: int
    values: Values
    due: float | None = None  # while it waits: the seconds until its time-out passes, `inf` for none
    is_short: bool = False


class State(NamedTuple):
    """All that the future depends on."""

    threads: tuple[Thread, ...]  # the bodies, and perhaps the service
    shared: Values
    held: frozenset[str]  # locks
    now: int  # the thread that went last
    left: int  # preemptions


class Model:
    """The steps of a case, and what may follow in each state."""

    def __init__(self, case: Case):
        self.bodies = len(case.bodies)
        self.steps = [body.steps for body in case.bodies]
        if case.service is not None:
            self.steps.append(case.service.steps)

    def outcomes(self, preemptions: int) -> set[Any]:
        """Return the outcomes of all orders within a preemption bound."""
        start = self._start(preemptions)
        found, seen, todo = set(), {start}, [start]
        while todo:
            state = todo.pop()
            if (outcome := self._outcome(state)) is not None:
                found.add(outcome)
                continue
            for cost, i in self._choices(state):
                if cost <= state.left:
                    following = self._go(state._replace(left=state.left - cost), i)
                    if following not in seen:
                        seen.add(following)
                        todo.append(following)
        return found

    def sequential(self, order: tuple[int, ...], wakes: tuple[int, ...] = ()) -> Any:
        """Return the outcome of running the bodies in this order; a service runs where a body has to wait.

        Args:
            order: the bodies.
            wakes: how often a time-out of the service passes before each of them.
        """
        state, service, left = self._start(0), range(self.bodies, len(self.steps)), list(wakes)
        while (outcome := self._outcome(state)) is None:
            turn = next(i for i in order if not self._has_ended(state, i))
            able = [i for i in (turn, *service) if self._is_able(state, i)]
            waiting = [i for i in (turn, *service) if i not in able and self._due(state, i) < inf]
            gap, begins = order.index(turn), state.threads[turn] == self._start(0).threads[turn]
            if state.now in able:
                following = state.now
            elif begins and sum(left[: gap + 1]) and {*service} & {*waiting}:
                following = service[0]
                left[next(i for i, count in enumerate(left) if count)] -= 1
            elif able:
                following = able[0]
            elif waiting:
                following = min(waiting, key=lambda i: self._due(state, i))
            else:
                return HUNG
            state = self._go(state, following)
        return outcome

    def _start(self, preemptions: int) -> State:
        own = tuple(sorted(OWN.items()))
        threads = [Thread(0, own) for _ in self.steps]
        if len(threads) > self.bodies:  # the service waits when the bodies begin
            threads[-1] = Thread(0, own, self.steps[-1][0].timeout, True)
        return State(tuple(threads), tuple(SHARED.items()), frozenset(), -1, preemptions)

    def _step(self, state: State, i: int) -> Step:
        return self.steps[i][state.threads[i].at]

    def _has_ended(self, state: State, i: int) -> bool:
        return self._step(state, i).kind == "end"

    def _due(self, state: State, i: int) -> float:
        due = state.threads[i].due
        return inf if due is None else due

    def _is_able(self, state: State, i: int) -> bool:
        """Return whether a thread would go on if it had the turn."""
        if i < 0 or self._has_ended(state, i):
            return False
        return state.threads[i].due is None or self._is_ready(state, self._step(state, i))

    def _is_ready(self, state: State, step: Step) -> bool:
        """Return whether what a step waits for is there."""
        if step.kind == "lock":
            return step.name not in state.held
        return step.kind == "await" and dict(state.shared)["flag"]

    def _choices(self, state: State) -> list[tuple[int, int]]:
        """Return the threads that may go on, each with its cost: 1 for a preemption."""
        threads = range(len(state.threads))
        able = [i for i in threads if self._is_able(state, i)]
        is_free = state.now not in able
        found = [(0 if is_free or i == state.now else 1, i) for i in able]
        waiting = [i for i in threads if i not in able and state.threads[i].due is not None]
        found += [(1, i) for i in waiting if state.threads[i].is_short]
        if not able and (first := min(waiting, key=lambda i: self._due(state, i), default=None)) is not None:
            found.append((0, first))
        return found

    def _outcome(self, state: State) -> Any:
        """Return the outcome if the bodies have ended, or never will; else None."""
        bodies = range(self.bodies)
        if all(self._has_ended(state, i) for i in bodies):
            shared = dict(state.shared)
            observed = shared["x"], shared["y"], shared["kept"][shared["d"]], shared["q"]
            return (*observed, *(dict(state.threads[i].values)["result"] for i in bodies))
        rounds = 0  # of the service, alone
        while not any(self._is_able(state, i) or self._due(state, i) < inf for i in bodies):
            service = len(self.steps) - 1
            is_over = service < self.bodies or rounds == 2
            if is_over or not (self._is_able(state, service) or self._due(state, service) < inf):
                return HUNG
            state = self._go(state, service)
            rounds += state.threads[service].at == 0 and state.threads[service].due is not None
        return None

    def _go(self, state: State, i: int) -> State:
        """Return the state after a step of a thread; or after its wait, by its time-out if it is not ready."""
        thread, step = state.threads[i], self._step(state, i)
        values, shared, held = dict(thread.values), dict(state.shared), set(state.held)
        following = (thread.at + 1) % len(self.steps[i])
        passed = 0.0
        if step.kind in ("lock", "await", "sleep"):
            is_ready = self._is_ready(state, step)
            is_body_asleep = step.kind == "sleep" and i < self.bodies
            if thread.due is None and not is_ready and not is_body_asleep:
                due = inf if step.timeout is None else step.timeout
                return self._with(state, i, thread._replace(due=due, is_short=due <= SHORT))
            if not is_ready:
                passed = (step.timeout or 0.0) if thread.due is None else max(0.0, thread.due + LOOK_S)
                following = step.on_failure or following
            elif step.kind == "lock":
                held.add(step.name)
            if step.answer:
                values[step.answer] = is_ready
        elif step.kind == "do":
            try:
                _do(step.name, values, shared)
            except IndexError:
                values["result"], following = "IndexError", step.on_failure
        elif step.kind == "raise the flag":
            shared["flag"] = True
        elif step.kind == "unlock" and (not step.answer or values[step.answer]):
            held.remove(step.name)
        threads = tuple([t if t.due is None else t._replace(due=t.due - passed) for t in state.threads])
        state = state._replace(threads=threads, shared=tuple(shared.items()), held=frozenset(held))
        return self._with(state, i, Thread(following, tuple(sorted(values.items()))))

    def _with(self, state: State, i: int, thread: Thread) -> State:
        threads = list(state.threads)
        threads[i] = thread
        return state._replace(threads=tuple(threads), now=i)


def _do(text: str, values: dict[str, Any], shared: dict[str, Any]) -> None:
    space = {**shared, **values, "put": _put}
    exec(_compiled(text), space)
    for name, value in space.items():
        if name in shared:
            shared[name] = value
        elif name not in ("put", "__builtins__"):
            values[name] = value


@lru_cache
def _compiled(text: str) -> CodeType:
    return compile(text, "", "exec")


def _put(values: tuple[Any, ...], at: int, value: Any) -> tuple[Any, ...]:
    return (*values[:at], value, *values[at + 1 :])
