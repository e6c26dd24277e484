"""Spans: nothing is recorded while off, each stage while on, and ultralytics is restored at the end."""

import threading
from contextlib import closing
from itertools import pairwise
from time import perf_counter

import pytest
from deadlines import scaled
from fakes import WAIT_S
from ultralytics import YOLO
from ultralytics.engine.predictor import BasePredictor
from ultralytics.models.yolo.detect import DetectionPredictor
from ultralytics.utils import ThreadingLocked

from yolothreads import trace
from yolothreads.pools import LockedModel, ModelPerThread
from yolothreads.scenes import scene
from yolothreads.trace import STAGES, TracedLock

pytestmark = pytest.mark.timeout(scaled(120))


@pytest.fixture(scope="module")
def model() -> YOLO:
    """The bundled model, warmed up at 320 px."""
    from yolothreads.weights import bundled

    model = YOLO(bundled())
    model.predict(scene(1, (320, 320)).image, imgsz=320, device="cpu", verbose=False)
    return model


def in_thread(name: str, work) -> threading.Thread:
    thread = threading.Thread(target=work, name=name)
    thread.start()
    return thread


def test_nothing_is_recorded_unless_a_recording_is_on(model: YOLO) -> None:
    with trace.recording() as spans:
        pass
    with trace.span("python"):
        model.predict(scene(1, (320, 320)).image, imgsz=320, device="cpu", verbose=False)
    trace.add("infer", 1.0, 2.0)
    assert spans == [] and trace._spans is None


def test_a_prediction_in_a_thread_records_its_stages_in_order(model: YOLO) -> None:
    image = scene(1, (320, 320)).image
    with trace.recording() as spans:
        begin = perf_counter()
        in_thread("camera", lambda: model.predict(image, imgsz=320, device="cpu", verbose=False)).join(WAIT_S)
        end = perf_counter()
    assert [s.stage for s in spans] == ["preprocess", "infer", "postprocess"]
    assert {s.thread for s in spans} == {"camera"}
    times = [t for s in spans for t in (s.start, s.end)]
    assert begin <= times[0] and times == sorted(times) and times[-1] <= end
    assert all(s.start < s.end and s.stage in STAGES for s in spans)


def test_loading_models_and_files_is_recorded_for_the_worker(tmp_path) -> None:
    import cv2

    file = tmp_path / "a.png"
    file.write_bytes(cv2.imencode(".png", scene(1, (64, 64)).image)[1].tobytes())
    with trace.recording() as spans, ModelPerThread(workers=1, device="cpu", imgsz=64) as pool:
        pool.submit(file).result(WAIT_S)
    # YOLO(), then the set-up of its predictor in the warm-up, then the file
    assert [s.stage for s in spans if s.stage == "load"] == ["load"] * 3
    assert [s.stage for s in spans][-4:] == ["load", "preprocess", "infer", "postprocess"]
    assert all(s.thread.startswith("ModelPerThread") for s in spans)


def test_waits_for_the_lock_of_the_predictor_are_recorded(model: YOLO) -> None:
    image = scene(1, (320, 320)).image
    with trace.recording() as spans:
        with closing(model.predict(image, imgsz=320, device="cpu", verbose=False, stream=True)) as stream:
            next(stream)  # a stream that is not exhausted holds the lock
            traced, watched = model.predictor._lock, NoticesWaiting()
            watched.lock, traced._lock = traced._lock, watched
            waiting = in_thread("second", lambda: model.predict(image, imgsz=320, device="cpu", verbose=False))
            assert watched.somebody_waits.wait(WAIT_S)
        waiting.join(WAIT_S)
    assert [s.stage for s in spans if s.thread == "second"] == ["wait", "preprocess", "infer", "postprocess"]
    assert "wait" not in [s.stage for s in spans if s.thread != "second"]


class NoticesWaiting:
    """A lock that sets an event when somebody is about to wait for it."""

    def __init__(self) -> None:
        self.lock, self.somebody_waits = threading.Lock(), threading.Event()

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        if blocking:
            self.somebody_waits.set()
        return self.lock.acquire(blocking, timeout)

    def release(self) -> None:
        self.lock.release()

    def locked(self) -> bool:
        return self.lock.locked()


def test_a_traced_lock_excludes_and_records_real_waits_only() -> None:
    inner = NoticesWaiting()
    lock, order = TracedLock(inner), []

    def second() -> None:
        with lock:
            order.append("second")

    with trace.recording() as spans:
        with lock:
            assert lock.locked() and spans == []  # free: no wait
            thread = in_thread("second", second)
            assert inner.somebody_waits.wait(WAIT_S)
            order.append("first")
        thread.join(WAIT_S)
    assert order == ["first", "second"] and not lock.locked()
    assert [(s.thread, s.stage) for s in spans] == [("second", "wait")]


def test_acquiring_without_blocking_records_no_wait() -> None:
    lock = TracedLock()
    with trace.recording() as spans, lock:
        assert not lock.acquire(blocking=False) and not lock.acquire(False)
        assert spans == []
        assert not lock.acquire(timeout=0.01)
        assert [s.stage for s in spans] == ["wait"]


def test_a_wait_for_a_locked_pool_is_recorded_once() -> None:
    with trace.recording() as spans, LockedModel(workers=2, device="cpu", imgsz=64) as pool:
        del spans[:]
        list(pool.map([scene(1, (64, 64)).image] * 12))
    for worker in {s.thread for s in spans}:
        waits = [s for s in spans if s.thread == worker and s.stage == "wait"]
        assert all(a.end <= b.start for a, b in pairwise(waits))
        assert len(waits) <= len([s for s in spans if s.thread == worker and s.stage == "infer"])


def test_a_lock_that_is_wrapped_twice_records_one_wait() -> None:
    inner = NoticesWaiting()
    outer = TracedLock(TracedLock(inner))
    with trace.recording() as spans:
        with outer:
            thread = in_thread("second", lambda: outer.acquire() and outer.release())
            assert inner.somebody_waits.wait(WAIT_S)
        thread.join(WAIT_S)
    assert [s.stage for s in spans] == ["wait"]


def test_after_an_error_the_recording_is_off_and_ultralytics_is_restored() -> None:
    places = [
        (YOLO, "__init__"),
        (BasePredictor, "setup_model"),
        (BasePredictor, "preprocess"),
        (BasePredictor, "inference"),
        (DetectionPredictor, "postprocess"),
        (BasePredictor, "stream_inference"),
        (ThreadingLocked, "__init__"),
    ]
    before = [owner.__dict__[name] for owner, name in places]
    with pytest.raises(ZeroDivisionError), trace.recording() as spans:
        assert all(owner.__dict__[name] is not was for (owner, name), was in zip(places, before, strict=True))
        with trace.span("python"):
            raise ZeroDivisionError
    assert [s.stage for s in spans] == ["python"]  # code that failed is recorded all the same
    assert all(owner.__dict__[name] is was for (owner, name), was in zip(places, before, strict=True))
    assert trace._spans is None
    with trace.recording():  # another one can begin
        pass


def test_recording_costs_less_than_1_percent_of_a_prediction(model: YOLO) -> None:
    image = scene(1, (320, 320)).image

    def best(work, times: int, rounds: int = 5) -> float:
        took = []
        for _ in range(rounds):
            start = perf_counter()
            for _ in range(times):
                work()
            took.append((perf_counter() - start) / times)
        return min(took)

    def one_span() -> None:
        with trace.span("python"):
            pass

    predict_s = best(lambda: model.predict(image, imgsz=320, device="cpu", verbose=False), times=2)
    with trace.recording() as spans:
        model.predict(image, imgsz=320, device="cpu", verbose=False)
        per_predict = len(spans)
        span_s = best(one_span, times=2000)
    off_s = best(one_span, times=2000)
    # The traced lock costs one more span at most, and less if no thread waits.
    assert (per_predict + 1) * span_s < 0.01 * predict_s, f"{span_s * 1e6:.1f} us a span, {predict_s * 1e3:.1f} ms"
    assert (per_predict + 1) * off_s < 0.001 * predict_s, f"{off_s * 1e6:.1f} us a span while off"
