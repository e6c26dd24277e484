"""Time limits that only keep a test from hanging. A slow machine multiplies all of them at once."""

import os


def scaled(seconds: float) -> float:
    """Return a time limit in seconds, multiplied by the environment variable YOLOTHREADS_DEADLINE_SCALE (default 1)."""
    return seconds * float(os.environ.get("YOLOTHREADS_DEADLINE_SCALE") or 1)
