"""Jobs, results and attempt histories written by wire version 1 can be read by every later version.

The files in `wire_1` are what it wrote. A test that fails here means that queues in production would lose jobs.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from arq.connections import ArqRedis
from arq.worker import func
from tests.support.running import running
from tests.support.scripted_queue import LEASE_MS, T0, Queue
from tests.support.wire_cases import CALLS, HISTORIES, REQUESTS, RESULTS, URL, encoded, folder_of

from fetchq import FetchStatus, JobFailed, Producer
from fetchq.contract import wire
from fetchq.contract.request import WIRE_VERSION
from fetchq_worker.fetch.job.history import load_history
from fetchq_worker.process.arq_settings import worker_settings
from fetchq_worker.process.embedded import EmbeddedRedis
from fetchq_worker.process.make_worker import make_worker
from fetchq_worker.settings import Settings

CREDENTIALS = f"""
[credentials.c]
kind = "bearer"
token = "t"
origins = ["{URL}"]
[proxies.p]
url = "http://127.0.0.1:9999"
"""
"""The credential and the proxy that the jobs name."""


def frozen(name: str) -> bytes:
    return (folder_of(1) / f"{name}.msgpack").read_bytes()


def test_every_file_is_tested() -> None:
    assert {path.stem for path in folder_of(1).iterdir()} == {*REQUESTS, *RESULTS, *HISTORIES, *CALLS}


def test_this_version_writes_the_files_of_its_wire_version() -> None:
    if not folder_of(WIRE_VERSION).exists():
        pytest.skip("this wire version is not released yet, and so not frozen")
    assert {path.stem: path.read_bytes() for path in folder_of(WIRE_VERSION).iterdir()} == encoded()


@pytest.mark.parametrize("name", REQUESTS)
def test_a_job_of_wire_version_1_is_read_as_its_request(name: str) -> None:
    job = wire.deserialize(frozen(name))
    assert (job["f"], job["k"], job["et"]) == ("fetch_data", {}, 1_700_000_000_000)
    assert [wire.decode_request(value) for value in job["a"]] == [REQUESTS[name]]


@pytest.mark.parametrize("name", RESULTS)
def test_a_result_of_wire_version_1_is_read(name: str) -> None:
    assert wire.decode_result(wire.decode_stored(frozen(name)), "j") == RESULTS[name]


def test_the_limit_key_and_lane_of_a_coroutine_of_wire_version_1_are_read() -> None:
    job = wire.decode_plain_job(frozen("job-of-a-coroutine-limited"))
    assert job is not None
    assert (job.function, job.tries, job.limit_key) == ("page_title", 2, "tenant")
    assert wire.deserialize(frozen("job-of-a-coroutine-limited"))["priority"] == "high"


def test_values_and_exceptions_of_coroutines_of_wire_version_1_are_read() -> None:
    value = wire.decode_value(wire.decode_stored(frozen("result-of-a-coroutine")))
    assert value == {"title": "x", "n": [1, 2.5, None]}
    with pytest.raises(JobFailed, match="ZeroDivisionError: division by zero"):
        wire.decode_value(wire.decode_stored(frozen("result-of-a-coroutine-that-raised")))


@pytest.mark.asyncio
@pytest.mark.parametrize("name", HISTORIES)
async def test_an_attempt_history_of_wire_version_1_is_read(embedded: EmbeddedRedis, name: str) -> None:
    redis = embedded.client()
    await redis.set("fetchq:attempts:j", frozen(name))
    assert await load_history(redis, "fetchq:attempts:j") == HISTORIES[name]
    await redis.aclose()


@pytest.mark.asyncio
async def test_a_worker_runs_the_jobs_of_wire_version_1(embedded: EmbeddedRedis, tmp_path: Path) -> None:
    async def page_title(ctx: object, url: str, *more: object, **named: object) -> list[object]:
        return [url, *more, named]

    redis: ArqRedis = embedded.client()
    names = [*REQUESTS, "job-of-a-coroutine"]
    for name in names:
        await redis.set(f"arq:job:{name}", frozen(name))
        await redis.zadd("arq:queue", {name: 1_700_000_000_000})
    secrets = tmp_path / "credentials.toml"
    secrets.write_text(CREDENTIALS)
    secrets.chmod(0o600)
    settings = Settings(credentials_file=str(secrets), allow_unverified_tls=True)
    described = worker_settings([func(page_title, name="page_title")], settings=settings, redis_pool=None)
    worker = make_worker(described, embedded.client(), handle_signals=False)
    async with Producer(redis) as producer, running(worker), asyncio.timeout(20):
        jobs = [producer.job(name) for name in REQUESTS]
        ended = [result.status async for result in producer.as_completed(jobs)]
        value = await producer.job("job-of-a-coroutine").value()
    assert set(ended) == {FetchStatus.BLOCKED}
    assert value == [URL, 5, b"x", [1.5], {"deep": {"a": None}}]
    await redis.aclose()


@pytest.mark.asyncio
async def test_a_lease_of_an_earlier_worker_is_taken_over_once_it_has_ended(embedded: EmbeddedRedis) -> None:
    redis = embedded.client()
    queue = Queue(redis)
    await queue.add("a")
    await redis.hset(queue.keys.leases, "a", f"w.1|{T0 - 1}|{T0 - LEASE_MS}|")  # type: ignore[misc]
    await redis.zadd(queue.keys.pending, {"a": T0 - 1})
    await redis.zadd(queue.keys.lease_ends, {"a": T0 - 1})
    await redis.set(queue.keys.in_progress + "a", "w.1")
    await redis.set(queue.keys.retry + "a", "1")
    [job] = (await queue.claim(token="w.2")).jobs
    assert (job.id, job.tries) == ("a", 2)
    await redis.aclose()
