"""The entries of the catalogue, in the order in which people meet them."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from yolothreads.hazards import locks, sharing, surroundings
from yolothreads.hazards.entry import Hazard
from yolothreads.pools import POOLS

_SHARED, _NONE = ("SharedModel",), ()
_ALL = tuple(pool.__name__ for pool in POOLS)

_ENTRIES = (
    Hazard(
        "argument-leak", "Arguments leak from call to call", "seen",
        "A call gets the boxes that another call's conf, classes or max_det allow, and no error says so.",
        "Give each thread a model, or put one lock around the whole call.",
        "A is stopped after it wrote its arguments into the predictor, and B runs.",
        _SHARED, force=sharing.force_leak, meet=sharing.leak_in, chance=sharing.natural_leak,
    ),
    Hazard(
        "first-call", "A predictor is seen before it is set up", "seen",
        "Weights are read from the disc again and edits in memory are ignored, or a TypeError comes.",
        "Make one prediction before threads share a model, or share none.",
        "A is stopped between publishing the predictor and setting it up, and B predicts.",
        _NONE, force=sharing.force_first, meet=sharing.first_in, chance=sharing.natural_first,
    ),
    Hazard(
        "setup-keys", "Some settings rebuild the predictor", "seen",
        "Calls that alternate between devices, trackers or precisions are slow, and lose their tracks.",
        "Use a model for each such setting.",
        "One setting alternates between two values that both were used before.",
        _NONE, force=sharing.force_setup, meet=sharing.setup_in,
    ),
    Hazard(
        "anchor-cache", "The head remembers one shape", "seen",
        "Two shapes at once through one network end in an error about sizes, or in boxes off by many pixels.",
        "Keep a raw network private to a thread; predict() of one YOLO object guards it with a lock.",
        "A is stopped after the head stored anchors for its shape, and B runs with another shape.",
        _NONE, force=sharing.force_anchors, meet=sharing.anchors_in, chance=sharing.natural_anchors,
    ),
    Hazard(
        "stream-holds-lock", "A half-used stream keeps the lock", "seen",
        "After a stream=True generator that was not used up, every later predict of that model hangs.",
        "Use the stream up, or close it: with contextlib.closing(model.predict(..., stream=True)) as results.",
        "One result is taken and the generator kept; another thread predicts.",
        _NONE, force=locks.force_stream, meet=locks.stream_in,
    ),
    Hazard(
        "lock-scope", "ThreadingLocked covers less than it seems", "seen",
        "A locked function that calls itself hangs, two decorators do not exclude each other, generators run unlocked.",
        "Use one decorator object for every use of a model, and use results up inside.",
        "From inside a locked function its own lock and another decorator's are tried.",
        _NONE, force=locks.force_scope, meet=locks.scope_in,
    ),
    Hazard(
        "tracker-mix", "Two cameras, one tracker", "seen",
        "A model that follows two cameras gives ids that jump between them.",
        "Use a model, or a tracker, for each camera.",
        "Frames of two cameras go through one model in turn.",
        _NONE, force=sharing.force_trackers, meet=sharing.trackers_in,
    ),
    Hazard(
        "run-directory", "Saved pictures overwrite each other", "seen",
        "With save=True a later picture replaces an earlier one of the same name, even from a separate model.",
        "Give each call, or each worker, a project or name of its own.",
        "A is stopped between choosing the run folder and making it, and B chooses.",
        _ALL, force=surroundings.force_directory, meet=surroundings.directory_in,
        chance=surroundings.natural_directory,
    ),
    Hazard(
        "fork", "A forked child inherits locks, but no threads", "seen",
        "A child that was forked from a process that has predicted hangs at its first prediction.",
        'Start processes with multiprocessing.get_context("spawn"), and load a model in each.',
        "A process forks while one of its threads predicts; the child predicts.",
        _ALL, force=surroundings.force_fork, meet=surroundings.fork_in, apart=True,
    ),
    Hazard(
        "thread-count", "Setting a model up undoes torch.set_num_threads", "seen",
        "N workers use M threads each, and all are slower.",
        "Make a first prediction, then set the number of threads.",
        "The count is set, a model makes its first prediction, the count is read.",
        _NONE, force=surroundings.force_threads, meet=surroundings.threads_in,
    ),
    Hazard(
        "nms-clock", "NMS stops after a wall time", "seen",
        "Under load the last images of a batch have no boxes; a line in the log is all that says so.",
        "Use smaller batches, or a model that needs no NMS, and look for the line in the log.",
        "NMS sees a clock that runs fast, with a batch of four images.",
        _NONE, force=surroundings.force_clock, meet=surroundings.clock_in,
    ),
    Hazard(
        "aliasing", "Two names, one model", "seen",
        "YOLO(model) and copy.copy(model) look like second models, and share the first one's insides.",
        "Load the weights again.",
        "Both are made, and their insides compared with the model's.",
        _NONE, force=sharing.force_aliases, meet=sharing.aliases_in,
    ),
    Hazard(
        "shutdown", "Threads that nobody joins outlive the interpreter", "seen in part",
        "A thread still predicting when the script ends fails: cannot schedule new futures after interpreter shutdown.",
        "Join every thread, or use a with block, which does.",
        "The main thread ends; a thread that it started predicts a folder of pictures, loaded ahead.",
        _NONE, force=surroundings.force_shutdown, meet=surroundings.shutdown_in, apart=True,
    ),
    Hazard(
        "prompts", "Prompts are set outside the lock", "read",
        "With SAM, FastSAM or YOLOE, one call's image is answered with another call's prompts.",
        "Give each thread a model.",
        "not tried here: it needs a model that takes prompts.",
        _SHARED, versions="read in 8.4.190",
    ),
    Hazard(
        "cuda-default-stream", "All threads queue on one CUDA stream", "read",
        "On one GPU the work of several threads does not overlap.",
        "Use batches, or a CUDA stream for each thread.",
        "not tried here: it needs a GPU.",
        ("SharedModel", "ModelsBuiltOutside"), versions="read in 8.4.190",
    ),
)  # fmt: skip

CATALOGUE: Mapping[str, Hazard] = MappingProxyType({hazard.id: hazard for hazard in _ENTRIES})
"""Every hazard known, by id."""
