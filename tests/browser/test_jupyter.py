"""Tests of the browser helpers: they detect faults, and their actions take effect."""

import pytest

from .jupyter import Lab

WIDGETS = """
import ipywidgets as w
button, said = w.Button(description="Say"), w.Label("nothing")
button.add_class("say"), said.add_class("said")
button.on_click(lambda _: setattr(said, "value", "something was said"))
far = w.HTML('<div style="height: 1500px"></div>')  # moves the next widget out of view
grey = w.HTML('<p style="color: #bbb; background: white">too pale</p>')
grey.add_class("grey")
w.VBox([button, said, far, grey])
"""


@pytest.mark.timeout(120)
def test_cell_errors_console_errors_and_outside_requests_are_detected(lab: Lab) -> None:
    asking = '<img src="http://elsewhere.invalid/x.png">'
    name = lab.write("faults", f"from IPython.display import HTML; HTML({asking!r})", "1 / 0")
    with lab.open(name) as notebook:
        with notebook.context.expect_event("console", lambda message: "ERR_NAME_NOT_RESOLVED" in message.text):
            assert notebook.run_all() is False
        assert notebook.cell_errors() == ["ZeroDivisionError: division by zero"]
        assert notebook.pop_ups() == []
        with notebook.context.expect_event("weberror"):
            notebook.page.evaluate("() => { setTimeout(() => { throw new Error('thrown') }) }")
        assert set(notebook.outside_requests) == {"http://elsewhere.invalid/x.png"}
        assert any("ERR_NAME_NOT_RESOLVED" in error for error in notebook.console_errors)
        assert "thrown" in notebook.console_errors


@pytest.mark.timeout(120)
def test_the_helpers_click_wait_press_zoom_and_change_the_theme(lab: Lab) -> None:
    with lab.open(lab.write("widgets", WIDGETS)) as notebook:
        assert notebook.run_all() is True
        notebook.click("say")
        assert notebook.wait_for_text("said", "^something") == "something was said"
        notebook.press("Shift+Tab", "Tab")
        assert notebook.page.evaluate("document.activeElement.innerText") == "Say"
        assert notebook.axe("grey", "color-contrast")[0].startswith("color-contrast: <p")
        assert notebook.axe("said", "color-contrast") == []
        notebook.theme("JupyterLab Dark")
        assert notebook.page.evaluate("document.body.dataset.jpThemeLight") == "false"
        notebook.zoom(200)
        assert notebook.page.evaluate("[innerWidth, devicePixelRatio]") == [640, 2]


@pytest.mark.timeout(120)
def test_every_notebook_opens_with_the_initial_settings(lab: Lab) -> None:
    with lab.open(lab.write("dark", "1")) as notebook:
        notebook.theme("JupyterLab Dark")
    with lab.open("dark") as notebook:
        assert notebook.page.evaluate("document.body.dataset.jpThemeName") == "JupyterLab Light"
        assert notebook.page.locator(".jp-NotebookPanel").count() == 1
