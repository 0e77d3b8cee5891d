"""A rolling upgrade: this version and a next one, made by adding a field to this one, share a queue.

The field is added to a copy of the sources as docs/upgrades.md says; the copy runs in separate processes.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
import pytest_asyncio
from arq.connections import ArqRedis
from tests.support.redis_server import RedisServer
from tests.support.running import running, wait_until

import fetchq
import fetchq_worker
from fetchq import FetchStatus, Producer, RetryPolicy, WireError
from fetchq.contract import wire
from fetchq.contract.wire import with_known_outcomes
from fetchq.store.connection import connect
from fetchq_worker.fetch.job.history import load_history
from fetchq_worker.process.arq_settings import worker_settings
from fetchq_worker.process.embedded import EmbeddedRedis
from fetchq_worker.process.make_worker import make_worker
from fetchq_worker.settings import Settings

URL = "http://10.0.0.1/"
EDITS = {
    "WIRE_VERSION: Final = 1\n": "WIRE_VERSION: Final = 2\n",
    "ADDED_IN: Final[dict[str, int]] = {}": 'ADDED_IN: Final[dict[str, int]] = {"colour": 2}',
    "    v: int = 1\n": '    colour: str = ""\n    v: int = 1\n',
    "    tags: Iterable[str]\n": "    tags: Iterable[str]\n    colour: str\n",
}
ENQUEUE = """
import asyncio, sys
from fetchq import Producer
from fetchq.contract import request
async def main():
    async with Producer.from_url(sys.argv[1]) as producer:
        for options in ({}, {"colour": "red"}):
            print((await producer.enqueue(sys.argv[2], **options)).id)
assert request.WIRE_VERSION == 2
asyncio.run(main())
"""
WORK = (
    "from fetchq.contract import request; assert request.WIRE_VERSION == 2; from fetchq_worker.cli import main; main()"
)


class NextVersion:
    """The next version of fetchq, in a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        for package in (fetchq, fetchq_worker):
            source = Path(str(package.__file__)).parent
            shutil.copytree(source, folder / source.name, ignore=shutil.ignore_patterns("__pycache__"))
        request = folder / "fetchq" / "contract" / "request.py"
        text = request.read_text()
        for before, after in EDITS.items():
            assert text.count(before) == 1, before
            text = text.replace(before, after)
        request.write_text(text)

    async def run(self, code: str, *arguments: str) -> list[str]:
        """Its output, a line each."""
        environ = {**os.environ, "PYTHONPATH": str(self._folder)}
        command: Sequence[str] = [sys.executable, "-c", code, *arguments]
        ended = await asyncio.to_thread(
            subprocess.run, command, env=environ, cwd=self._folder, capture_output=True, text=True, timeout=60
        )
        assert ended.returncode == 0, ended.stderr
        return ended.stdout.split()


@pytest.fixture
def next_version(tmp_path: Path) -> NextVersion:
    return NextVersion(tmp_path)


@pytest_asyncio.fixture
async def redis(redis_server: RedisServer) -> AsyncIterator[ArqRedis]:
    client = connect(redis_server.url, redis_class=ArqRedis)
    yield client
    await client.aclose()


@pytest.mark.asyncio
async def test_a_worker_runs_jobs_of_a_newer_producer_that_use_nothing_new_and_requeues_the_others(
    redis_server: RedisServer, redis: ArqRedis, next_version: NextVersion
) -> None:
    plain, coloured = await next_version.run(ENQUEUE, redis_server.url, URL)
    described = worker_settings(settings=Settings(), redis_pool=None)
    ours = make_worker(described, connect(redis_server.url, redis_class=ArqRedis), handle_signals=False)
    async with Producer(redis) as producer:
        async with running(ours):
            assert (await producer.job(plain).result(timeout_s=20)).status is FetchStatus.BLOCKED
            await wait_until(lambda: ours.jobs_retried == 1)
            await wait_until(lambda: _is_given_back(redis, coloured))
        assert ours.jobs_failed == 0
        assert await redis.exists(f"arq:retry:{coloured}", f"arq:result:{coloured}", f"fetchq:attempts:{coloured}") == 0
        await next_version.run(WORK, "worker", "--burst", "--redis", redis_server.url)
        result = await producer.job(coloured).result(timeout_s=0)
        assert (result.status, len(result.attempts)) == (FetchStatus.BLOCKED, 1)


@pytest.mark.asyncio
async def test_a_newer_worker_runs_the_jobs_of_this_version(
    redis_server: RedisServer, redis: ArqRedis, next_version: NextVersion
) -> None:
    async with Producer(redis) as producer:
        jobs = await producer.enqueue_many([URL] * 3)
        await next_version.run(WORK, "worker", "--burst", "--redis", redis_server.url)
        assert [result.status async for result in producer.as_completed(jobs, timeout_s=0)] == [FetchStatus.BLOCKED] * 3


@pytest.mark.asyncio
async def test_a_job_of_a_newer_version_can_be_cancelled(
    redis_server: RedisServer, redis: ArqRedis, next_version: NextVersion
) -> None:
    _, coloured = await next_version.run(ENQUEUE, redis_server.url, URL)
    async with Producer(redis) as producer:
        assert await producer.job(coloured).cancel() == "cancelled"
        assert (await producer.job(coloured).result(timeout_s=0)).status is FetchStatus.CANCELLED


NEWER = {
    "id": "j",
    "url": URL,
    "status": "MELTED",
    "error": "too hot",
    "mood": {"good": True},
    "attempts": [{"started_at": "2026-01-01T00:00:00Z", "status": "MELTED", "heat": 9}, {"status": 5}][:1],
}


def _stored(value: Any) -> bytes:
    return msgspec.msgpack.encode({"f": "fetch_data", "s": True, "r": value, "a": [], "id": "j", "ver": 2})


def test_an_unknown_outcome_is_an_error_that_names_it() -> None:
    result = wire.decode_result(wire.decode_stored(_stored(NEWER)), "j")
    assert result.status is FetchStatus.INTERNAL_ERROR
    assert not result.ok
    assert result.error == "the outcome 'MELTED' is one of a later version of fetchq: too hot"
    assert [attempt.status for attempt in result.attempts] == [FetchStatus.INTERNAL_ERROR]


@pytest.mark.parametrize("value", [5, {}, {"url": URL}, {"url": 5, "status": "OK"}, {"url": URL, "status": 5}])
def test_a_result_of_no_version_is_refused(value: Any) -> None:
    with pytest.raises(WireError):
        wire.decode_result(wire.decode_stored(_stored(value)), "j")


@pytest.mark.asyncio
async def test_attempts_recorded_by_a_newer_worker_are_counted(embedded: EmbeddedRedis) -> None:
    redis = embedded.client()
    await redis.set("fetchq:attempts:j", msgspec.msgpack.encode({"attempts": NEWER["attempts"], "sending": False}))
    record = await load_history(redis, "fetchq:attempts:j")
    assert (record.made, record.sending) == (1, False)
    await redis.set("fetchq:attempts:j", msgspec.msgpack.encode({"attempts": 5}))
    assert (await load_history(redis, "fetchq:attempts:j")).sending
    await redis.aclose()


@pytest.mark.asyncio
@pytest.mark.parametrize("timeout_s", [0, 20])
async def test_an_unreadable_result_does_not_hold_back_the_others(embedded: EmbeddedRedis, timeout_s: float) -> None:
    redis = embedded.client()
    async with Producer(redis) as producer:
        jobs = [producer.job(name) for name in ("a", "bad", "b")]
        for job in jobs:
            await redis.set(f"arq:result:{job.id}", b"\xc1" if job.id == "bad" else _stored({**NEWER, "status": "OK"}))
        seen = []
        with pytest.raises(WireError):
            async for result in producer.as_completed(jobs, timeout_s=timeout_s):
                seen.append(result.status)
        assert seen == [FetchStatus.OK, FetchStatus.OK]
    await redis.aclose()


def test_known_outcomes_are_unchanged() -> None:
    value = {"status": "OK", "attempts": [{"status": "TIMEOUT"}, 5]}
    assert with_known_outcomes(value) == value
    assert with_known_outcomes([1]) == [1]


def test_a_request_carries_the_earliest_version_that_can_read_it() -> None:
    assert fetchq.FetchRequest(url=URL, retry=RetryPolicy(max_tries=1)).v == 1
    with pytest.raises(fetchq.InvalidRequest, match="v: is a wire version from 1 to"):
        fetchq.FetchRequest(url=URL, v=2)


async def _is_given_back(redis: Any, job_id: str) -> bool:
    return bool(await redis.zscore("arq:queue", job_id) and not await redis.exists(f"arq:in-progress:{job_id}"))
