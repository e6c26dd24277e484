"""The claims of the guide, and verdicts on them that are computed from a run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from typing import Any, Literal

from yolothreads.errors import ArgumentError
from yolothreads.lessons.texts import sections
from yolothreads.measure import stamp

VERDICT_MIME = "application/vnd.yolothreads.verdict+json"
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


CLAIMS = {
    name: Claim(name, claim["says"], tuple(claim["notebooks"]), claim.get("by", "guide"))
    for name, claim in sections("claims").items()
}
"""All claims in the order of the lessons, by their id; they stand in texts/claims.toml."""


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
        return {"text/plain": text, "text/html": html, VERDICT_MIME: data}


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
