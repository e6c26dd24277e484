"""Verdicts are computed from evidence, and each of the four words can be the result."""

import pytest

from yolothreads.errors import ArgumentError
from yolothreads.lessons.claims import CLAIMS, CONFIRMED, IN_PART, NOT_REPRODUCED, REFUTED, VERDICT_MIME, judge


@pytest.mark.parametrize(
    ("evidence", "bound", "word"),
    [
        ({"a": True, "b": True}, "", CONFIRMED),
        ({"a": True, "b": False}, "", IN_PART),
        ({"a": False, "b": False}, "", REFUTED),
        ({"a": False}, "fewer than 3 in 60", NOT_REPRODUCED),
    ],
)
def test_the_word_follows_from_the_evidence(evidence, bound, word):
    assert judge("gil-released", evidence, bound=bound).word == word


def test_a_verdict_shows_each_statement_by_word_and_names_the_machine():
    bundle = judge("locked-safe", {"calls": True, "streams": False})._repr_mimebundle_()
    assert "seen: calls" in bundle["text/plain"]
    assert "not seen: streams" in bundle["text/html"]
    assert {"claim", "word", "evidence", "stamp"} == set(bundle[VERDICT_MIME])
    assert all(word in bundle[VERDICT_MIME]["stamp"] for word in ("cores", "torch", "ultralytics", "Python"))


def test_a_race_that_did_not_occur_gives_its_bound():
    assert judge("shared-model-races", {"wrong": False}, bound="fewer than 5%").lines()[-1] == "fewer than 5%"


def test_evidence_is_escaped_in_html():
    assert "<b>" not in judge("gil-released", {"<b>": True})._repr_mimebundle_()["text/html"]


def test_an_unknown_claim_and_no_evidence_are_errors():
    with pytest.raises(ArgumentError, match="gil-released"):
        judge("gil", {"a": True})
    with pytest.raises(ArgumentError, match="evidence"):
        judge("gil-released", {})


def test_each_claim_is_stored_under_its_id():
    assert all(key == claim.id for key, claim in CLAIMS.items())
