"""Sources: the newest frame of a live source, and frames of files, folders, videos, cameras and streams."""

import itertools
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import cv2
import numpy as np
import pytest
from deadlines import scaled
from fakes import WAIT_S, FakeError, FakeModels, picture, tag_of
from PIL import Image, ImageOps

from yolothreads import sources
from yolothreads.errors import ArgumentError, ImageError, SourceError
from yolothreads.pools import Sequential
from yolothreads.sources import frames, latest

pytestmark = pytest.mark.timeout(scaled(120))


# --- the newest frame ---


class Stepped:
    """A live source that gives the next of its items when told to; `step` returns once the item has been taken."""

    def __init__(self, *items: Any) -> None:
        self._items, self._may, self._back = items, threading.Semaphore(0), threading.Semaphore(0)
        self.closed_in: threading.Thread | None = None

    def __iter__(self) -> Iterator[Any]:
        return self.camera()

    def camera(self) -> Iterator[Any]:
        try:
            for item in self._items:
                self._back.release()
                assert self._may.acquire(timeout=WAIT_S)
                yield item
            self._back.release()
        finally:
            self.closed_in = threading.current_thread()

    def began(self) -> None:
        assert self._back.acquire(timeout=WAIT_S)

    def step(self, count: int = 1) -> None:
        for _ in range(count):
            self._may.release()
            assert self._back.acquire(timeout=WAIT_S)


def asked(live: Iterator[Any]) -> Callable[[], Any]:
    """Ask for the next item in another thread; return a function that waits for it."""
    got: list[Any] = []
    thread = threading.Thread(target=lambda: got.append(next(live)))
    thread.start()

    def result() -> Any:
        thread.join(WAIT_S)
        return got[0]

    return result


def test_the_newest_item_is_given_and_those_before_it_are_dropped_and_counted() -> None:
    source = Stepped(1, 2, 3, 4, 5)
    live = latest(source)
    first = asked(live)
    source.began()
    source.step()
    assert first() == 1 and live.dropped == 0
    source.step(3)  # 2, 3 and 4, while nobody asks
    assert next(live) == 4 and live.dropped == 2
    source.step()
    assert next(live) == 5 and next(live, None) is None and live.dropped == 2
    live.close()


def test_a_live_source_is_closed_in_its_own_thread_and_gives_nothing_more() -> None:
    source = Stepped(1, 2)
    live = latest(source)
    first = asked(live)
    source.began()
    source.step()
    first()
    (thread,) = [t for t in threading.enumerate() if t.name == "source of latest: Stepped"]
    assert thread.daemon
    closer = threading.Thread(target=live.close)
    closer.start()
    source._may.release()  # the source is in the middle of its second item
    closer.join(WAIT_S)
    thread.join(WAIT_S)
    assert source.closed_in is thread and next(live, None) is None
    unused = latest(source)
    unused.close()
    assert next(unused, None) is None


def test_a_live_source_that_is_dropped_ends_its_thread() -> None:
    live = latest(itertools.count())
    next(live)
    (thread,) = [t for t in threading.enumerate() if t.name == "source of latest: count"]
    del live
    thread.join(WAIT_S)
    assert not thread.is_alive()


def test_the_error_of_a_live_source_comes_after_its_last_item() -> None:
    def camera() -> Iterator[int]:
        yield 1
        raise FakeError("cable")

    live = latest(camera())
    seen = []
    with pytest.raises(FakeError, match="cable"):
        seen.extend(live)
        seen.extend(live)
    assert live.dropped == 0 and next(live, None) is None


def test_items_are_copied_unless_asked_not_to() -> None:
    buffer, image = picture(1), Image.fromarray(picture(2))
    for item in (buffer, image):
        assert next(latest([item])) is not item
        assert next(latest([item], copy=False)) is item
    assert next(latest(["path.jpg"])) == "path.jpg"


@pytest.mark.parametrize("suffix", ["jpg", "png", "tif", "webp"])
def test_the_copy_of_a_picture_has_its_rotation(tmp_path: Path, suffix: str) -> None:
    pixels, exif = np.random.RandomState(0).randint(0, 255, (40, 20, 3), dtype=np.uint8), Image.Exif()
    exif[274] = 6  # to be turned by 90 degrees
    Image.fromarray(pixels).save(tmp_path / f"turned.{suffix}", exif=exif)
    with Image.open(tmp_path / f"turned.{suffix}") as one, Image.open(tmp_path / f"turned.{suffix}") as other:
        copied, read = (np.asarray(ImageOps.exif_transpose(image)) for image in (next(latest([one])), other))
    assert read.shape == (20, 40, 3) and np.array_equal(copied, read)


def test_a_pool_works_on_the_newest_frame_and_knows_the_age_of_each_result(
    fakes: FakeModels, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 100.0
    monkeypatch.setattr(sources.time, "perf_counter", lambda: now)
    source = Stepped(*map(picture, (1, 2, 3)))
    busy, goes_on = threading.Event(), threading.Event()
    fakes.inside = lambda model, tag: tag == 1 and (busy.set(), goes_on.wait(WAIT_S))
    with Sequential(device="cpu") as pool:
        live = latest(source)
        results = live.with_age(pool.map(live, buffersize=1))
        first = asked(results)
        source.began()
        source.step()
        assert busy.wait(WAIT_S)
        source.step(2)  # while the pool works on the first
        now = 100.25
        goes_on.set()
        (result, age_ms), (last, last_age_ms) = first(), next(results)
        assert (tag_of(result), tag_of(last)) == (1, 3)
        assert (age_ms, last_age_ms) == (pytest.approx(250), pytest.approx(250))
        assert live.dropped == 1 and list(results) == []
    with pytest.raises(ArgumentError, match="before that"):
        live.with_age([])


def test_several_sources_that_block_are_waited_for_together(monkeypatch: pytest.MonkeyPatch) -> None:
    now, waits = 0.0, []

    class Blocked(sources._Newest[int]):
        def join(self, grace_s: float = sources.GRACE_S) -> None:
            nonlocal now
            waits.append(grace_s)
            now += 0.75 * grace_s

    monkeypatch.setattr(sources.time, "monotonic", lambda: now)
    sources.join_all([Blocked(False) for _ in range(3)])
    assert waits == pytest.approx([2, 0.5, 0.125]) and now < sources.GRACE_S


PROGRAM = """
import itertools, threading, time
from yolothreads import latest
def camera():
    try:
        for i in itertools.count():
            time.sleep(0.001)
            yield i
    finally:
        print("closed", flush=True)
live = latest(camera())
next(live)
"""


def test_a_program_that_forgets_to_close_its_source_ends_in_order() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=scaled(60))
    assert (done.returncode, done.stdout, done.stderr) == (0, "closed\n", "")


# --- files ---


def video(path: Path, tags: Any, rate: float = 25) -> Path:
    """Write a video with one grey frame per tag."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), rate, (64, 48))
    for tag in tags:
        writer.write(np.full((48, 64, 3), tag, np.uint8))
    writer.release()
    return path


def still(path: Path, tag: int) -> Path:
    path.write_bytes(cv2.imencode(path.suffix, picture(tag))[1].tobytes())
    return path


def tags(source: Any, **given: Any) -> list[int]:
    """Return the brightness of each frame, to the next ten: videos are not exact."""
    return [round(int(frame.mean()), -1) for frame in frames(source, **given)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    still(tmp_path / "c.png", 30)
    video(tmp_path / "a.avi", (10, 20))
    still(tmp_path / "grün.bmp", 60)
    one, *others = [Image.fromarray(picture(tag)) for tag in (40, 50)]
    one.save(tmp_path / "d.gif", save_all=True, append_images=others, duration=40)
    (tmp_path / "notes.txt").write_text("no picture")
    return tmp_path


def test_files_folders_patterns_and_lists_are_read_in_order(folder: Path) -> None:
    assert tags(folder) == tags(str(folder)) == [10, 20, 30, 40, 50, 60]
    assert tags(folder / "c.png") == [30] and tags(folder / "d.gif") == [40, 50]
    assert tags(str(folder / "*.[ab]*")) == [10, 20, 60]
    assert tags([folder / "c.png", str(folder / "a.avi")]) == [30, 10, 20]
    frame = next(frames(folder / "c.png"))
    assert (frame.shape, frame.dtype) == ((32, 32, 3), np.uint8)


def test_each_frame_of_a_video_is_an_array_of_its_own(tmp_path: Path) -> None:
    one, two = frames(video(tmp_path / "a.avi", (10, 200)))
    assert one.mean() < 50 < two.mean()


@pytest.mark.parametrize(
    ("source", "error", "says"),
    [
        ("missing.mp4", SourceError, 'no file, folder or camera "missing.mp4"'),
        ("*.mp4", SourceError, r'pattern "\*.mp4" has no picture'),
        ([], SourceError, "list of files is empty"),
        ([0], ArgumentError, "camera in a list"),
        (True, ArgumentError, "bool is no source"),
        (None, ArgumentError, "NoneType is no source"),
    ],
    ids=str,
)
def test_what_cannot_be_read_is_an_error_at_once(
    source: Any, error: type[Exception], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error, match=says):
        frames(source)


def test_damaged_files_are_named(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "text.mp4").write_text("no video")
    (tmp_path / "text.png").write_text("no picture")
    with pytest.raises(ImageError, match=r'text\.mp4" could not be opened as a video'):
        frames(tmp_path / "text.mp4")
    read = frames([still(tmp_path / "good.png", 10), tmp_path / "text.png"])
    next(read)
    with pytest.raises(SourceError, match=r'text\.png" could not be read as a picture'):
        next(read)
    (tmp_path / "empty").mkdir()
    with pytest.raises(SourceError, match="has no picture and no video"):
        frames(tmp_path / "empty")


@pytest.mark.parametrize("wrong", [{"reconnect": -1}, {"reconnect": 1.5}, {"pause_s": -1}, {"timeout_s": "x"}], ids=str)
def test_senseless_options_are_refused(wrong: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match=f"{next(iter(wrong))}="):
        frames(tmp_path, **wrong)


def test_in_real_time_frames_come_at_the_rate_of_the_video(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now, given = 50.0, []

    def sleep(seconds: float) -> None:
        nonlocal now
        now += seconds

    monkeypatch.setattr(sources.time, "sleep", sleep)
    monkeypatch.setattr(sources.time, "monotonic", lambda: now)
    for _ in frames(video(tmp_path / "a.avi", range(0, 40, 10), rate=8), realtime=True):
        given.append(now - 50)
        now += 0.3 if len(given) == 2 else 0.0  # one frame takes long: the next comes at once, and then all in time
    assert given == pytest.approx([0, 0.125, 0.425, 0.425])


# --- cameras and streams ---


class FakeCapture:
    """A camera in place of `cv2.VideoCapture`: each opening gives the next of `runs`, None if it does not open."""

    runs: ClassVar[list[list[int] | None]]
    opened: ClassVar[list[Any]]
    pauses: ClassVar[list[float]]
    released: ClassVar[int]

    def __init__(self, source: Any, *options: Any) -> None:
        self.opened.append(source)
        self._tags = self.runs.pop(0)

    def isOpened(self) -> bool:  # noqa: N802 - OpenCV's name
        return self._tags is not None

    def get(self, name: int) -> float:
        return -1.0

    def read(self) -> tuple[bool, np.ndarray | None]:
        return (True, picture(self._tags.pop(0))) if self._tags else (False, None)

    def release(self) -> None:
        type(self).released += 1


@pytest.fixture
def camera(monkeypatch: pytest.MonkeyPatch) -> type[FakeCapture]:
    monkeypatch.setattr(cv2, "VideoCapture", FakeCapture)
    monkeypatch.setattr(sources.time, "sleep", lambda seconds: FakeCapture.pauses.append(seconds))
    FakeCapture.runs, FakeCapture.opened, FakeCapture.pauses, FakeCapture.released = [], [], [], 0
    return FakeCapture


def test_a_camera_is_opened_again_as_often_in_a_row_as_told(camera: type[FakeCapture]) -> None:
    camera.runs = [[10, 20], None, [30], [], None]
    read, seen = frames(0, reconnect=2, pause_s=3), []
    with pytest.raises(SourceError, match=r"^Camera 0 has broken off; it was opened again 2 times\.$"):
        seen.extend(int(frame.mean()) for frame in read)
    assert camera.opened == [0] * 5 and camera.released == 5 and camera.pauses == [3] * 4


def test_without_reconnect_a_camera_that_breaks_off_is_an_error_after_its_frames(
    camera: type[FakeCapture], fakes: FakeModels
) -> None:
    camera.runs = [[10, 20]]
    with Sequential(device="cpu") as pool:
        results = pool.map(frames("0"))
        assert [tag_of(next(results)), tag_of(next(results))] == [10, 20]
        with pytest.raises(SourceError, match="use reconnect="):
            next(results)
    assert camera.opened == [0] and camera.released == 1


def test_a_camera_is_closed_with_the_iterator(camera: type[FakeCapture]) -> None:
    camera.runs = [[10, 20], [30]]
    with closing(frames(1)) as read:
        next(read)
    assert camera.released == 1


def test_the_error_of_a_stream_hides_its_password(camera: type[FakeCapture]) -> None:
    camera.runs = [None, None]
    with pytest.raises(SourceError) as error:
        frames("rtsp://user:secret@camera/1")
    assert str(error.value) == '"rtsp://camera/1" gave no video; check the address, the network and the password.'
    with pytest.raises(SourceError, match="Camera 97 is not there"):
        frames(97)


class Stream(BaseHTTPRequestHandler):
    """A network camera: each request gets three pictures, and then the connection breaks off."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
        self.end_headers()
        for tag in (10, 60, 110):
            data = cv2.imencode(".jpg", np.full((48, 64, 3), tag, np.uint8))[1].tobytes()
            self.wfile.write(b"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n" % len(data))
            self.wfile.write(data + b"\r\n")

    def log_message(self, *args: Any) -> None:
        pass


def test_a_stream_that_breaks_off_goes_on_after_it_was_opened_again(capfd: pytest.CaptureFixture[str]) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), Stream) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            address = f"http://127.0.0.1:{server.server_port}/camera.mjpg"
            with closing(frames(address, reconnect=1, pause_s=0, timeout_s=scaled(10))) as read:
                seen = [round(int(frame.mean()), -1) for frame in itertools.islice(read, 7)]
        finally:
            server.shutdown()
            thread.join(WAIT_S)
    assert seen[:2] == [10, 60] and seen.count(10) >= 2
