"""Celery on Redis, for broker and results, under its own command with the pool of threads."""

import os
import sys
from importlib.metadata import version
from typing import Any, ClassVar

from celery import Celery

from bench.adapters.serve import QueueClient, main
from bench.adapters.settings import read_settings

from . import jobs

_settings = read_settings()

RESULT_S = 30.0

app = Celery("bench", broker=_settings.redis_url, backend=_settings.redis_url)
app.conf.update(
    task_acks_late=True,  # without it, a killed worker's jobs are lost
    worker_prefetch_multiplier=10,
    worker_send_task_events=False,
    result_expires=3_600,
)
_session = jobs.new_session(_settings.concurrency)


@app.task(name="fetch")
def fetch(url: str) -> dict[str, Any]:
    return jobs.fetch(_session, url)


@app.task(name="empty")
def empty() -> None:
    return None


@app.task(name="stamp")
def stamp() -> int:
    return jobs.stamp()


@app.task(name="hold")
def hold(path: str) -> None:
    jobs.hold(path, _settings.hold_s)


_TASKS: dict[str, Any] = {"fetch": fetch, "empty": empty, "stamp": stamp, "hold": hold}


class Client(QueueClient):
    # Results are stored before the late acknowledgement.
    unfinished = (("LLEN", "celery"), ("HLEN", "unacked"))
    versions: ClassVar = {name: version(name) for name in ("celery", "kombu", "redis", "hiredis", "requests")}

    async def open(self) -> None:
        self._producer = app.amqp.Producer(app.connection_for_write())

    async def close(self) -> None:
        self._producer.close()

    async def enqueue(self, job: str, args: list[Any]) -> Any:
        return _TASKS[job].apply_async(args, producer=self._producer)

    async def result(self, handle: Any) -> Any:
        return handle.get(timeout=RESULT_S)


def work() -> None:
    options = ["-P", "threads", "-c", str(_settings.concurrency), "-l", "WARNING"]
    options += ["--without-gossip", "--without-mingle", "--without-heartbeat"]
    command = ["-m", "celery", "-A", "bench.adapters.blocking.celery_peer", "worker", *options]
    os.execv(sys.executable, [sys.executable, *command])


if __name__ == "__main__":
    main(Client, work, on_uvloop=False)
