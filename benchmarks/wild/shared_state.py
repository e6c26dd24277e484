"""Races in which an object keeps the state of one call in itself, and two threads call it."""

from __future__ import annotations

import os
from typing import Any

from benchmarks.wild.bug import Program, Registry

RACES = Registry()
_GITHUB = "https://github.com"
_PANDAS = " pandas==2.3.3 pytz==2025.2 tzdata==2025.2"


@RACES.bug(
    f"{_GITHUB}/ultralytics/ultralytics/issues/6174",
    buggy="ultralytics==8.0.203 py-cpuinfo==9.0.0" + _PANDAS,
    fixed="ultralytics==8.0.208 py-cpuinfo==9.0.0" + _PANDAS,
    watch="ultralytics.engine.predictor ultralytics.models.yolo.detect.predict",
)
def ultralytics(_: bool) -> Program:
    """A predictor keeps the batch that it works on in itself: two threads that predict with one model get results with
    each other's pictures.
    """
    import numpy as np
    from ultralytics import YOLO

    model = YOLO("yolov8n.yaml", task="detect")
    dark, light = (np.full((32, 32, 3), value, np.uint8) for value in (10, 200))

    def predict(image: Any) -> int:
        (result,) = model.predict(image, imgsz=32, device="cpu", verbose=False)
        return int(result.orig_img.mean())

    predict(dark)
    return Program(lambda: predict(dark), lambda: predict(light))


_ALBUMENTATIONS = (
    " numkong==7.8.6 stringzilla==5.3.2 scipy==1.17.1"
    " pydantic==2.12.5 pydantic-core==2.41.5 annotated-types==0.7.0 typing-inspection==0.4.2"
)


@RACES.bug(
    f"{_GITHUB}/albumentations-team/AlbumentationsX/issues/419",
    buggy="albumentationsx==2.3.1 albucore==0.1.6" + _ALBUMENTATIONS,
    fixed="albumentationsx==2.5.1 albucore==0.2.21" + _ALBUMENTATIONS,
    watch="albumentations.core.composition albumentations.core.transforms_interface",
)
def albumentationsx(_: bool) -> Program:
    """`Compose` notes in itself whether it gave a grey picture a channel axis: another thread's picture gets one too
    many, or comes back with one.
    """
    os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"
    import albumentations
    import numpy as np

    grey, colour = np.zeros((8, 8), np.uint8), np.zeros((8, 8, 3), np.uint8)

    def shape(image: Any) -> Any:
        return lambda compose: compose(image=image)["image"].shape

    return Program(
        shape(grey),
        shape(colour),
        setup=lambda: albumentations.Compose([albumentations.HorizontalFlip(p=1.0)], seed=1),
    )


@RACES.bug(
    f"{_GITHUB}/roboflow/supervision/issues/1528",
    buggy="supervision==0.23.0 scipy==1.17.1",
    fixed="supervision==0.25.0 scipy==1.17.1",
    watch="supervision.tracker",
)
def supervision(_: bool) -> Program:
    """The numbers of tracks are counted in the class: two trackers in two threads take numbers from each other, and a
    track of one gets the number that belongs to the other.
    """
    import numpy as np
    import supervision

    boxes = supervision.Detections(
        xyxy=np.array([[0.0, 0.0, 10.0, 10.0]]), confidence=np.array([0.9]), class_id=np.array([0])
    )

    def two_trackers() -> list[Any]:
        trackers = [supervision.ByteTrack(), supervision.ByteTrack()]
        for tracker in trackers:
            tracker.reset()
        return trackers

    def follow(i: int) -> Any:
        return lambda trackers: [int(n) for n in trackers[i].update_with_detections(boxes).tracker_id]

    return Program(follow(0), follow(1), setup=two_trackers)


@RACES.bug(
    f"{_GITHUB}/pyparsing/pyparsing/issues/604",
    buggy="pyparsing==3.2.3",
    fixed="pyparsing==3.2.4",
    watch="pyparsing",
)
def pyparsing(_: bool) -> Program:
    """With packrat parsing, one cache serves all parsers, and each parse empties it: an entry is gone between the test
    and the look-up, or comes from another thread's text.
    """
    import pyparsing

    pyparsing.ParserElement.enable_packrat(cache_size_limit=1)
    words = pyparsing.OneOrMore(pyparsing.Word(pyparsing.alphas))
    return Program(lambda: words.parse_string("a b").as_list(), lambda: words.parse_string("c d").as_list())


@RACES.bug(
    f"{_GITHUB}/giampaolo/psutil/issues/1948",
    buggy="psutil==5.8.0",
    fixed="psutil==5.9.0",
    watch="psutil",
    preemptions=2,
)
def psutil(_: bool) -> Program:
    """`with process.oneshot()` gives the process a cache and takes it away at the end, while another thread, which
    found no entry in it, stores one: AttributeError. Two preemptions.
    """
    import psutil

    def once(process: Any) -> None:
        with process.oneshot():
            process.ppid()

    return Program(once, lambda process: process.uids().real >= 0, setup=psutil.Process)


@RACES.bug(
    f"{_GITHUB}/python-jsonschema/jsonschema/issues/223",
    buggy="jsonschema==4.17.3 pyrsistent==0.20.0",
    fixed="jsonschema==4.18.0",
    watch="jsonschema",
    preemptions=2,
)
def jsonschema(fixed: bool) -> Program:
    """A validator's resolver keeps the stack of the schemas that it is in: two threads that validate look their
    references up in each other's schema. Two preemptions.
    """
    import jsonschema

    base = "http://example.org"
    other: dict[str, Any] = {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "$id": f"{base}/other.json",
        "definitions": {"t": {"$ref": "#/definitions/u"}, "u": {"type": "integer"}},
    }
    root = {
        "$id": f"{base}/root.json",
        "definitions": {"v": {"type": "string"}},
        "properties": {"a": {"$ref": "other.json#/definitions/t"}, "b": {"$ref": "#/definitions/v"}},
    }

    def with_resolver() -> Any:
        resolver = jsonschema.RefResolver.from_schema(root, store={other["$id"]: other})
        return jsonschema.Draft7Validator(root, resolver=resolver)

    def with_registry() -> Any:
        from referencing import Registry, Resource

        return jsonschema.Draft7Validator(
            root, registry=Registry().with_resource(other["$id"], Resource.from_contents(other))
        )

    return Program(
        lambda validator: validator.is_valid({"a": 1}),
        lambda validator: validator.is_valid({"b": "x"}),
        setup=with_registry if fixed else with_resolver,
    )


@RACES.bug(
    f"{_GITHUB}/jd/tenacity/issues/701",
    buggy="tenacity==9.2.1",
    watch="tenacity",
)
def tenacity(_: bool) -> Program:
    """`function.statistics` of a retried function belongs to all its callers: a thread reads how often another one had
    to try.
    """
    import tenacity

    def flaky() -> Any:
        @tenacity.retry(stop=tenacity.stop_after_attempt(5), wait=tenacity.wait_none())
        def call(failures: list[int]) -> None:
            if failures:
                failures.pop()
                raise OSError("once more")

        return call

    def attempts(failures: int) -> Any:
        def call(flaky: Any) -> int:
            flaky([1] * failures)
            return int(flaky.statistics["attempt_number"])

        return call

    return Program(attempts(0), attempts(1), setup=flaky)
