"""Races of the form "if it is not there, make it": pools that grow too large, things made twice, keys that are gone."""

from __future__ import annotations

import itertools
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from benchmarks.wild.bug import Program, Registry

RACES = Registry()
_GITHUB = "https://github.com"


# --- pools of connections ---


@RACES.bug(
    f"{_GITHUB}/redis/redis-py/issues/906",
    buggy="redis==3.3.11",
    fixed="redis==3.4.1",
    watch="redis.connection",
)
def redis(_: bool) -> Program:
    """The pool compares the number of its connections with the limit, and counts the new one on a later line: two
    threads get a connection each from a pool for one.
    """
    from redis.connection import ConnectionPool

    class Unplugged:
        """A connection to nowhere."""

        pid = None

        def connect(self) -> None:
            """Connect to nothing."""

        def can_read(self) -> bool:
            return False

    def take(pool: Any) -> None:
        pool.get_connection("GET")

    return Program(take, take, setup=lambda: ConnectionPool(connection_class=Unplugged, max_connections=1))


@RACES.bug(
    f"{_GITHUB}/encode/httpcore/issues/613",
    buggy="httpcore==0.16.1 h11==0.14.0 sniffio==1.3.1",
    fixed="httpcore==0.16.2 h11==0.14.0 sniffio==1.3.1",
    watch="httpcore._sync.connection_pool",
)
def httpcore(_: bool) -> Program:
    """A request is put into the pool's queue outside the lock, so another thread's clean-up gives it a connection
    before it asks for one itself: an AssertionError.
    """
    import httpcore
    from httpcore.backends.mock import MockBackend

    answer = [b"HTTP/1.1 200 OK\r\n", b"Connection: close\r\n", b"Content-Length: 2\r\n", b"\r\n", b"ok"]

    def get(state: Any) -> int:
        return int(state.pool.request("GET", "http://example.org/").status)

    # In a namespace, so that the pool is not left after each run: a failed request makes leaving it fail too.
    return Program(
        get, get, setup=lambda: SimpleNamespace(pool=httpcore.ConnectionPool(network_backend=MockBackend(answer)))
    )


_SERVER = """
import http.server, os, sys, threading
class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")
    def log_message(self, *_):
        pass
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answer)
print(server.server_port, flush=True)
threading.Thread(target=lambda: (sys.stdin.read(), os._exit(0)), daemon=True).start()  # ends with its parent
server.serve_forever()
"""


@RACES.bug(
    f"{_GITHUB}/urllib3/urllib3/issues/1252",
    buggy="urllib3==1.26.15",
    fixed="urllib3==1.26.16",
    watch="urllib3.poolmanager urllib3.connectionpool",
)
def urllib3(_: bool) -> Program:
    """A PoolManager closes the least recently used pool when it needs room, also if another thread just got that pool
    and has not sent its request: ClosedPoolError. Two local servers, real sockets.
    """
    import urllib3

    def port() -> int:
        pipe = subprocess.PIPE
        server = subprocess.Popen([sys.executable, "-c", _SERVER], stdin=pipe, stdout=pipe, text=True)
        _KEPT.append(server)  # whose end would end it
        assert server.stdout is not None
        return int(server.stdout.readline())

    one, two = port(), port()
    return Program(
        lambda pools: pools.request("GET", f"http://127.0.0.1:{one}/").data,
        lambda pools: pools.request("GET", f"http://127.0.0.1:{two}/").data,
        setup=lambda: urllib3.PoolManager(num_pools=1),
    )


_KEPT: list[Any] = []


# --- made once ---


@RACES.bug(
    f"{_GITHUB}/tox-dev/filelock/pull/581",
    buggy="filelock==3.29.5",
    fixed="filelock==3.29.7",
    watch="filelock",
)
def filelock(_: bool) -> Program:
    """`FileLock(path, is_singleton=True)` looks for the lock of that path and makes one if there is none: two threads
    get two "singletons", and the lock no longer excludes.
    """
    from filelock import FileLock

    folder, numbers = Path(tempfile.mkdtemp()), itertools.count()

    def make(state: Any) -> None:
        state.locks.append(FileLock(state.path, is_singleton=True))

    return Program(
        make,
        make,
        setup=lambda: SimpleNamespace(path=folder / f"{next(numbers)}.lock", locks=[]),
        observe=lambda state: len({id(lock) for lock in state.locks}),
    )


_OTEL = "opentelemetry-sdk=={0} opentelemetry-api=={0} opentelemetry-semantic-conventions=={1} "
_OTEL_NEEDS = "importlib_metadata==8.7.1 zipp==4.1.2"


@RACES.bug(
    f"{_GITHUB}/open-telemetry/opentelemetry-python/issues/4892",
    buggy=_OTEL.format("1.39.1", "0.60b1") + _OTEL_NEEDS,
    fixed=_OTEL.format("1.41.1", "0.61b0") + _OTEL_NEEDS,
    watch="opentelemetry.sdk.metrics opentelemetry.metrics",
)
def opentelemetry_instrument(_: bool) -> Program:
    """An instrument is marked as registered before it is stored: who creates it a second time meanwhile looks it up and
    gets a KeyError.
    """
    from opentelemetry.sdk.metrics import MeterProvider

    def create(meter: Any) -> None:
        meter.create_counter("requests")

    return Program(create, create, setup=lambda: MeterProvider(shutdown_on_exit=False).get_meter("shop"))


@RACES.bug(
    f"{_GITHUB}/open-telemetry/opentelemetry-python/issues/5431",
    buggy=_OTEL.format("1.40.0", "0.61b0") + _OTEL_NEEDS,
    fixed=_OTEL.format("1.45.2", "0.61b0") + _OTEL_NEEDS,
    watch="opentelemetry.sdk.metrics",
)
def opentelemetry_exemplar(_: bool) -> Program:
    """The number of measurements seen is reset by a collection between the line that counts one up and the line that
    draws below it: `randrange(0)` raises ValueError.
    """
    import random

    from opentelemetry.context import Context
    from opentelemetry.sdk.metrics import SimpleFixedSizeExemplarReservoir

    def one_measured() -> Any:
        random.seed(0)
        reservoir = SimpleFixedSizeExemplarReservoir(size=1)
        reservoir.offer(1.0, 0, {}, Context())
        return reservoir

    return Program(
        lambda reservoir: reservoir.offer(2.0, 1, {}, Context()),
        lambda reservoir: [exemplar.value for exemplar in reservoir.collect({})],
        setup=one_measured,
    )


@RACES.bug(
    f"{_GITHUB}/boto/botocore/issues/1776",
    buggy="botocore==1.31.5 jmespath==1.0.1 urllib3==1.26.16",
    fixed="botocore==1.44.8 jmespath==1.1.0 urllib3==1.26.16",
    repaired="botocore==1.44.8 jmespath==1.1.0 urllib3==1.26.16",
    repair="botocore.patch",
    watch="botocore.session",
)
def botocore(_: bool) -> Program:
    """A component that is made on first use is looked up in the dictionary of those not yet made on one line and taken
    from it on the next; another thread removed it in between: KeyError 'endpoint_resolver'. The newest release catches
    the KeyError of the removal, and not that of the look-up.
    """
    import botocore.session

    def resolver(session: Any) -> str:
        return type(session.get_component("endpoint_resolver")).__name__

    return Program(resolver, resolver, setup=botocore.session.Session)


@RACES.bug(
    f"{_GITHUB}/nltk/nltk/issues/803",
    buggy="nltk==3.9.1 regex==2026.11.19 joblib==1.6.0",
    fixed="nltk==3.10.4 regex==2026.11.19 joblib==1.6.0",
    repaired="nltk==3.10.4 regex==2026.11.19 joblib==1.6.0",
    repair="nltk.patch",
    watch="nltk.corpus.util",
)
def nltk(_: bool) -> Program:
    """A corpus is a stand-in that turns into the reader on first use, by changing its own class. A second thread that
    already is in `__getattr__` of the stand-in then calls a method that the object has no more: AttributeError.
    """
    import nltk
    from nltk.corpus.reader import PlaintextCorpusReader
    from nltk.corpus.util import LazyCorpusLoader

    folder = Path(tempfile.mkdtemp())
    (folder / "corpora" / "toy").mkdir(parents=True)
    (folder / "corpora" / "toy" / "a.txt").write_text("hello world", encoding="utf-8")
    nltk.data.path.insert(0, str(folder))
    return Program(
        lambda corpus: corpus.raw("a.txt"),
        lambda corpus: list(corpus.fileids()),
        setup=lambda: LazyCorpusLoader("toy", PlaintextCorpusReader, r".*\.txt"),
    )


# --- caches and counters ---


@RACES.bug(
    f"{_GITHUB}/alisaifee/limits/issues/26",
    buggy="limits==5.8.0 deprecated==1.3.1 wrapt==2.5.2",
    repaired="limits==5.8.0 deprecated==1.3.1 wrapt==2.5.2",
    repair="limits.patch",
    watch="limits.storage.memory",
)
def limits(_: bool) -> Program:
    """A hit is counted on one line, and given its time of expiry on a later one. Another hit in between takes the
    counter for expired and removes it: the first hit is lost, and a client gets more than its limit.
    """
    from limits.storage import MemoryStorage

    def hit(storage: Any) -> None:
        storage.incr("client", 60)

    return Program(hit, hit, setup=MemoryStorage, observe=lambda storage: storage.get("client"))


@RACES.bug(
    f"{_GITHUB}/jmespath/jmespath.py/issues/334",
    buggy="jmespath==1.0.1",
    fixed="jmespath==1.1.0",
    watch="jmespath.parser",
    preemptions=2,
)
def jmespath(_: bool) -> Program:
    """A full cache of parsed expressions is halved by deleting randomly drawn keys; if other callers have halved it
    already, fewer keys are left than are drawn: ValueError. Three callers, two preemptions.
    """
    import jmespath
    from jmespath.parser import Parser

    def fill() -> None:
        Parser.purge()
        for i in range(Parser._MAX_SIZE):
            Parser().parse(f"key{i}")

    def search(key: str) -> Any:
        return lambda _: jmespath.search(key, {"a": 1, "b": 2, "c": 3})

    return Program(search("a"), search("b"), search("c"), setup=fill)


@RACES.bug(
    f"{_GITHUB}/ua-parser/uap-python/issues/132",
    buggy="ua-parser==0.16.0",
    fixed="ua-parser==0.16.1",
    watch="ua_parser.user_agent_parser:_lookup ua_parser.user_agent_parser:_cached",
)
def ua_parser(_: bool) -> Program:
    """A full cache drops its oldest entry with `cache.pop(next(iter(cache)))`: two threads find the same oldest entry,
    within one line, and one gets a KeyError.
    """
    from ua_parser import user_agent_parser as parser

    def fill() -> None:
        parser._PARSE_CACHE.clear()
        for i in range(parser.MAX_CACHE_SIZE):
            parser._lookup(f"agent {i}", {})

    def parse(agent: str) -> Any:
        return lambda _: parser.ParseUserAgent(agent)["family"]

    return Program(parse("Mozilla/5.0 Firefox/99.0"), parse("curl/8.0"), setup=fill)


@RACES.bug(
    "https://cachetools.readthedocs.io/en/stable/",
    buggy="cachetools==8.0.2",
    fixed="cachetools==8.0.2",
    watch="cachetools",
)
def cachetools(fixed: bool) -> Program:
    """A cache that is not thread-safe, as its documentation says, used by two threads without the `lock=` that it
    offers; with that lock in the column of the fixed version.
    """
    import cachetools

    def full() -> Any:
        lock = threading.Lock() if fixed else None

        @cachetools.cached(cachetools.LRUCache(1), lock=lock)  # type: ignore[untyped-decorator]
        def square(x: int) -> int:
            return x * x

        square(0)
        return square

    return Program(lambda square: square(1), lambda square: square(2), setup=full)


@RACES.bug(
    f"{_GITHUB}/jfhbrook/pyee/issues/76",
    buggy="pyee==8.0.1",
    fixed="pyee==8.1.0",
    watch="pyee",
)
def pyee(_: bool) -> Program:
    """A `once` handler is removed by the event and by the caller who gives up waiting: whoever comes second gets a
    KeyError inside `emit`.
    """
    from pyee import BaseEventEmitter

    def waiting() -> Any:
        state = SimpleNamespace(emitter=BaseEventEmitter(), calls=[])
        state.handler = lambda: state.calls.append("called")
        state.emitter.once("answer", state.handler)
        return state

    def answer(state: Any) -> None:
        state.emitter.emit("answer")

    def give_up(state: Any) -> None:
        try:
            state.emitter.remove_listener("answer", state.handler)
        except KeyError:
            return  # the answer came first, which is no fault; the message would hold an address

    return Program(answer, give_up, setup=waiting)
