"""Every error the kit raises on purpose.

    YoloThreadsError
    ├── ArgumentError     a value that makes no sense: workers=0, an unknown setting (also a ValueError)
    ├── DeviceError       a device that this machine does not have
    ├── ImageError        one image that cannot be read, or no images at all
    ├── WeightsError      weights that are missing, damaged, unsafe or made for another task
    ├── ExploreError      an exploration that cannot be run, or a schedule that cannot be replayed (also a ValueError)
    ├── PoolClosedError   submit() before `with pool:` or after it (also a RuntimeError)
    ├── NotebookError     a notebook or a notebook parameter that does not exist, or a notebook that failed
    └── OutputError       a file that could not be written

Each message names the thing, what is wrong with it, and what to do, in at most two sentences.
"""


class YoloThreadsError(Exception):
    """Base class: catch it to catch everything that the kit raises on purpose."""


class ArgumentError(YoloThreadsError, ValueError):
    """An argument has a value that makes no sense."""


class DeviceError(YoloThreadsError):
    """The device asked for is not on this machine."""


class ImageError(YoloThreadsError):
    """An image is missing, unreadable or of the wrong kind, or a folder holds none."""


class WeightsError(YoloThreadsError):
    """Weights are missing, damaged, unsafe to load, or made for another task."""


class ExploreError(YoloThreadsError, ValueError):
    """An exploration cannot be run, or a schedule cannot be replayed."""


class PoolClosedError(YoloThreadsError, RuntimeError):
    """Work was given to a pool that is not open."""


class NotebookError(YoloThreadsError):
    """A notebook, or a parameter of one, does not exist; or a notebook failed."""


class OutputError(YoloThreadsError):
    """A file could not be written."""
