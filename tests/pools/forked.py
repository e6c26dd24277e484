"""A process with an open pool that forks: its children close the pool, open it again, or forget it; then it asks.

python forked.py Replicas    # prints JSON: exit codes by child, answers of the parent
"""

import json
import os
import signal
import sys

import yolothreads
from yolothreads import scene


def main(kind: str) -> None:
    image = scene(1).image
    with getattr(yolothreads, kind)(device="cpu", imgsz=160) as pool:
        wanted = len(pool.submit(image).result())
        workers = dict(getattr(pool, "_workers", {}))

        def opens() -> None:
            pool.close()
            with pool:
                if len(pool.submit(image).result()) != wanted:
                    sys.exit("a wrong answer in the child")

        children = {}
        for name, act in {"leaves": pool.close, "opens it again": opens, "forgets it": lambda: None}.items():
            forked = os.fork()
            if forked == 0:
                signal.alarm(60)  # ends a child that hangs
                act()
                sys.exit(0)  # an orderly end, which calls what `atexit` has registered
            children[name] = os.waitpid(forked, 0)[1]
        answers = [len(pool.submit(image).result()) for _ in range(4)]
        replaced = sum(worker is not workers[index] for index, worker in getattr(pool, "_workers", {}).items())
    print(json.dumps({"children": children, "wanted": wanted, "answers": answers, "workers replaced": replaced}))


if __name__ == "__main__":
    main(sys.argv[1])
