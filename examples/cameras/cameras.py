"""Three cameras over one pool, each with its newest frame:  python cameras.py 0 rtsp://door/1 clip.mp4

Prints for each source: results per second, the age of a result when it comes, and how many frames were dropped.
A clip that ends is a camera that is switched off; Ctrl-C ends all.
"""

import sys
import threading
import time
from dataclasses import dataclass, field
from statistics import median

from yolothreads import Replicas, frames, latest


@dataclass
class Seen:
    """What one camera has given so far; its own thread writes it."""

    boxes: list[int] = field(default_factory=list)
    ages_ms: list[float] = field(default_factory=list)
    dropped: int = 0
    error: str = ""


def follow(pool: Replicas, source: object, seen: Seen) -> None:
    """Detect in the newest frame of a source until it ends."""
    try:
        live = latest(frames(source, realtime=True, reconnect=5))
        for result, age_ms in live.with_age(pool.map(live, buffersize=1)):
            seen.boxes.append(len(result))
            seen.ages_ms.append(age_ms)
            seen.dropped = live.dropped
    except Exception as error:  # a thread has nobody who would see it
        seen.error = str(error)


def watch(sources: list) -> dict[object, Seen]:
    """Follow all sources over one pool, one thread per source; return what each has given."""
    seen = {source: Seen() for source in sources}
    with Replicas(device="cpu", imgsz=320, workers=2) as pool:
        threads = [threading.Thread(target=follow, args=(pool, *one), name=f"camera {one[0]}") for one in seen.items()]
        for thread in threads:
            thread.start()
        try:
            for thread in threads:
                thread.join()
        except KeyboardInterrupt:
            pass  # closing the pool ends every map, and so the threads
    for thread in threads:
        thread.join()
    return seen


if __name__ == "__main__":
    start = time.perf_counter()
    for source, seen in watch([int(word) if word.isdecimal() else word for word in sys.argv[1:]]).items():
        age = f"age {median(seen.ages_ms):.0f} ms, at most {max(seen.ages_ms):.0f}" if seen.ages_ms else "no frames"
        rate = len(seen.boxes) / (time.perf_counter() - start)
        print(f"{source}: {rate:.1f} results/s; {age}; {seen.dropped} frames dropped. {seen.error}")
