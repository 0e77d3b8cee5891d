"""What wire version 1 wrote is read for as long as there is a fetchq: its bytes are frozen in files that never change.

A later version adds a folder of its own; a test that fails here says that queues in the field would lose jobs.
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from pathlib import Path

import pytest
from arq.connections import ArqRedis
from arq.worker import func
from tests.support.running import running
from tests.support.scripted_queue import LEASE_MS, T0, Queue

from fetchq import (
    Attempt,
    FetchRequest,
    FetchResult,
    FetchStatus,
    JobFailed,
    Producer,
    Redirect,
    RetryPolicy,
    Timing,
)
from fetchq.contract import wire
from fetchq_worker.fetch.job.history import AttemptHistory, load_history
from fetchq_worker.process.arq_settings import worker_settings
from fetchq_worker.process.embedded import EmbeddedRedis
from fetchq_worker.process.make_worker import make_worker
from fetchq_worker.settings import Settings

FOLDER = Path(__file__).parent / "wire_1"
URL = "http://10.0.0.1/"
"""Forbidden to a worker, so that its job ends without a network."""
CREDENTIALS = f"""
[credentials.c]
kind = "bearer"
token = "t"
origins = ["{URL}"]
[proxies.p]
url = "http://127.0.0.1:9999"
"""
"""What the jobs name."""
THEN = datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)

REQUESTS = {
    "job-smallest": FetchRequest(url=URL),
    "job-with-its-version": FetchRequest(url=URL),
    "job-by-stock-arq": FetchRequest(url=URL),
    "job-cached": FetchRequest(url=URL, cache=True),
    "job-conditional": FetchRequest(url=URL, etag='"x"', last_modified="Tue, 14 Nov 2023 22:13:20 GMT", delay_s=1.0),
    "job-full": FetchRequest(
        url=f"{URL}hook?x=1",
        method="POST",
        headers=(("Content-Type", "application/json"), ("X-A", "1"), ("X-A", "2")),
        body=b"{}",
        timeout_s=2.5,
        connect_timeout_s=1.5,
        read_timeout_s=2.0,
        max_bytes=1000,
        max_redirects=3,
        retry=RetryPolicy(
            max_tries=2,
            base_s=0.5,
            cap_s=9.0,
            max_retry_after_s=7.0,
            on=(FetchStatus.TIMEOUT,),
            http_statuses=(503,),
        ),
        retry_non_idempotent=True,
        not_before=THEN,
        deadline=datetime(2100, 1, 1, tzinfo=UTC),
        credential="c",
        cookies=True,
        proxy="p",
        verify_tls=False,
        robots=True,
        key="k",
        result_ttl_s=60.0,
        tags=("a", "b"),
    ),
}
ATTEMPTS = (
    Attempt(started_at=THEN, status=FetchStatus.HTTP_ERROR, http_status=503, duration_s=0.5, error="HTTP 503"),
    Attempt(started_at=THEN, status=FetchStatus.OK, http_status=200, duration_s=0.25),
)
RESULTS = {
    "result-ok": FetchResult(
        id="j",
        url=URL,
        final_url=f"{URL}2",
        status=FetchStatus.OK,
        http_status=200,
        headers=(("Content-Type", "text/plain"),),
        body=b"well",
        body_size=4,
        body_sha256="ab" * 32,
        media_type="text/plain",
        charset="utf-8",
        from_cache=True,
        redirects=(Redirect(url=URL, http_status=302),),
        attempts=ATTEMPTS,
        timing=Timing(queued_s=1.0, dns_s=0.1, connect_s=0.2, tls_s=0.3, first_byte_s=0.4, total_s=1.5),
        fetched_at=THEN,
    ),
    "result-failed": FetchResult(
        id="j", url=URL, status=FetchStatus.DNS_ERROR, error="the name does not resolve", fetched_at=THEN
    ),
    "result-cancelled": FetchResult(id="j", url=URL, status=FetchStatus.CANCELLED, error="cancelled on request"),
}
RECORDS = {
    "attempts-one": AttemptHistory(attempts=ATTEMPTS[:1], queued_s=1.0),
    "attempts-sending": AttemptHistory(attempts=ATTEMPTS[:1], sending=True),
}


def frozen(name: str) -> bytes:
    return (FOLDER / f"{name}.msgpack").read_bytes()


def test_every_file_is_looked_at() -> None:
    calls = {"job-of-a-coroutine", "result-of-a-coroutine", "result-of-a-coroutine-that-raised"}
    assert {path.stem for path in FOLDER.iterdir()} == REQUESTS.keys() | RESULTS.keys() | RECORDS.keys() | calls


@pytest.mark.parametrize("name", REQUESTS)
def test_a_job_of_wire_version_1_is_the_request_that_it_was(name: str) -> None:
    job = wire.deserialize(frozen(name))
    assert (job["f"], job["k"], job["et"]) == ("fetch_data", {}, 1_700_000_000_000)
    assert [wire.decode_request(value) for value in job["a"]] == [REQUESTS[name]]


@pytest.mark.parametrize("name", RESULTS)
def test_a_result_of_wire_version_1_is_read(name: str) -> None:
    assert wire.decode_result(wire.decode_stored(frozen(name)), "j") == RESULTS[name]


def test_what_coroutines_returned_and_raised_under_wire_version_1_is_read() -> None:
    value = wire.decode_value(wire.decode_stored(frozen("result-of-a-coroutine")))
    assert value == {"title": "x", "n": [1, 2.5, None]}
    with pytest.raises(JobFailed, match="ZeroDivisionError: division by zero"):
        wire.decode_value(wire.decode_stored(frozen("result-of-a-coroutine-that-raised")))


@pytest.mark.asyncio
@pytest.mark.parametrize("name", RECORDS)
async def test_a_record_of_attempts_of_wire_version_1_is_read(embedded: EmbeddedRedis, name: str) -> None:
    redis = embedded.client()
    await redis.set("fetchq:attempts:j", frozen(name))
    assert await load_history(redis, "fetchq:attempts:j") == RECORDS[name]
    await redis.aclose()


@pytest.mark.asyncio
async def test_a_worker_runs_the_jobs_of_wire_version_1_and_takes_none_for_invalid(
    embedded: EmbeddedRedis, tmp_path: Path
) -> None:
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
async def test_a_lease_that_an_earlier_worker_left_behind_is_ended_as_its_own(embedded: EmbeddedRedis) -> None:
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
