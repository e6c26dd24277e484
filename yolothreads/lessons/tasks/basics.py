"""The exercises of lessons 00 to 05."""

from yolothreads.lessons.exercises import Exercise
from yolothreads.lessons.tasks import basics_checks as checks

EXERCISES = (
    Exercise(
        name="count_objects",
        starter="def count_objects(result, name):\n    pass\n",
        answer=(
            "def count_objects(result, name):\n    return sum(result.names[int(c)] == name for c in result.boxes.cls)\n"
        ),
        hints=(
            "result.boxes.cls holds one number an object: its class.",
            "result.names maps that number to a name; turn it into an int first.",
        ),
        see=checks.see_count_objects,
        also_right=(
            "def count_objects(result, name):\n"
            "    return [result.names[int(c)] for c in result.boxes.cls.tolist()].count(name)\n",
        ),
        wrong=(
            "def count_objects(result, name):\n    return len(result.boxes)\n",
            "def count_objects(result, name):\n    return result.counts[name]\n",
        ),
    ),
    Exercise(
        name="run_in_threads",
        starter="def run_in_threads(work, items):\n    return [work(item) for item in items]\n",
        answer=(
            "from threading import Thread\n\n\n"
            "def run_in_threads(work, items):\n"
            "    results = [None] * len(items)\n\n"
            "    def run(i):\n"
            "        results[i] = work(items[i])\n\n"
            "    threads = [Thread(target=run, args=(i,)) for i in range(len(items))]\n"
            "    for thread in threads:\n"
            "        thread.start()\n"
            "    for thread in threads:\n"
            "        thread.join()\n"
            "    return results\n"
        ),
        hints=(
            "Start one Thread an item first; join them all afterwards.",
            "A thread cannot return anything: give each a place in a list to write its result to.",
        ),
        see=checks.see_run_in_threads,
        also_right=(
            "from concurrent.futures import ThreadPoolExecutor\n"
            "def run_in_threads(work, items):\n"
            "    with ThreadPoolExecutor(len(items)) as pool:\n"
            "        return list(pool.map(work, items))\n",
        ),
        wrong=(
            "from threading import Thread\n"
            "def run_in_threads(work, items):\n"
            "    for item in items:\n"
            "        t = Thread(target=lambda: work(item), daemon=True)\n"
            "        t.start()\n",
            "def run_in_threads(work, items):\n    return [work(i) for i in items][:]\n",
        ),
    ),
    Exercise(
        name="make_detector",
        starter=(
            "def make_detector(load):\n"
            "    model = load()\n\n"
            "    def detect(image, conf):\n"
            "        return model.predict(image, conf=conf)\n\n"
            "    return detect\n"
        ),
        answer=(
            "from threading import Lock\n\n\n"
            "def make_detector(load):\n"
            "    model, lock = load(), Lock()\n\n"
            "    def detect(image, conf):\n"
            "        with lock:\n"
            "            return model.predict(image, conf=conf)\n\n"
            "    return detect\n"
        ),
        hints=(
            "Both calls use one model. Either they must take turns, or each needs a model of its own.",
            "A threading.Lock made once, outside detect, lets one call at a time through `with lock:`.",
        ),
        see=checks.see_make_detector,
        also_right=(
            "def make_detector(load):\n"
            "    def detect(image, conf):\n"
            "        return load().predict(image, conf=conf)\n"
            "    return detect\n",
            "import threading\n"
            "def make_detector(load):\n"
            "    own = threading.local()\n"
            "    def detect(image, conf):\n"
            "        if not hasattr(own, 'model'):\n"
            "            own.model = load()\n"
            "        return own.model.predict(image, conf=conf)\n"
            "    return detect\n",
        ),
        wrong=(
            "from threading import Lock\n"
            "def make_detector(load):\n"
            "    model = load()\n"
            "    def detect(image, conf):\n"
            "        with Lock():\n"
            "            return model.predict(image, conf=conf)\n"
            "    return detect\n",
            "from threading import Lock\n"
            "def make_detector(load):\n"
            "    model, busy = load(), []\n"
            "    def detect(image, conf):\n"
            "        while busy:\n"
            "            pass\n"
            "        busy.append(1)\n"
            "        try:\n"
            "            return model.predict(image, conf=conf)\n"
            "        finally:\n"
            "            busy.pop()\n"
            "    return detect\n",
            "from threading import Lock\n"
            "def make_detector(load):\n"
            "    model, lock = load(), Lock()\n"
            "    def detect(image, conf):\n"
            "        lock.acquire()\n"
            "        return model.predict(image, conf=conf)\n"
            "    return detect\n",
            "def make_detector(load):\n    model = load()\n    return lambda image, conf: model.predict(image)\n",
        ),
    ),
    Exercise(
        name="save_to",
        starter='def save_to(folder, worker):\n    return {"project": folder, "name": "predict"}\n',
        answer='def save_to(folder, worker):\n    return {"project": folder, "name": f"worker-{worker}"}\n',
        hints=("What differs from worker to worker must be in the name or in the project.",),
        see=checks.see_save_to,
        also_right=('def save_to(folder, worker):\n    return {"project": f"{folder}/{worker}", "name": "predict"}\n',),
        wrong=(
            'def save_to(folder, worker):\n    return {"project": folder, "name": f"worker-{worker % 2}"}\n',
            'def save_to(folder, worker):\n    return {"project": "elsewhere", "name": f"{worker}"}\n',
        ),
    ),
    Exercise(
        name="make_worker",
        starter=(
            "def make_worker(load):\n"
            "    def detect(image, conf):\n"
            "        return load().predict(image, conf=conf)\n\n"
            "    return detect\n"
        ),
        answer=(
            "import threading\n\n\n"
            "def make_worker(load):\n"
            "    own = threading.local()\n\n"
            "    def detect(image, conf):\n"
            '        if not hasattr(own, "model"):\n'
            "            own.model = load()\n"
            "        return own.model.predict(image, conf=conf)\n\n"
            "    return detect\n"
        ),
        hints=(
            "The stub is safe but loads a model for every image. Load when a thread comes for the first time.",
            "threading.local() has attributes of its own in every thread.",
        ),
        see=checks.see_make_worker,
        also_right=(
            "import threading\n"
            "def make_worker(load):\n"
            "    models = {}\n"
            "    def detect(image, conf):\n"
            "        me = threading.get_ident()\n"
            "        if me not in models:\n"
            "            models[me] = load()\n"
            "        return models[me].predict(image, conf=conf)\n"
            "    return detect\n",
        ),
        wrong=(
            "def make_worker(load):\n"
            "    model = load()\n"
            "    return lambda image, conf: model.predict(image, conf=conf)\n",
            "def make_worker(load):\n    return lambda image, conf: load().predict(image, conf=conf)\n",
            "import threading\n"
            "def make_worker(load):\n"
            "    numbers, models = {}, []\n"
            "    def detect(image, conf):\n"
            "        me = threading.get_ident()\n"
            "        if me not in numbers:\n"
            "            numbers[me] = len(models)\n"
            "            models.append(load())\n"
            "        return models[numbers[me]].predict(image, conf=conf)\n"
            "    return detect\n",
        ),
    ),
    Exercise(
        name="detect_all",
        starter=(
            "from ultralytics.utils import ThreadingLocked\n\n\n"
            "@ThreadingLocked()\n"
            "def detect_all(model, image, conf):\n"
            "    return model.stream(image, conf)\n"
        ),
        answer=(
            "from ultralytics.utils import ThreadingLocked\n\n\n"
            "@ThreadingLocked()\n"
            "def detect_all(model, image, conf):\n"
            "    return list(model.stream(image, conf))\n"
        ),
        hints=(
            "The lock is held while the function runs. When does a generator do its work?",
            "Take all its results before you return.",
        ),
        see=checks.see_detect_all,
        also_right=(
            "from threading import Lock\n"
            "lock = Lock()\n"
            "def detect_all(model, image, conf):\n"
            "    with lock:\n"
            "        return [part for part in model.stream(image, conf)]\n",
        ),
        wrong=(
            "import threading\n"
            "def detect_all(model, image, conf):\n"
            "    with threading.Lock():\n"
            "        return list(model.stream(image, conf))\n",
            "from ultralytics.utils import ThreadingLocked\n"
            "guard = ThreadingLocked()\n"
            "@guard\n"
            "@guard\n"
            "def detect_all(model, image, conf):\n"
            "    return list(model.stream(image, conf))\n",
            "from threading import Lock\n"
            "lock = Lock()\n"
            "def detect_all(model, image, conf):\n"
            "    with lock:\n"
            "        yield from model.stream(image, conf)\n",
            "from ultralytics.utils import ThreadingLocked\n"
            "@ThreadingLocked()\n"
            "def detect_all(model, image, conf):\n"
            "    return [next(model.stream(image, conf))]\n",
        ),
    ),
)
