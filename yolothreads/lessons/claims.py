"""The guide's claims, and verdicts on them that are computed from a run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from typing import Any, Literal

from yolothreads.errors import ArgumentError
from yolothreads.measure import stamp

CONFIRMED, IN_PART, NOT_REPRODUCED, REFUTED = "confirmed", "confirmed in part", "not reproduced here", "refuted here"
MIME = "application/vnd.yolothreads.verdict+json"
"""Under this type a verdict stands in a notebook's output, for whoever collects them."""

_SAYS = {"guide": "The guide says", "kit": "We say"}

GUIDE = "https://docs.ultralytics.com/guides/yolo-thread-safe-inference/"


@dataclass(frozen=True)
class Claim:
    """What the guide says, in our words (or, where `by` is "kit", what we say ourselves), and who tries it."""

    id: str
    says: str
    notebooks: tuple[str, ...]
    by: Literal["guide", "kit"] = "guide"


CLAIMS = {
    claim.id: claim
    for claim in (
        Claim(
            "gil-one-thread",
            "The GIL lets one thread at a time execute Python bytecode.",
            ("01_watch_threads_run",),
        ),
        Claim(
            "gil-released",
            "Threads still help where the GIL is released: in I/O and in the C libraries under YOLO.",
            ("01_watch_threads_run",),
        ),
        Claim(
            "shared-model-races",
            "Threads that share one model race: its state changes under a call, and results are unpredictable.",
            ("02_break_a_shared_model",),
        ),
        Claim(
            "models-outside-race",
            "Models built outside the threads are still at risk where they share something.",
            ("03_build_models_outside",),
        ),
        Claim(
            "model-per-thread-safe",
            "A model built inside each thread is isolated, and so it is safe.",
            ("04_give_each_thread_a_model",),
        ),
        Claim(
            "locked-safe",
            "ThreadingLocked lets one thread at a time run the function, so sharing the model is safe.",
            ("05_lock_a_shared_model",),
        ),
        Claim(
            "locked-memory-vs-concurrency",
            "The lock saves memory against a model a thread, but costs concurrency.",
            ("05_lock_a_shared_model",),
        ),
        Claim(
            "lock-or-copies",
            "You must choose between a lock around one model and a copy of the model for each thread.",
            ("06_share_weights_not_state",),
        ),
        Claim(
            "processes-avoid-gil",
            "Processes have memory and a model of their own each, and so avoid the GIL.",
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
            "One set of weights can follow many cameras, if each camera has a tracker of its own.",
            ("10_follow_many_cameras",),
            "kit",
        ),
        Claim(
            "always-instantiate-inside",
            "Always create the model inside the thread that uses it.",
            ("11_choose_a_strategy",),
        ),
    )
}


@dataclass(frozen=True)
class Verdict:
    """What a run says of a claim: the word, the parts it is made of, and where and when it was measured."""

    claim: Claim
    word: str
    evidence: tuple[tuple[str, bool], ...]
    bound: str
    stamp: str

    def lines(self) -> list[str]:
        """The evidence, a line a part, marked by word and not by colour alone."""
        parts = [f"{'seen' if held else 'not seen'}: {part}" for part, held in self.evidence]
        return [*parts, self.bound] if self.word == NOT_REPRODUCED else parts

    def __str__(self) -> str:
        return f"{self.claim.id}: {self.word}"

    def _repr_mimebundle_(self, **_: Any) -> dict[str, Any]:
        parts = "".join(f"<li>{escape(line)}</li>" for line in self.lines())
        data = {"claim": self.claim.id, "word": self.word, "evidence": self.lines(), "stamp": self.stamp}
        html = (
            f"<p>{_SAYS[self.claim.by]}: <em>{escape(self.claim.says)}</em><br>Here: <strong>{self.word}</strong></p>"
            f"<ul>{parts}</ul><p><small>{escape(self.stamp)}</small></p>"
        )
        text = "\n".join(
            [f"{_SAYS[self.claim.by]}: {self.claim.says}", f"Here: {self.word}", *self.lines(), self.stamp]
        )
        return {"text/plain": text, "text/html": html, MIME: data}


def judge(claim: str, evidence: Mapping[str, bool], *, bound: str = "", device: str = "cpu") -> Verdict:
    """Judge a claim by what a run has shown.

    Args:
        claim: an id of `CLAIMS`.
        evidence: statements that together make up the claim, and whether each held in this run. All: confirmed.
            Some: confirmed in part. None: refuted here, or, where `bound` is given, not reproduced here.
        bound: for a claim that something can happen, what the trials without it allow to say.
        device: where it ran, for the stamp.

    Raises:
        ArgumentError: no such claim, or no evidence.
    """
    if claim not in CLAIMS:
        raise ArgumentError(f'There is no claim "{claim}"; there are {", ".join(CLAIMS)}.')
    if not evidence:
        raise ArgumentError(f'The claim "{claim}" cannot be judged without evidence; give at least one statement.')
    held = [bool(part) for part in evidence.values()]
    none = NOT_REPRODUCED if bound else REFUTED
    word = CONFIRMED if all(held) else IN_PART if any(held) else none
    return Verdict(CLAIMS[claim], word, tuple(zip(evidence, held, strict=True)), bound, stamp(device))
