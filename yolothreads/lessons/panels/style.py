"""Style of all panels: one style sheet for light and dark themes, and the small pieces of HTML that panels share."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from yolothreads.errors import ArgumentError, at_least_one
from yolothreads.lessons.figures import Figure
from yolothreads.lessons.texts import section
from yolothreads.palette import BAD, BLUE, GOOD, GREY, ODD, ORANGE, WHITE

if TYPE_CHECKING:
    from ipywidgets import HTML, BoundedIntText

_TEXTS = section("panels", "style")

TEXT_COLOUR = "var(--yt-text)"

_COLOURS = {"blue": BLUE, "orange": ORANGE, "white": WHITE, "good": GOOD, "bad": BAD, "odd": ODD, "grey": GREY}
SHEET = (
    f"<style>.yolothreads-panel {{ {' '.join(f'--yt-{name}: {colour};' for name, colour in _COLOURS.items())} }}\n"
    f"{Path(__file__).with_name('panels.css').read_text(encoding='utf-8')}</style>"
)


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
            figures = f"<details><summary>{_TEXTS['summary']}</summary>{figures}</details>"
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
