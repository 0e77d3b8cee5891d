"""The producer for code without an event loop."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator

import pytest
from tests.redis_server import RedisServer

from fetchq import (
    CancelOutcome,
    FetchqError,
    FetchResult,
    FetchStatus,
    InvalidRedisURL,
    JobStatus,
    RedisUnavailable,
    ResultTimeout,
    SyncProducer,
    wire,
)
from fetchq.sync import SyncFetchJob

URL = "https://example.org/"


@pytest.fixture
def url(redis_server: RedisServer) -> str:
    return str(redis_server.url)


@pytest.fixture
def producer(url: str) -> Iterator[SyncProducer]:
    with SyncProducer.from_url(url) as producer:
        yield producer


def _finish(url: str, job: SyncFetchJob) -> None:
    from redis import Redis

    with Redis(unix_socket_path=url.removeprefix("unix://")) as redis:
        result = FetchResult(id=job.id, url=URL, status=FetchStatus.OK)
        redis.set(f"arq:result:{job.id}", wire.serialize({"f": "fetch_data", "s": True, "r": result}))
        redis.zrem("arq:queue", job.id)
        redis.publish(f"fetchq:done:{job.id[:8]}", job.id)


def test_the_same_methods_without_await(producer: SyncProducer, url: str) -> None:
    producer.ping()
    job = producer.enqueue(URL, key="k")
    assert producer.enqueue(URL, key="k") == job == producer.job(job.id)
    assert job.status() is JobStatus.QUEUED
    with pytest.raises(ResultTimeout):
        job.result(timeout_s=0.05)
    _finish(url, job)
    assert job.result(timeout_s=5).ok
    assert producer.enqueue(URL, delay_s=3600).cancel() is CancelOutcome.CANCELLED


def test_many_and_as_completed(producer: SyncProducer, url: str) -> None:
    jobs = producer.enqueue_many(f"http://h/{i}" for i in range(5))
    for job in jobs:
        _finish(url, job)
    assert {result.id for result in producer.as_completed(jobs, timeout_s=5)} == {job.id for job in jobs}
    assert next(producer.as_completed(jobs)).ok


def test_any_thread_may_call_it(producer: SyncProducer) -> None:
    jobs: list[SyncFetchJob] = []
    threads = [threading.Thread(target=lambda: jobs.append(producer.enqueue(URL))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(jobs)) == 8


def test_a_child_after_a_fork_has_a_producer_of_its_own(producer: SyncProducer) -> None:
    before = producer.enqueue(URL)
    child = os.fork()
    if child == 0:  # pragma: no cover - another process
        os._exit(0 if producer.enqueue(URL).id[:8] != before.id[:8] else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert producer.enqueue(URL).id[:8] == before.id[:8]


def test_a_broken_address_and_an_absent_redis_are_clear_errors() -> None:
    with pytest.raises(InvalidRedisURL):
        SyncProducer.from_url("nonsense")
    with SyncProducer.from_url("redis://127.0.0.1:1") as producer, pytest.raises(RedisUnavailable):
        producer.enqueue(URL)


def test_a_closed_producer_says_so_and_leaves_no_thread(url: str) -> None:
    producer = SyncProducer.from_url(url)
    producer.enqueue(URL)
    producer.close()
    producer.close()
    assert "fetchq-producer" not in {thread.name for thread in threading.enumerate()}
    with pytest.raises(FetchqError, match="closed"):
        producer.enqueue(URL)
