"""`yolothreads explore`: what it prints, its exit codes, and one sentence for whatever makes no sense."""

import json
import sys
from pathlib import Path

import pytest

from yolothreads import cli
from yolothreads.headless import exploring

SHOP = """
import threading

PRICES = {}

class Cart:
    def __init__(self):
        self.total, self.lock = 0, threading.Lock()

    def add(self):
        before = self.total
        self.total = before + 3

    def add_locked(self):
        with self.lock:
            self.add()

    def add_if_free(self):
        if self.lock.acquire(timeout=0.5):
            self.add()
            self.lock.release()

def total(cart):
    return cart.total

def fails():
    return PRICES["price"]

"""
GIVEN = ["--setup", "shop.cart:Cart", "--observe", "shop.cart:total"]
RACY = ["explore", "shop.cart:Cart.add", "shop.cart:Cart.add", *GIVEN]


@pytest.fixture(autouse=True)
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Current folder with a package `shop`."""
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "__init__.py").write_text("")
    (tmp_path / "shop" / "cart.py").write_text(SHOP)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path])
    for name in ("shop", "shop.cart"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return tmp_path


def test_a_race_is_1_with_the_table_the_lines_and_the_fault(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(RACY) == 1
    out = capsys.readouterr().out
    assert out.startswith("NOT SAFE") and f"  {Path('shop', 'cart.py')}:12 in add: self.total = before + 3" in out
    assert "wrong result: gave (None, None, 3)" in out and "A@add:12#1>B | py3" in out


def test_safe_functions_are_0(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["explore", *["shop.cart:Cart.add_locked"] * 2, *GIVEN, "--watch", "shop", "--preemptions", "2"]
    assert cli.main(words) == 0
    out = capsys.readouterr().out
    assert out.startswith("SAFE") and "At most 2 preemptions" in out and "blame" not in out


def test_nothing_found_and_not_proved_is_3(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["explore", *["shop.cart:Cart.add_locked"] * 2, *GIVEN, "--strategy", "random", "--runs", "3"]
    assert cli.main(words) == 3
    assert capsys.readouterr().out.startswith("NOTHING FOUND")


def test_a_wait_with_a_timeout_may_end_at_any_time_if_it_is_short_enough(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["explore", *["shop.cart:Cart.add_if_free"] * 2, *GIVEN, "--preemptions", "2"]
    assert cli.main(words) == 1
    assert cli.main([*words, "--timeouts", "0.1"]) == 0
    assert cli.main([*words, "--timeouts", "inf", "--json"]) == 1
    assert '"safe": false' in capsys.readouterr().out


def test_json_holds_what_a_program_needs_to_replay(capsys: pytest.CaptureFixture[str], shop: Path) -> None:
    assert cli.main([*RACY, "--json", "found.json"]) == 1
    assert capsys.readouterr().out.startswith("NOT SAFE")
    found = json.loads((shop / "found.json").read_text())
    assert found["safe"] is False and found["exhausted"] is True and found["lines"][0]["line"] == 12
    assert [row["kind"] for row in found["outcomes"]] == ["as sequential", "wrong result"]
    assert cli.main([*RACY, "--schedule", found["first"]["schedule"], "--json"]) == 1
    again = json.loads(capsys.readouterr().out)
    assert (again["kind"], again["schedule"]) == ("wrong result", found["first"]["schedule"])
    assert [step["thread"] for step in again["steps"]] == ["A", "B", "B", "A"]


def test_a_replay_shows_the_turns_and_is_0_if_its_outcome_is_right(capsys: pytest.CaptureFixture[str]) -> None:
    cli.main([*RACY, "--json"])
    schedule = json.loads(capsys.readouterr().out)["first"]["schedule"]
    assert cli.main([*RACY, "--schedule", schedule]) == 1
    assert capsys.readouterr().out.splitlines()[0].startswith("A runs 1 line, from cart.py:11 in add")
    assert cli.main([*RACY, "--schedule", "A |" + schedule.partition("|")[2]]) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("as sequential")


def test_the_first_bad_schedule_or_the_given_one_becomes_a_page(capsys: pytest.CaptureFixture[str], shop: Path) -> None:
    assert cli.main([*RACY, "--page", "leak.html", "--json"]) == 1
    printed = capsys.readouterr()
    schedule = json.loads(printed.out)["first"]["schedule"]
    assert printed.err == "The page is leak.html.\n"
    assert "wrong result" in (shop / "leak.html").read_text(encoding="utf-8")
    assert cli.main([*RACY, "--page", "replayed.html", "--schedule", schedule]) == 1
    assert "wrong result" in (shop / "replayed.html").read_text(encoding="utf-8")


def test_a_page_that_cannot_be_written_loses_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([*RACY, "--page", "shop"]) == 2
    printed = capsys.readouterr()
    assert printed.out.startswith("NOT SAFE") and printed.err.startswith("error: ") and printed.err.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["shop.cart.add", "shop.cart:Cart.add"], '"shop.cart.add" names no function; write MODULE:FUNCTION'),
        (["shop.cart:", "shop.cart:Cart.add"], '"shop.cart:" names no function; write MODULE:FUNCTION'),
        (["shop.crat:Cart.add"] * 2, "could not be imported (ModuleNotFoundError: No module named 'shop.crat')"),
        (["shop.broken:add"] * 2, "could not be imported (SyntaxError: "),
        (["shop.cart:Cart.sub"] * 2, '"shop.cart:Cart.sub": Cart has no "sub"; check the spelling.'),
        (["shop.cart:Basket"] * 2, '"shop.cart:Basket": shop.cart has no "Basket"; check the spelling.'),
        (["shop.cart:PRICES"] * 2, '"shop.cart:PRICES" is not a function but dict; name a function or a class.'),
        (["shop.cart:Cart.add"], "1 bodies were given; a race needs two or more functions."),
        ([*RACY[1:], "--setup", "shop.cart:PRICES"], '"shop.cart:PRICES" is not a function'),
        ([*RACY[1:], "--watch", "no_such"], "watch names 'no_such', but there is no module 'no_such'"),
        ([*RACY[1:], "--preemptions", "-1"], "preemptions=-1 makes no sense"),
        ([*RACY[1:], "--granularity", "word"], "granularity='word' is unknown"),
        ([*RACY[1:], "--schedule", "A@add:12#1>B | py3 0"], "The schedule was made for 'py3 0'"),
        ([*RACY[1:3], "--setup", "shop.cart:fails"], "KeyError: 'price', raised at "),
        ([*RACY[1:], "--json", "shop"], '"shop" could not be written'),
    ],
)
def test_bad_input_is_one_sentence_and_2(
    words: list[str], message: str, shop: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (shop / "shop" / "broken.py").write_text("def add(:\n")
    assert cli.main(["explore", *words]) == 2
    err = capsys.readouterr().err
    assert err.startswith("error: ") and message in err and err.count("\n") == 1 and "Traceback" not in err


def test_help_documents_the_exit_codes(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["explore", "--help"])
    assert " ".join(exploring.EXIT_CODES.split()) in " ".join(capsys.readouterr().out.split())
