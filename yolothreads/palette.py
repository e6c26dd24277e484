"""Colours of all figures, panels and tables: Okabe and Ito's palette, which colour-blind readers can tell apart.

No colour carries a meaning alone: a hatch, a sign or a word stands beside it.
"""

from typing import Literal, NamedTuple

BLUE, SKY, GREEN, ORANGE, RED, PINK = "#0072b2", "#56b4e9", "#009e73", "#e69f00", "#d55e00", "#cc79a7"
YELLOW = "#f0e442"  # for areas only: lines of it can hardly be seen on white
WHITE, BLACK = "#ffffff", "#000000"
SILVER, MIDDLE_GREY = "#bbbbbb", "#999999"
GREY = "#767676"  # the lightest grey that stands out from white by 4.5 to 1
INK = "#333333"  # outlines and lines of figures
DARK_TEXT = "#111111"  # on any colour here but blue
LIGHT_RED, LIGHT_ORANGE, LIGHT_BLUE = "#f4b6a6", "#fbe3c0", "#dcebf7"  # backgrounds of dark text

GOOD, BAD, ODD = GREEN, RED, PINK
"""What is right; what is silently wrong or refused; an error, or what came late."""

SERIES = (BLUE, ORANGE, GREEN, PINK, SKY, RED, BLACK)
"""Colours of the lines of one figure, in order."""

THREADS = ((BLUE, WHITE), (ORANGE, DARK_TEXT), (GREEN, DARK_TEXT), (PINK, DARK_TEXT))
"""Background and text colour of threads A, B, C and D; later threads begin again at the first."""


class Stage(NamedTuple):
    """Look of a stage of a thread's work: colour, matplotlib's hatch, the words of a legend, and its part of a lane."""

    colour: str
    hatch: str
    words: str
    band: Literal["full", "upper", "lower"] = "full"


STAGES = {
    "wait": Stage(WHITE, "////", "waits for a lock"),
    "load": Stage(SILVER, "....", "loads"),
    "preprocess": Stage(SKY, "", "preprocess", "upper"),
    "infer": Stage(BLUE, "", "in the network"),
    "postprocess": Stage(ORANGE, "xxxx", "postprocess", "lower"),
    "python": Stage(GREEN, "----", "Python code"),
    "turn": Stage(PINK, "\\\\\\\\", "has the turn"),
}
"""The look of each of `trace.STAGES`, in the same order."""
