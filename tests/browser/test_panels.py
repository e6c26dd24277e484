"""Uses every panel in JupyterLab as learners do: by mouse, by keyboard alone, zoomed, narrow, light and dark.

All tests share one page, and each run of a panel serves several checks. Screenshots go to build/browser.
"""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from deadlines import scaled
from playwright.sync_api import expect

from .jupyter import Lab, Notebook

pytestmark = pytest.mark.timeout(180)
SHOTS = Path(__file__).parents[2] / "build" / "browser"
BEGIN = """
from yolothreads.lessons import BatchingPanel, CamerasPanel, ComparePanel, ExplorerPanel, Lesson, Panel

lesson = Lesson("cpu", workers=2, count=3)


def add(numbers):
    for _ in range(40):
        last = numbers[-1]
        numbers.append(last + 1)
    return numbers[-1]
"""
PANELS = {
    "panel": "Panel(lesson, 'SharedModel', imgsz=160, images=400)",
    "comparepanel": "ComparePanel(lesson, pools=('SharedModel', 'ModelPerThread'), imgsz=160, images=4, rounds=10)",
    "batchingpanel": "BatchingPanel(lesson, seconds=60)",
    "cameraspanel": "CamerasPanel(lesson, frames=400)",
    "explorerpanel": "ExplorerPanel(add, add, setup=lambda: [0], watch=[add], preemptions=2, budget_s=120)",
}
# Finds clipped elements: text that is wider than its box and cannot be scrolled, or lies outside the panel.
FIND_CLIPPED = """panel => {
  const edge = panel.getBoundingClientRect(), cut = [];
  for (const e of panel.querySelectorAll('button, label, input, select, span, div, b, td, th, figcaption, img, svg')) {
    const box = e.getBoundingClientRect(), style = getComputedStyle(e);
    const scrolls = e.closest('pre, .yolothreads-scrolls') !== null;
    if (!box.width || scrolls) continue;
    const outside = box.left < edge.left - 1 || box.right > edge.right + 1;
    const hidden = style.overflowX !== 'visible' && e.scrollWidth > e.clientWidth + 1 && e.tagName !== 'svg';
    if (outside || hidden) cut.push(e.outerHTML.slice(0, 120));
  }
  return cut;
}"""

# Presses Stop, and returns the milliseconds until the panel shows "Stopped".
STOP_MS = """async ([stop, status]) => {
  const begin = performance.now();
  document.querySelector(stop).click();
  while (!document.querySelector(status).innerText.includes('Stopped')) {
    if (performance.now() - begin > 20000) return -1;
    await new Promise(done => setTimeout(done, 5));
  }
  return performance.now() - begin;
}"""


class ShownPanel:
    """One panel on the page, operated through the browser."""

    def __init__(self, notebook: Notebook, name: str) -> None:
        self.notebook, self.root = notebook, f"yolothreads-panel-{name}"

    def part(self, name: str) -> str:
        """Return the class of a part, in the form that `Notebook.find` accepts."""
        return f"{self.root} .yolothreads-{name}"

    def text(self, name: str) -> str:
        return self.notebook.find(self.part(name)).inner_text()

    def choose(self, name: str, value: str | list[str]) -> None:
        self.notebook.find(self.part(name)).locator("select").select_option(value)

    def fill(self, name: str, value: int) -> None:
        self.notebook.find(self.part(name)).locator("input").fill(str(value))
        self.notebook.press("Tab")

    def run(self) -> None:
        """Press Run, and wait until the status changes, because the old text belongs to another run."""
        before = self.text("status")
        self.notebook.click(self.part("run"))
        self._wait_until_changed("status", before)

    def run_until(self, pattern: str) -> str:
        """Press Run, and wait until the status matches this pattern."""
        self.run()
        return self.wait_for(pattern)

    def stop(self) -> str:
        self.notebook.click(self.part("stop"))
        return self.wait_for("Stopped")

    def wait_for(self, pattern: str) -> str:
        return self.notebook.wait_for_text(self.part("status"), pattern, scaled(60))

    def wait_for_live_changes(self) -> None:
        """Wait until the live part has changed twice."""
        for _ in range(2):
            self._wait_until_changed("live", self.text("live"))

    def _wait_until_changed(self, name: str, before: str) -> None:
        self.notebook.page.wait_for_function(
            "([selector, before]) => document.querySelector(selector).innerText !== before",
            arg=[f".{self.part(name)}", before],
        )


@pytest.fixture(scope="module")
def page(lab: Lab) -> Iterator[Notebook]:
    SHOTS.mkdir(parents=True, exist_ok=True)
    cells = [f"{name} = {made}\n{name}.show()" for name, made in PANELS.items()]
    with lab.open(lab.write("panels", BEGIN, *cells)) as notebook:
        assert notebook.run_all()
        yield notebook
        assert notebook.cell_errors() == []
        assert notebook.console_errors == []
        assert notebook.outside_requests == []


@pytest.fixture(params=PANELS)
def panel(request: pytest.FixtureRequest, page: Notebook) -> Iterator[ShownPanel]:
    shown = ShownPanel(page, request.param)
    yield shown
    if re.search("Running|Stopping", shown.text("status")):
        shown.stop()


@pytest.fixture
def pool_panel(page: Notebook) -> ShownPanel:
    return ShownPanel(page, "panel")


def test_live_numbers_change_and_it_stops_and_runs_again_by_keyboard_alone(panel: ShownPanel, page: Notebook) -> None:
    panel.run()
    panel.wait_for_live_changes()
    panel.stop()
    assert panel.text("run") == "Run again"
    page.page.evaluate("jupyterapp.commands.execute('notebook:enter-command-mode')")
    inside = "name => document.activeElement.matches(`.${name}`)"
    for _ in range(100):  # until the focus has returned to Run
        page.press("Tab")
        if page.page.evaluate(inside, panel.part("run")):
            break
    page.press("Enter")
    panel.wait_for("Running")
    panel.wait_for_live_changes()
    page.press("Tab", "Space")
    panel.wait_for("Stopped")


def test_changing_the_pool_changes_the_verdict_and_the_table_below_the_panel(
    pool_panel: ShownPanel, page: Notebook
) -> None:
    wrong_images = page.find(pool_panel.part("first-wrong")).locator("img")
    pool_panel.fill("images", 40)
    pool_panel.choose("pool", "SharedModel")
    assert not pool_panel.run_until("40 images").count(" 0 silently wrong")
    assert wrong_images.count() == 2
    pool_panel.choose("pool", "ModelPerThread")
    assert "40 right, 0 silently wrong, 0 errors" in pool_panel.run_until("ModelPerThread.*40 images")
    assert wrong_images.count() == 0
    below = page.page.locator(f".jp-OutputArea:has(.{pool_panel.root}) > .jp-OutputArea-child > .jp-RenderedHTML table")
    expect(below).to_contain_text("ModelPerThread")
    assert "images/s" in below.inner_text()


def test_one_tracker_per_camera_changes_the_verdict(page: Notebook) -> None:
    cameras = ShownPanel(page, "cameraspanel")
    cameras.fill("frames", 30)
    cameras.choose("tracker", "one for all cameras")
    cameras.run_until("one for all cameras .*30 frames of each.* Identities of the cameras got mixed up")
    cameras.choose("tracker", "one for each camera")
    cameras.run_until("one for each camera .*30 frames of each.* Transfers: 0 .* No number went from one")
    cameras.fill("frames", 400)


def test_choosing_other_pools_to_compare_changes_the_verdict(page: Notebook) -> None:
    compare = ShownPanel(page, "comparepanel")
    compare.fill("rounds", 2)
    compare.choose("pools", ["SharedModel"])
    compare.run_until(r"Wrong results or errors came from every pool that was measured: SharedModel \(\d+\)")
    compare.choose("pools", ["ModelPerThread"])
    compare.run_until("no pool gave a wrong result; the fastest .* ModelPerThread")
    compare.choose("pools", ["SharedModel", "ModelPerThread"])
    compare.fill("rounds", 10)


def test_more_calls_than_the_worker_can_serve_are_refused(page: Notebook) -> None:
    batching = ShownPanel(page, "batchingpanel")
    batching.fill("seconds", 2)
    batching.fill("rate-number", 5)
    batching.run_until(r"each is accounted for.* \b0 refused")
    batching.fill("rate-number", 1000)
    batching.run_until(r"each is accounted for.* [1-9]\d* refused")
    batching.fill("seconds", 60)


def test_a_higher_preemption_bound_changes_the_verdict_and_a_schedule_can_be_stepped_through(page: Notebook) -> None:
    explorer = ShownPanel(page, "explorerpanel")
    explorer.choose("preemptions", "0")
    explorer.run_until("^(?!NOT SAFE).*2 schedules")
    explorer.choose("preemptions", "1")
    explorer.run_until("NOT SAFE.*One schedule is shown below")
    rows = page.find(explorer.part("rows")).locator("select")
    rows.focus()
    page.press("ArrowDown")  # each row has its own replay
    schedule = next(word for word in rows.locator("option").nth(1).inner_text().split() if "@" in word)
    expect(page.find(explorer.part("threads"))).to_contain_text(schedule)
    at_first = explorer.text("state"), explorer.text("source")
    page.click(explorer.part("next-change"))  # the other thread has the turn
    page.click(explorer.part("next-change"))
    expect(page.find(explorer.part("state"))).to_contain_text("changed")
    page.click(explorer.part("forward"))
    for _ in range(3):
        page.click(explorer.part("previous-change"))
    expect(page.find(explorer.part("threads"))).to_contain_text("Step 1 of")
    assert (explorer.text("state"), explorer.text("source")) == at_first
    explorer.choose("preemptions", "2")


def test_during_a_run_the_kernel_answers_and_a_second_run_is_refused(pool_panel: ShownPanel, page: Notebook) -> None:
    pool_panel.fill("images", 400)
    pool_panel.run()
    pool_panel.wait_for_live_changes()
    answer = page.page.evaluate(
        """async () => {
          const kernel = jupyterapp.shell.currentWidget.context.sessionContext.session.kernel;
          const asked = kernel.requestExecute({code: "print('here')"});
          let said = '';
          asked.onIOPub = message => { said += message.content.text ?? '' };
          await asked.done;
          return said;
        }"""
    )
    assert answer == "here\n"
    assert "Running" in pool_panel.text("status")
    pool_panel.run_until("This panel is running; press Stop there first")
    pool_panel.stop()


def test_stop_takes_effect_within_half_a_second(pool_panel: ShownPanel, page: Notebook) -> None:
    pool_panel.fill("images", 400)
    took_ms = []
    for _ in range(5):  # the fastest counts: another program may have used the processor
        pool_panel.run()
        pool_panel.wait_for_live_changes()
        took_ms.append(page.page.evaluate(STOP_MS, [f".{pool_panel.part('stop')}", f".{pool_panel.part('status')}"]))
        if 0 < took_ms[-1] < 500:
            break
    assert 0 < took_ms[-1] < 500, took_ms


def test_arrow_keys_choose_from_a_list_and_do_not_move_the_notebook(pool_panel: ShownPanel, page: Notebook) -> None:
    chosen = page.find(pool_panel.part("pool")).locator("select")
    chosen.select_option("Sequential")
    chosen.focus()
    page.press("ArrowDown")
    assert chosen.input_value() == "SharedModel"


@pytest.mark.parametrize("view", ["window of 1024 pixels", "zoom of 200 %"])
def test_nothing_is_clipped(page: Notebook, view: str) -> None:
    before = page.page.viewport_size
    try:
        if view.startswith("window"):
            page.page.set_viewport_size({"width": 1024, "height": 768})
        else:
            page.zoom(200)
        for name in PANELS:
            root = page.find(f"yolothreads-panel-{name}")
            root.scroll_into_view_if_needed()
            (SHOTS / f"{name} {view}.png").write_bytes(page.page.screenshot())
            assert root.evaluate(FIND_CLIPPED) == [], name
    finally:
        page.zoom(100)
        page.page.set_viewport_size(before)


@pytest.mark.parametrize(
    ("theme", "rules"),
    [
        ("JupyterLab Light", ()),  # all rules, such as contrast, and names of controls for a screen reader
        ("JupyterLab Dark", ("color-contrast",)),
    ],
)
def test_panels_are_accessible_in_light_and_dark_themes(page: Notebook, theme: str, rules: tuple[str, ...]) -> None:
    page.theme(theme)
    for name in PANELS:
        (SHOTS / f"{name} {theme}.png").write_bytes(page.find(f"yolothreads-panel-{name}").screenshot())
    assert page.axe("yolothreads-panel", *rules) == []
