"""The claims of the guide, and verdicts on them that are computed from a run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from typing import Any, Literal

from yolothreads.errors import ArgumentError
from yolothreads.measure import stamp

GUIDE = "https://docs.ultralytics.com/guides/yolo-thread-safe-inference/"
MIME = "application/vnd.yolothreads.verdict+json"
"""The type under which a verdict stands in the outputs of a notebook, where the headless runner collects it."""

CONFIRMED, IN_PART, NOT_REPRODUCED, REFUTED = "confirmed", "confirmed in part", "not reproduced here", "refuted here"

_AUTHOR = {"guide": "The guide says", "kit": "We say"}


@dataclass(frozen=True)
class Claim:
    """A claim of the guide in our words, or one of our own, and the notebooks that test it."""

    id: str
    says: str
    notebooks: tuple[str, ...]
    by: Literal["guide", "kit"] = "guide"


_CLAIMS = (
    Claim(
        "gil-one-thread",
        "The GIL lets only one thread at a time execute Python bytecode.",
        ("01_watch_threads_run",),
    ),
    Claim(
        "gil-released",
        "Threads still help where the GIL is released: during I/O, and in the C libraries that YOLO uses.",
        ("01_watch_threads_run",),
    ),
    Claim(
        "shared-model-races",
        "Threads that share one model race: its state changes during a call, and the results are unpredictable.",
        ("02_break_a_shared_model",),
    ),
    Claim(
        "models-outside-race",
        "Models that are built outside the threads are still at risk if they share something.",
        ("03_build_models_outside",),
    ),
    Claim(
        "model-per-thread-safe",
        "A model that is built inside its thread is isolated and therefore safe.",
        ("04_give_each_thread_a_model",),
    ),
    Claim(
        "locked-safe",
        "ThreadingLocked lets only one thread at a time run the function, so it is safe to share the model.",
        ("05_lock_a_shared_model",),
    ),
    Claim(
        "locked-memory-vs-concurrency",
        "Compared with one model per thread, the lock saves memory but costs concurrency.",
        ("05_lock_a_shared_model",),
    ),
    Claim(
        "lock-or-copies",
        "You must choose between a lock around one model and one copy of the model per thread.",
        ("06_share_weights_not_state",),
    ),
    Claim(
        "processes-avoid-gil",
        "Each process has its own memory and its own model, so processes avoid the GIL.",
        ("07_use_processes",),
    ),
    Claim(
        "processes-safer-often-faster",
        "Processes are safer than threads, and often more efficient.",
        ("07_use_processes",),
    ),
    Claim(
        "queue-of-workers",
        "For larger applications, use a task queue with dedicated workers.",
        ("08_queue_the_work", "09_outgrow_one_machine"),
    ),
    Claim(
        "tracker-per-camera",
        "One set of weights can track many cameras if each camera has its own tracker.",
        ("10_follow_many_cameras",),
        by="kit",
    ),
    Claim(
        "always-instantiate-inside",
        "Always create the model inside the thread that uses it.",
        ("11_choose_a_strategy",),
    ),
)
CLAIMS = {claim.id: claim for claim in _CLAIMS}


@dataclass(frozen=True)
class Verdict:
    """The verdict on a claim: one word, the evidence for it, and where and when it was measured."""

    claim: Claim
    word: str
    evidence: tuple[tuple[str, bool], ...]
    bound: str
    stamp: str

    def lines(self) -> list[str]:
        """Return the evidence, one line per statement. A word, not a colour, says whether it was seen."""
        lines = [f"{'seen' if held else 'not seen'}: {statement}" for statement, held in self.evidence]
        return [*lines, self.bound] if self.word == NOT_REPRODUCED else lines

    def __str__(self) -> str:
        return f"{self.claim.id}: {self.word}"

    def _repr_mimebundle_(self, **_: Any) -> dict[str, Any]:
        author, lines = _AUTHOR[self.claim.by], self.lines()
        items = "".join(f"<li>{escape(line)}</li>" for line in lines)
        html = (
            f"<p>{author}: <em>{escape(self.claim.says)}</em><br>Here: <strong>{self.word}</strong></p>"
            f"<ul>{items}</ul><p><small>{escape(self.stamp)}</small></p>"
        )
        text = "\n".join([f"{author}: {self.claim.says}", f"Here: {self.word}", *lines, self.stamp])
        data = {"claim": self.claim.id, "word": self.word, "evidence": lines, "stamp": self.stamp}
        return {"text/plain": text, "text/html": html, MIME: data}


def judge(claim: str, evidence: Mapping[str, bool], *, bound: str = "", device: str = "cpu") -> Verdict:
    """Judge a claim by what a run has shown.

    The verdict is "confirmed" if every statement of the evidence held, and "confirmed in part" if some did. If none
    did, it is "refuted here", or "not reproduced here" where `bound` is given.

    Args:
        claim: an id of `CLAIMS`.
        evidence: statements that together make up the claim, and whether each of them held in this run.
        bound: for a claim that something can happen: what may be concluded if it did not happen.
        device: where it ran, for the stamp.

    Raises:
        ArgumentError: there is no such claim, or no evidence.
    """
    if claim not in CLAIMS:
        raise ArgumentError(f'There is no claim "{claim}"; the claims are {", ".join(CLAIMS)}.')
    if not evidence:
        raise ArgumentError(f'The claim "{claim}" cannot be judged without evidence; give at least one statement.')
    held = [bool(part) for part in evidence.values()]
    if all(held):
        word = CONFIRMED
    elif any(held):
        word = IN_PART
    else:
        word = NOT_REPRODUCED if bound else REFUTED
    return Verdict(CLAIMS[claim], word, tuple(zip(evidence, held, strict=True)), bound, stamp(device))
