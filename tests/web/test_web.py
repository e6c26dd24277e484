"""The web service of examples/web: answers, limits and status codes; under uvicorn; and what a shared model does."""

import asyncio
import gc
import io
import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import cv2
import httpx
import numpy as np
import pytest
from deadlines import scaled
from fakes import WAIT_S, FakeModels, picture
from ultralytics.engine.model import Model

from benchmarks.web import WEB, Pictures, ask, client_of, served, storm
from yolothreads import explore, scene

pytest.importorskip("fastapi")
pytestmark = pytest.mark.timeout(scaled(300))
HERE, ROOT = Path(__file__).parent, WEB.parents[1]
FLASK = ROOT / "examples" / "flask"
LONGEST_MS = 20.0  # of processor time, in which the event loop answers nobody else
NOT_OURS = ("BaseSelectorEventLoop._accept_connection",)  # takes all new connections in one step


@pytest.fixture
def web(monkeypatch: pytest.MonkeyPatch):
    """The module of the application."""
    monkeypatch.syspath_prepend(WEB)
    monkeypatch.delitem(sys.modules, "app", raising=False)
    import app

    yield app
    gc.unfreeze()
    del sys.modules["app"]


def png(image: np.ndarray) -> bytes:
    return cv2.imencode(".png", image)[1].tobytes()


def asking(web, steps) -> None:
    """Run steps(client, pool) in a client of the application, without a network."""

    async def run() -> None:
        transport = httpx.ASGITransport(web.app)
        async with web.lifespan(web.app), httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            await asyncio.wait_for(steps(client, web.pool), WAIT_S)

    asyncio.run(run())


def test_each_request_gets_its_own_answer(web, fakes: FakeModels) -> None:
    found = {0.1: 2, 0.5: 1, 0.95: 0}

    async def steps(client: httpx.AsyncClient, pool) -> None:
        confs = [list(found)[k % 3] for k in range(60)]
        posts = [
            client.post("/predict", params={"conf": conf}, files={"image": png(picture(1 + k))})
            for k, conf in enumerate(confs)
        ]
        answers = await asyncio.gather(*posts)
        assert [(a.status_code, len(a.json())) for a in answers] == [(200, found[conf]) for conf in confs]

    asking(web, steps)


def test_bad_requests_get_their_status(web, fakes: FakeModels, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web, "MOST_PIXELS", 1000)

    async def steps(client: httpx.AsyncClient, pool) -> None:
        async def status(data: bytes, **params: float) -> int:
            return (await client.post("/predict", params=params, files={"image": data})).status_code

        assert await status(b"no picture") == 422
        assert await status(png(picture(1)), conf=2) == 422
        assert await status(png(picture(1))) == 413  # 32 x 32 pixels
        monkeypatch.setattr(web, "MOST_PIXELS", 1024)
        assert await status(png(picture(1))) == 200
        assert await status(png(picture(1))[:-20]) == 422
        monkeypatch.setattr(web, "MOST_BYTES", 10)
        assert await status(png(picture(1))) == 413
        assert (await client.get("/health")).json() == {"waiting": 0}

    asking(web, steps)


def test_a_request_for_which_there_is_no_place_is_told_when_to_come_back(web, fakes: FakeModels) -> None:
    web.pool.queue_size = 1

    async def steps(client: httpx.AsyncClient, pool) -> None:
        inside, gate = threading.Event(), threading.Event()
        fakes.inside = lambda model, tag: inside.set() or gate.wait(WAIT_S)
        first = asyncio.create_task(pool.predict(picture(1)))
        await asyncio.to_thread(inside.wait, WAIT_S)
        second = asyncio.create_task(pool.predict(picture(2)))
        while pool.counters.waiting < 1:
            await asyncio.sleep(0)
        full = await client.post("/predict", files={"image": png(picture(3))})
        assert (full.status_code, full.headers["retry-after"]) == (503, "1")
        assert (await client.get("/health")).json() == {"waiting": 1}
        gate.set()
        await asyncio.gather(first, second)
        assert (await client.post("/predict", files={"image": png(picture(4))})).status_code == 200

    asking(web, steps)


@pytest.fixture(scope="module")
def pictures() -> Pictures:
    return Pictures.of(6)


@pytest.mark.nightly
@pytest.mark.parametrize("workers", [1, 2])
def test_200_requests_at_once_are_answered_right(workers: int, pictures: Pictures, tmp_path: Path) -> None:
    path = os.pathsep.join([str(HERE), str(WEB), str(WEB.parents[1])])
    seen = {"WATCHED": "app", "BEGUN": str(tmp_path / "begun"), "PYTHONPATH": path}
    with served(f"uvicorn watched:app --workers {workers}", **seen) as (url, _):
        for _ in range(2 * workers):  # opening the pool was a long step, and setting up FastAPI with the first request
            httpx.get(f"{url}/longest_step", timeout=WAIT_S)
        assert asyncio.run(storm(url, pictures, 20)) == 0
        for _ in range(4 * workers):
            httpx.get(f"{url}/longest_step", timeout=WAIT_S)
        assert asyncio.run(storm(url, pictures, 200)) == 0
        longest = [httpx.get(f"{url}/longest_step", timeout=WAIT_S).json() for _ in range(4 * workers)]
    ours = [ms for steps in longest for name, ms in steps.items() if name not in NOT_OURS]
    assert 0 < max(ours) < scaled(LONGEST_MS), longest


@pytest.mark.nightly
@pytest.mark.parametrize("workers", [1, 2])
def test_every_request_that_was_accepted_before_sigterm_is_answered(
    workers: int, pictures: Pictures, tmp_path: Path
) -> None:
    begun = tmp_path / "begun"
    path = os.pathsep.join([str(HERE), str(WEB), str(WEB.parents[1])])
    seen = {"WATCHED": "app", "BEGUN": str(begun), "PYTHONPATH": path}

    async def stop_in_the_middle(url: str, server: int) -> list[bool]:
        async with client_of(url) as client:
            asked = [asyncio.create_task(ask(client, pictures, number)) for number in range(100)]
            while not begun.exists() or begun.stat().st_size < len(asked):
                await asyncio.sleep(0.01)
            os.kill(server, signal.SIGTERM)
            answers = await asyncio.gather(*asked)
        return [a.status_code == 200 and pictures.is_right(k, a.json()) for k, a in enumerate(answers)]

    with served(f"uvicorn watched:app --workers {workers}", **seen) as (url, server):
        assert all(asyncio.run(stop_in_the_middle(url, server)))


@pytest.mark.nightly
@pytest.mark.parametrize(
    ("server", "folder"),
    [
        ("gunicorn app:app -k gthread --threads 8 -w 2 -c gunicorn_conf.py", FLASK),
        ("gunicorn app:app -k gthread --threads 8 -w 2 -c gunicorn_conf.py --preload", FLASK),
        ("gunicorn app:app -k asgi -w 2", WEB),
    ],
    ids=["Flask under gunicorn", "Flask under gunicorn, preloaded", "FastAPI under gunicorn"],
)
def test_the_lines_of_the_docs_serve_right_answers(server: str, folder: Path, pictures: Pictures) -> None:
    pytest.importorskip("gunicorn")
    assert server.removesuffix(" --preload") in (ROOT / "docs" / "services.md").read_text(encoding="utf-8")
    with served(server, folder=folder) as (url, _):
        assert asyncio.run(storm(url, pictures, 60)) == 0


@pytest.mark.nightly
def test_a_shared_model_answers_wrong_under_a_forced_schedule(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(WEB)
    import shared_model

    image = png(scene(3, (160, 160)).image)
    monkeypatch.setitem(shared_model.model.overrides, "imgsz", 160)

    def request(conf: float) -> Callable[[], int]:
        return lambda: len(shared_model.predict(SimpleNamespace(file=io.BytesIO(image)), conf))

    found = explore(request(0.05), request(0.9), watch=[Model.predict], budget_s=scaled(60))
    assert found.forbidden, str(found)
