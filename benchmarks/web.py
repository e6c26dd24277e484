"""The web service of examples/web under 200 requests at once, beside the same with one shared model.

    python -m benchmarks.web --rounds 20 --workers 1

Prints for each application: wrong answers, requests per second, and the latency of /health under load and when idle.
"""

import argparse
import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median, quantiles

import cv2
import httpx

from yolothreads import Sequential, scene, stamp

ROOT = Path(__file__).parents[1]
WEB = ROOT / "examples" / "web"
CONFS = (0.05, 0.25, 0.5, 0.7)
_START_S, _ANSWER_S, _END_S = 120.0, 300.0, 60.0


@dataclass
class Pictures:
    """Pictures as PNG files, and the right answer for each of them and each `conf`."""

    files: list[bytes] = field(default_factory=list)
    right: dict[tuple[int, float], list[dict]] = field(default_factory=dict)

    @classmethod
    def of(cls, count: int) -> "Pictures":
        """Make pictures, and ask a `Sequential` pool for the right answers."""
        made = cls()
        with Sequential(device="cpu", imgsz=320, threads=1) as pool:
            for seed in range(count):
                image = scene(seed, (320, 320)).image
                made.files.append(cv2.imencode(".png", image)[1].tobytes())
                for conf in CONFS:
                    made.right[seed, conf] = pool.submit(image, conf=conf).result().summary()
        return made

    def is_right(self, number: int, answer: list[dict]) -> bool:
        """Return whether an answer is that of request `number`, up to the rounding of a batch."""
        wanted = self.right[self.asked(number)]
        return len(answer) == len(wanted) and all(map(_same, answer, wanted))

    def asked(self, number: int) -> tuple[int, float]:
        """Return which picture request `number` sends, and its `conf`."""
        return number % len(self.files), CONFS[number // len(self.files) % len(CONFS)]


def _same(one: dict, other: dict) -> bool:
    edges = (abs(one["box"][edge] - other["box"][edge]) for edge in other["box"])
    return one["name"] == other["name"] and abs(one["confidence"] - other["confidence"]) < 0.001 and max(edges) < 0.1


@contextmanager
def served(server: str, *, folder: Path = WEB, **environment: str) -> Iterator[tuple[str, int]]:
    """Serve an application, such as "uvicorn app:app"; yield its address and the process number of the server."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    to_port = ["--port", str(port)] if server.startswith("uvicorn") else ["--bind", f"127.0.0.1:{port}"]
    command = [sys.executable, "-m", *server.split(), *to_port, "--log-level", "warning"]
    path = os.pathsep.join([str(folder), str(ROOT), os.environ.get("PYTHONPATH", "")])
    env = {**os.environ, "PYTHONPATH": path, "YOLO_OFFLINE": "true", **environment}
    process = subprocess.Popen(command, cwd=folder, env=env, start_new_session=True)
    try:
        _wait_until_ready(f"http://127.0.0.1:{port}", process)
        yield f"http://127.0.0.1:{port}", process.pid
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(_END_S)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            raise


def _wait_until_ready(url: str, server: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + _START_S
    while server.poll() is None and time.monotonic() < end:
        try:
            if httpx.get(f"{url}/health", timeout=_START_S).status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.1)
    raise RuntimeError("the server did not start")


async def ask(client: httpx.AsyncClient, pictures: Pictures, number: int) -> httpx.Response:
    """Send request `number`; while all places are taken, send it again after the time that the answer names."""
    picture, conf = pictures.asked(number)
    while True:
        files = {"image": ("picture.png", pictures.files[picture])}
        response = await client.post("/predict", params={"conf": conf}, files=files)
        if response.status_code != 503:
            return response
        await asyncio.sleep(float(response.headers["retry-after"]))


def client_of(url: str) -> httpx.AsyncClient:
    """Return a client that opens as many connections as are asked for."""
    return httpx.AsyncClient(base_url=url, timeout=_ANSWER_S, limits=httpx.Limits(max_connections=None))


async def storm(url: str, pictures: Pictures, count: int) -> int:
    """Send requests at once; return the number of wrong answers."""
    async with client_of(url) as client:
        responses = await asyncio.gather(*[ask(client, pictures, number) for number in range(count)])
    right = [r.status_code == 200 and pictures.is_right(number, r.json()) for number, r in enumerate(responses)]
    return right.count(False)


async def _health_ms(url: str, stop: asyncio.Event) -> list[float]:
    """Ask /health ten times a second until told to stop; return the latencies in ms."""
    times = []
    async with client_of(url) as client:
        while not stop.is_set():
            start = time.perf_counter()
            await client.get("/health")
            times.append(1000 * (time.perf_counter() - start))
            await asyncio.sleep(0.1)
    return times


async def _measure(url: str, pictures: Pictures, rounds: int, count: int) -> str:
    async def health_during(seconds: float | None) -> tuple[list[float], list[int], float]:
        stop, start = asyncio.Event(), time.perf_counter()
        asked = asyncio.create_task(_health_ms(url, stop))
        wrong = []
        if seconds is None:
            # In a thread with a loop of its own, so that the client's work does not count as the server's.
            wrong = [await asyncio.to_thread(asyncio.run, storm(url, pictures, count)) for _ in range(rounds)]
        else:
            await asyncio.sleep(seconds)
        took = time.perf_counter() - start
        stop.set()
        return await asked, wrong, took

    idle, _, _ = await health_during(5.0)
    busy, wrong, took = await health_during(None)
    return (
        f"wrong answers {sum(wrong)} of {rounds * count} ({', '.join(map(str, wrong))}); "
        f"{rounds * count / took:.1f} requests/s; /health idle {_spread(idle)}, under load {_spread(busy)}"
    )


def _spread(times: list[float]) -> str:
    return f"{median(times):.1f} ms (99 %: {quantiles(times, n=100)[98]:.0f})"


def main() -> None:
    """Measure both applications."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=20, help="how often the requests are sent (20)")
    parser.add_argument("--requests", type=int, default=200, help="requests at once (200)")
    parser.add_argument("--workers", type=int, default=1, help="processes of the server (1)")
    args = parser.parse_args()
    pictures = Pictures.of(8)
    print(stamp())
    for app, rounds in (("app:app", args.rounds), ("shared_model:app", min(3, args.rounds))):
        with served(f"uvicorn {app} --workers {args.workers}") as (url, _):
            print(f"{app:17}", asyncio.run(_measure(url, pictures, rounds, args.requests)), flush=True)


if __name__ == "__main__":
    main()
