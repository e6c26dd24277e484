"""Races: how often something goes wrong by itself. Standard library only; it knows nothing of YOLO."""

from yolothreads.races.trials import EXCEPTION, RIGHT, WRONG, Rate, rate

__all__ = ["EXCEPTION", "RIGHT", "WRONG", "Rate", "rate"]
