"""Style of all panels: one style sheet for light and dark themes, and the small pieces of HTML that panels share."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from yolothreads.arguments import at_least_one
from yolothreads.errors import ArgumentError
from yolothreads.lessons.figures import Figure
from yolothreads.palette import BAD, BLUE, GOOD, GREY, MIDDLE_GREY, ODD, ORANGE, WHITE

if TYPE_CHECKING:
    from ipywidgets import HTML, BoundedIntText

# Colours of text, lines and backgrounds come from JupyterLab's theme, so that they are readable in light and in dark.
TEXT_COLOUR = "var(--jp-ui-font-color1, currentColor)"
LINE_COLOUR = f"var(--jp-border-color0, {GREY})"
_GROUND = f"var(--jp-layout-color1, {WHITE})"
_BUTTON = "#005a94"  # the palette's blue, darker: white text on it stands out by 7 to 1

_SUMMARY = "The same as pictures that stay in the notebook"

SHEET = f"""<style>
.yolothreads-panel {{ border: 1px solid {_LINE}; padding: 8px; color: {_TEXT}; overflow: visible; }}
.yolothreads-panel .widget-html-content {{ color: {_TEXT}; line-height: 1.4; }}
.yolothreads-panel .widget-html, .yolothreads-panel .widget-html > .widget-html-content {{ width: 100%; height: auto; }}
.yolothreads-panel .widget-label {{ color: {_TEXT}; width: auto; min-width: 5em; height: auto; white-space: normal; }}
.yolothreads-panel button:focus-visible, .yolothreads-panel input:focus-visible,
.yolothreads-panel select:focus-visible {{ outline: 3px solid {ORANGE}; outline-offset: 1px; }}
.yolothreads-panel .jupyter-button {{ width: auto; height: auto; min-height: 28px; white-space: normal; }}
.yolothreads-panel .jupyter-button.mod-primary {{ background: {_BUTTON}; color: {WHITE}; }}
.yolothreads-row {{ flex-flow: row wrap; gap: 4px 12px; align-items: center; overflow: visible; }}
.yolothreads-row > .widget-inline-hbox {{ width: auto; height: auto; max-width: 100%; }}
.yolothreads-row > .widget-html {{ width: auto; flex: 1 1 14em; }}
.yolothreads-numbers {{ display: flex; flex-wrap: wrap; gap: 2px 20px; margin: 4px 0; }}
.yolothreads-numbers > div {{ min-width: 7em; }}
.yolothreads-numbers b {{ display: block; font-size: 1.25em; font-variant-numeric: tabular-nums; }}
.yolothreads-counts {{ display: flex; flex-wrap: wrap; gap: 4px 8px; margin: 4px 0; }}
.yolothreads-counts > div {{ border: 1px solid {_LINE}; border-left-width: 8px; padding: 2px 10px; min-width: 8em; }}
.yolothreads-counts b {{ font-size: 1.4em; font-variant-numeric: tabular-nums; margin-right: 6px; }}
.yolothreads-panel progress {{ width: 100%; height: 12px; accent-color: {BLUE}; }}
.yolothreads-lanes {{ display: grid; grid-template-columns: max-content minmax(0, 1fr); column-gap: 8px; }}
.yolothreads-lanes > span {{ line-height: 24px; }}
.yolothreads-lanes svg {{ width: 100%; grid-column: 2; display: block; background: {_GROUND}; }}
.yolothreads-lanes .axis {{ grid-column: 2; display: flex; justify-content: space-between; }}
.yolothreads-legend {{ display: flex; flex-wrap: wrap; gap: 2px 16px; }}
.yolothreads-legend svg {{ width: 28px; height: 14px; vertical-align: middle; margin-right: 4px; }}
.yolothreads-bars {{ display: grid; grid-template-columns: max-content minmax(4em, 1fr) max-content; gap: 3px 10px; }}
.yolothreads-bars > div {{ position: relative; height: 18px; border-left: 1px solid {_LINE}; }}
.yolothreads-bars i {{ position: absolute; display: block; }}
.yolothreads-bars i.bar {{ top: 2px; height: 14px; background: {BLUE}; }}
.yolothreads-bars i.range {{ top: 5px; height: 8px; border: solid {_TEXT}; border-width: 0 2px; }}
.yolothreads-bars i.range::before {{ content: ""; position: absolute; top: 3px; width: 100%;
  border-top: 2px solid {_TEXT}; }}
.yolothreads-pictures {{ display: flex; flex-wrap: wrap; gap: 8px; margin: 4px 0; }}
.yolothreads-pictures figure {{ margin: 0; max-width: 100%; flex: 0 1 auto; }}
.yolothreads-pictures img {{ max-width: 100%; height: auto; display: block; }}
.yolothreads-strips {{ display: grid; grid-template-columns: max-content minmax(0, 1fr); gap: 2px 6px; }}
.yolothreads-strips svg {{ width: 100%; display: block; background: {_GROUND};
  border: solid {_LINE}; border-width: 0 0 1px 1px; }}
.yolothreads-strips .title {{ grid-column: 1 / -1; display: flex; flex-wrap: wrap; gap: 2px 16px; margin-top: 4px; }}
.yolothreads-strips .title i {{ display: inline-block; margin-right: 5px; vertical-align: middle; }}
.yolothreads-strips .title i.line {{ width: 24px; border-top: 2px dashed {_TEXT}; }}
.yolothreads-strips .title i.tick {{ height: 14px; border-left: 3px solid; }}
.yolothreads-strips .scale {{ display: flex; flex-flow: column; justify-content: space-between; text-align: right;
  padding-top: 8px; }}
.yolothreads-strips .axis {{ grid-column: 2; display: flex; justify-content: space-between; }}
.yolothreads-cameras figure {{ flex: 1 1 230px; max-width: 320px; }}
.yolothreads-cameras img {{ width: 100%; }}
.yolothreads-cameras figcaption {{ min-height: 4.2em; }}
.yolothreads-rows {{ flex-flow: column; height: auto; align-items: stretch; }}
.yolothreads-rows select {{ font-family: monospace; width: 100%; color: {_TEXT};
  background: {_GROUND}; }}
.yolothreads-rows .widget-label {{ text-align: left; line-height: 1.4; }}
.yolothreads-rows option {{ white-space: normal; overflow-wrap: anywhere; border-left: 6px solid {GOOD};
  padding-left: 2em; text-indent: -1.5em; }}
.yolothreads-rows option[data-value^="%E2%9C%97"] {{ border-left-color: {BAD}; }}
.yolothreads-rows option[data-value^="!"] {{ border-left-color: {ODD}; }}
.yolothreads-rows option[data-value^="%3D"] {{ border-left-color: {GREY}; }}
.yolothreads-stepper {{ overflow: visible; gap: 4px; }}
.yolothreads-stepper code {{ color: inherit; background: none; font-family: monospace; white-space: pre-wrap;
  overflow-wrap: anywhere; }}
.yolothreads-threads .widget-html-content > div {{ padding: 1px 0; }}
.yolothreads-badge {{ display: inline-block; border-radius: 3px; padding: 0 5px; margin-right: 2px;
  white-space: nowrap; }}
.yolothreads-listing {{ border: 1px solid {_LINE}; margin-bottom: 4px; }}
.yolothreads-listing > .head {{ border-bottom: 1px solid {_LINE}; padding: 1px 6px; font-weight: bold; }}
.yolothreads-listing > div:not(.head) {{ display: grid; grid-template-columns: 3.4em 2.6em minmax(0, 1fr);
  column-gap: 8px; }}
.yolothreads-listing > div > span {{ text-align: right; }}
.yolothreads-listing > .turn {{ background: var(--jp-layout-color2, #eeeeee); outline: 1px solid {_LINE}; }}
.yolothreads-shared .changed th {{ border-left: 6px solid {ORANGE}; padding-left: 6px; }}
.yolothreads-shared th[scope="row"] {{ font-weight: normal; padding-left: 12px; overflow-wrap: anywhere; }}
.yolothreads-shared td, .yolothreads-shared th {{ vertical-align: top; }}
.yolothreads-panel pre {{ margin: 0; color: inherit; background: none; white-space: pre; overflow-x: auto; }}
.yolothreads-panel table {{ border-collapse: collapse; }}
.yolothreads-panel td, .yolothreads-panel th {{ text-align: left; padding: 1px 12px 1px 0; }}
</style>"""


class RunOutput:
    """Output of a run in the notebook: things with `_repr_html_` and `str`, one below another, shown as one output.

    Args:
        parts: the things, in order; a string is a paragraph.
        fold_figures: hide the figures until a reader opens them, because the panel above shows them already.
    """

    def __init__(self, parts: Iterable[Any], *, fold_figures: bool = False) -> None:
        self.parts, self.fold_figures = list(parts), fold_figures

    def _repr_html_(self) -> str:
        plain = "".join(_html_of(part) for part in self.parts if not isinstance(part, Figure))
        figures = "".join(_html_of(part) for part in self.parts if isinstance(part, Figure))
        if self.fold_figures and figures:
            figures = f"<details><summary>{_SUMMARY}</summary>{figures}</details>"
        return plain + figures

    def __repr__(self) -> str:
        return "\n".join(map(str, self.parts))


def _html_of(part: Any) -> str:
    return f"<p>{escape(part)}</p>" if isinstance(part, str) else str(part._repr_html_())


def html_widget(name: str) -> HTML:
    """Return an empty HTML widget of the class yolothreads-`name`."""
    from ipywidgets import HTML

    widget = HTML()
    widget.add_class(f"yolothreads-{name}")
    return widget


def number_field(name: str, value: int, most: int, label: str = "", least: int = 1) -> BoundedIntText:
    """Return a field for a whole number.

    Args:
        name: the argument's name, for the error message.
        value: what the field shows at first.
        most: the largest number that can be entered.
        label: the text beside the field; by default the name.
        least: the smallest number that can be entered, 1 or more.

    Raises:
        ArgumentError: `value` is not a whole number from `least` to `most`.
    """
    from ipywidgets import BoundedIntText

    if not least <= at_least_one(name, value) <= most:
        raise ArgumentError(f"{name}={value!r} is out of range; give a whole number from {least} to {most}.")
    return BoundedIntText(value=value, min=least, max=most, description=label or name)


def status(text: str, *, is_error: bool = False) -> str:
    """Return the line beside the buttons."""
    mark = f'<span style="border-left:6px solid {BAD};padding-left:6px">' if is_error else "<span>"
    return f'{mark}<span role="status">{escape(text)}</span></span>'


def numbers(values: Mapping[str, str]) -> str:
    """Return labels with a value below each."""
    boxes = "".join(f"<div>{label}<b>{value}</b></div>" for label, value in values.items())
    return f'<div class="yolothreads-numbers">{boxes}</div>'


def counts(values: Mapping[str, tuple[int, str]]) -> str:
    """Return boxes with growing counts, each given as label -> (count, colour)."""
    boxes = "".join(
        f'<div style="border-left-color:{colour}"><b>{count}</b>{label}</div>'
        for label, (count, colour) in values.items()
    )
    return f'<div class="yolothreads-counts">{boxes}</div>'


def picture(pixels: NDArray[np.uint8], alt: str, caption: str, width: int = 320) -> str:
    """Return an image of (H, W, 3) uint8 BGR as a figure with a caption, at most `width` pixels wide."""
    import cv2

    if pixels.shape[1] > width:
        pixels = cv2.resize(pixels, (width, round(pixels.shape[0] * width / pixels.shape[1])))  # type: ignore[assignment]
    data = base64.b64encode(cv2.imencode(".jpg", pixels)[1].tobytes()).decode()
    image = f'<img alt="{escape(alt)}" src="data:image/jpeg;base64,{data}">'
    return f"<figure>{image}<figcaption>{escape(caption)}</figcaption></figure>"


def pictures(figures: Iterable[str]) -> str:
    """Return figures side by side, or below one another where there is no room."""
    return f'<div class="yolothreads-pictures">{"".join(figures)}</div>'
