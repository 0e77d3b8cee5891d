"""dramatiq on its Redis broker, with its results backend, under its own command; one process of many threads."""

import os
import sys
import threading
from importlib.metadata import version
from typing import Any, ClassVar

import dramatiq
import requests
from dramatiq.brokers.redis import RedisBroker
from dramatiq.results import Results
from dramatiq.results.backends import RedisBackend

from bench.adapters.serve import QueueClient, main
from bench.adapters.settings import read_settings

from . import jobs

_settings = read_settings()

broker = RedisBroker(url=_settings.redis_url)
broker.add_middleware(Results(backend=RedisBackend(url=_settings.redis_url), result_ttl=3_600_000))
dramatiq.set_broker(broker)

RESULT_MS = 30_000

_own = threading.local()


def _session() -> requests.Session:
    """One for each thread, since a session of requests is not documented as safe for several."""
    if not hasattr(_own, "session"):
        _own.session = jobs.new_session(1)
    session: requests.Session = _own.session
    return session


@dramatiq.actor(store_results=True)
def fetch(url: str) -> dict[str, Any]:
    return jobs.fetch(_session(), url)


@dramatiq.actor(store_results=True)
def empty() -> None:
    return None


@dramatiq.actor(store_results=True)
def stamp() -> int:
    return jobs.stamp()


@dramatiq.actor
def hold(path: str) -> None:
    jobs.hold(path, _settings.hold_s)


_ACTORS: dict[str, Any] = {"fetch": fetch, "empty": empty, "stamp": stamp, "hold": hold}


class Client(QueueClient):
    unfinished = (("HLEN", "dramatiq:default.msgs"),)
    versions: ClassVar = {name: version(name) for name in ("dramatiq", "redis", "hiredis", "requests")}

    async def open(self) -> None:
        """The broker connects when it is first used."""

    async def close(self) -> None:
        broker.close()

    async def enqueue(self, job: str, args: list[Any]) -> Any:
        return _ACTORS[job].send(*args)

    async def result(self, handle: Any) -> Any:
        return handle.get_result(block=True, timeout=RESULT_MS)


def work() -> None:
    options = ["--processes", "1", "--threads", str(_settings.concurrency)]
    os.execv(sys.executable, [sys.executable, "-m", "dramatiq", *options, "bench.adapters.blocking.dramatiq_peer"])


if __name__ == "__main__":
    main(Client, work, on_uvloop=False)
