"""The page of a schedule, opened from disk: steps by keyboard, harmless texts, accessible, without a network."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page

from benchmarks import bodies
from benchmarks.bodies import state
from yolothreads.races import explore

pytestmark = pytest.mark.timeout(120)
HOSTILE = "<script>alert(1)</script> </script> <img src=x onerror=alert(1)> <!-- \" ' &lt; \u2028 \0 \ud800"
SHOWN = "<script>alert(1)</script> </script> <img src=x onerror=alert(1)> <!-- \" ' &lt; \\u2028 \\x00 \\ud800"


def odd(s: Any) -> str:
    before = s["n"]  # <script>alert(2)</script><!--
    s["n"] = before + 1
    if before:
        raise ValueError(HOSTILE)
    return HOSTILE


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("pages")
    lost = explore(bodies.bump, bodies.bump, setup=state(n=0), observe=bodies.number)
    locks = state(a=threading.Lock, b=threading.Lock, n=0)
    stuck = explore(bodies.first_then_second, bodies.second_then_first, setup=locks)
    hostile = explore(odd, odd, setup=lambda: {"n": 0, HOSTILE: HOSTILE}, watch=[odd])
    return {
        "lost": lost.save_page(folder / "lost.html"),
        "stuck": stuck.save_page(folder / "stuck.html"),
        "hostile": hostile.save_page(folder / "hostile.html", hostile.trials[0].schedule),
        "no values": stuck.save_page(folder / "no values.html", values=False),
    }


@pytest.fixture
def opened(chromium: Browser) -> Iterator[Page]:
    context = chromium.new_context(viewport={"width": 1000, "height": 900})
    yield context.new_page()
    context.close()


def state_of(page: Page) -> list[list[str]]:
    """Return the table of the shared state: name, now, before this step."""
    return page.locator("#state table").first.locator("tbody tr").evaluate_all(
        "rows => rows.map(row => [...row.cells].map(cell => cell.textContent))"
    )  # fmt: skip


def marked(page: Page) -> list[list[str]]:
    """Return the visible lines of the source that a thread is at, each after the sign and name of the thread."""
    return page.locator(".line:has(.badge):visible").evaluate_all(
        "lines => lines.map(line => [line.querySelector('.marks').textContent, line.querySelector('code').textContent])"
    )


def test_keys_step_through_the_schedule_and_the_source_and_the_state_follow(
    opened: Page, pages: dict[str, Path]
) -> None:
    opened.goto(pages["lost"].as_uri())
    first, second = "    value = s.n", "    s.n = value + 1"
    assert marked(opened) == [["▶ A", first]] and opened.inner_text("#said") == "Step 1 of 4."
    assert state_of(opened) == [["observed", "0", ""]]
    for _ in range(3):
        opened.keyboard.press("ArrowRight")
    assert state_of(opened) == [["observed", "1", "0"]]
    assert opened.inner_text("#said") == "Step 4 of 4. B changed observed: 0 → 1."
    assert marked(opened) == [["▶ A", second]]
    opened.keyboard.press("ArrowLeft")
    assert sorted(marked(opened)) == [["▶ B‖ A", second]] or sorted(marked(opened)) == [["‖ A▶ B", second]]
    assert "is stopped before line" in opened.inner_text("#threads")
    opened.keyboard.press("End")
    assert opened.inner_text("#said").startswith("The end") and "has ended" in opened.inner_text("#threads")
    opened.keyboard.press("ArrowRight")
    opened.keyboard.press("Home")
    assert opened.inner_text("#said") == "Step 1 of 4."


def test_buttons_and_the_slider_do_the_same(opened: Page, pages: dict[str, Path]) -> None:
    opened.goto(pages["lost"].as_uri())
    said = opened.locator("#said")
    opened.get_by_role("button", name="Forward").click()
    assert said.inner_text().startswith("Step 2 of 4.")
    opened.get_by_role("button", name="Back").click()
    assert said.inner_text().startswith("Step 1 of 4.")
    opened.get_by_role("button", name="Last").click()
    opened.get_by_role("button", name="Previous change").click()
    assert said.inner_text().startswith("Step 4 of 4.")
    slider = opened.get_by_role("slider", name="Step")
    slider.focus()
    slider.press("ArrowLeft")
    assert said.inner_text().startswith("Step 3 of 4.")
    assert slider.get_attribute("aria-valuetext") == said.inner_text()
    slider.press("Home")
    assert said.inner_text().startswith("Step 1 of 4.")


def test_in_a_deadlock_each_thread_is_shown_where_it_waits(opened: Page, pages: dict[str, Path]) -> None:
    opened.goto(pages["stuck"].as_uri())
    opened.keyboard.press("End")
    assert sorted(sign for sign, _ in marked(opened)) == ["… A", "… B"]
    assert opened.inner_text("#threads").count("waits for ever in line") == 2
    assert sorted(row[1] for row in state_of(opened)) == ["held by A", "held by B"]


def test_nothing_of_a_hostile_text_runs_and_all_of_it_is_shown(opened: Page, pages: dict[str, Path]) -> None:
    happened: list[str] = []
    opened.on("dialog", lambda dialog: (happened.append(dialog.message), dialog.dismiss()))
    opened.on("pageerror", lambda error: happened.append(str(error)))
    opened.on("console", lambda message: happened.append(message.text))
    asked: list[str] = []
    opened.on("request", lambda request: asked.append(request.url))
    opened.goto(pages["hostile"].as_uri())
    opened.keyboard.press("End")
    opened.locator("details").evaluate_all("all => all.forEach(one => { one.open = true; })")
    text = "".join(opened.locator("header, main").all_text_contents())
    assert SHOWN in text  # the name of a part of the state
    assert text.count(repr(HOSTILE)[1:-1]) == 3  # its value, a result, and a message
    assert '    before = s["n"]  # <script>alert(2)</script><!--' in text
    assert opened.locator("script").count() == 2 and opened.locator("img").count() == 0
    assert happened == []
    assert asked == [pages["hostile"].as_uri()]


def test_the_policy_of_the_page_lets_no_other_script_run(opened: Page, pages: dict[str, Path], tmp_path: Path) -> None:
    happened: list[str] = []
    opened.on("dialog", lambda dialog: (happened.append(dialog.message), dialog.dismiss()))
    added = tmp_path / "added.html"
    text = pages["lost"].read_text(encoding="utf-8")
    added.write_text(text.replace("<header>", "<header><script>alert(1)</script>"), encoding="utf-8")
    opened.goto(added.as_uri())
    assert happened == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_page_has_a_violation_of_axe(chromium: Browser, pages: dict[str, Path], scheme: Any) -> None:
    context = chromium.new_context(color_scheme=scheme)
    page = context.new_page()
    for file in pages.values():
        page.goto(file.as_uri())
        page.locator("details").evaluate_all("all => all.forEach(one => { one.open = true; })")
        for key in ("ArrowRight", "End"):
            page.keyboard.press(key)
            found = Axe().run(page).response["violations"]
            assert [(v["id"], node["html"]) for v in found for node in v["nodes"]] == [], file.name
    context.close()


@pytest.mark.parametrize("width", [320, 640, 1280])  # 640 is a window of 1280 at a zoom of 200 %
def test_a_page_is_never_wider_than_its_window(chromium: Browser, pages: dict[str, Path], width: int) -> None:
    context = chromium.new_context(viewport={"width": width, "height": 700})
    page = context.new_page()
    for file in pages.values():
        page.goto(file.as_uri())
        page.keyboard.press("ArrowRight")
        page.locator("details").evaluate_all("all => all.forEach(one => { one.open = true; })")
        assert page.evaluate("document.documentElement.scrollWidth") == width, file.name
    context.close()


def test_without_javascript_the_steps_stand_in_an_ordered_list(chromium: Browser, pages: dict[str, Path]) -> None:
    context = chromium.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(pages["lost"].as_uri())
    items = page.locator("ol.steps > li")
    assert items.count() == 4 and items.nth(3).is_visible()
    assert "B s.n = value + 1" in items.nth(2).inner_text() and "observed: 0 → 1" in items.nth(2).inner_text()
    assert not page.locator("#controls").is_visible()
    context.close()
