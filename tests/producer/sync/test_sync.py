"""The producer for code without an event loop."""

from __future__ import annotations

import contextlib
import inspect
import os
import signal
import sqlite3
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future

import pytest
from tests.support.redis_server import RedisServer

from fetchq import (
    CancelOutcome,
    FetchqError,
    FetchRequest,
    FetchResult,
    FetchStatus,
    InvalidRedisURL,
    InvalidRequest,
    JobStatus,
    KeyConflict,
    Producer,
    RedisUnavailable,
    ResultTimeout,
    SyncProducer,
)
from fetchq.client.dead_letters import DeadLetters
from fetchq.client.handles import FetchJob, Job
from fetchq.client.limits import Limits
from fetchq.contract import wire
from fetchq.sync.producer import SyncDeadLetters, SyncFetchJob, SyncJob, SyncLimits

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


def test_a_child_after_a_fork_has_its_own_producer(producer: SyncProducer) -> None:
    before = producer.enqueue(URL)
    child = os.fork()
    if child == 0:  # pragma: no cover - another process
        os._exit(0 if producer.enqueue(URL).id[:8] != before.id[:8] else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert producer.enqueue(URL).id[:8] == before.id[:8]


def test_an_invalid_address_and_an_unreachable_redis_are_clear_errors() -> None:
    with pytest.raises(InvalidRedisURL):
        SyncProducer.from_url("nonsense")
    with SyncProducer.from_url("redis://127.0.0.1:1") as producer, pytest.raises(RedisUnavailable):
        producer.enqueue(URL)


def test_a_closed_producer_raises_and_leaves_no_thread(url: str) -> None:
    producer = SyncProducer.from_url(url)
    producer.enqueue(URL)
    producer.close()
    producer.close()
    assert "fetchq-producer" not in {thread.name for thread in threading.enumerate()}
    with pytest.raises(FetchqError, match="closed"):
        producer.enqueue(URL)


def test_the_iterable_of_enqueue_many_is_read_in_the_callers_thread(producer: SyncProducer) -> None:
    with contextlib.closing(sqlite3.connect(":memory:")) as database:  # it refuses every other thread
        database.execute("CREATE TABLE pages (url TEXT)")
        database.executemany("INSERT INTO pages VALUES (?)", ([f"http://h/{i}"] for i in range(1200)))
        rows = database.execute("SELECT url FROM pages")
        assert len(producer.enqueue_many(url for (url,) in rows)) == 1200


def test_an_iterable_may_itself_use_the_producer(producer: SyncProducer) -> None:
    def requests() -> Iterator[str]:
        for i in range(3):
            assert producer.enqueue(URL).status() is JobStatus.QUEUED
            yield f"http://h{i}.example/"

    assert len(set(producer.enqueue_many(requests()))) == 3


def test_a_slow_iterable_holds_up_no_other_thread(producer: SyncProducer) -> None:
    asked, go_on = threading.Event(), threading.Event()

    def requests() -> Iterator[str]:
        asked.set()
        assert go_on.wait(30)
        yield URL

    jobs: list[SyncFetchJob] = []
    slow = threading.Thread(target=lambda: jobs.extend(producer.enqueue_many(requests())))
    slow.start()
    assert asked.wait(30)
    assert producer.enqueue(URL).status() is JobStatus.QUEUED
    go_on.set()
    slow.join()
    assert len(jobs) == 1


@pytest.mark.parametrize("count", [1500, 2000])
def test_an_error_of_the_iterable_reports_what_was_enqueued_before_it(producer: SyncProducer, count: int) -> None:
    def requests() -> Iterator[str]:
        for i in range(count):
            yield f"http://h{i}.example/"
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError) as problem:
        producer.enqueue_many(requests())
    jobs = problem.value.enqueued  # type: ignore[attr-defined]  # enqueue_many sets it
    assert len(jobs) == count // 1000 * 1000
    assert jobs[-1].status() in (JobStatus.QUEUED, JobStatus.DEFERRED)
    assert f"{len(jobs)} jobs were put on the queue" in problem.value.__notes__[0]


def test_a_key_conflict_in_a_batch_reports_blocking_handles(producer: SyncProducer) -> None:
    producer.enqueue(URL, key="k")
    with pytest.raises(KeyConflict) as conflict:
        producer.enqueue_many([FetchRequest(url="http://a/"), FetchRequest(url="http://b/", key="k")])
    [job] = conflict.value.enqueued
    assert isinstance(job, SyncFetchJob)
    assert job.status() is JobStatus.QUEUED


def test_an_argument_that_is_not_iterable_is_refused(producer: SyncProducer) -> None:
    with pytest.raises(InvalidRequest, match="not NoneType"):
        producer.enqueue_many(None)  # type: ignore[arg-type]  # that is the point
    with pytest.raises(InvalidRequest, match=r"for a single request call enqueue\(\)"):
        producer.enqueue_many(URL)


def test_a_call_in_the_event_loops_own_thread_is_refused_and_does_not_hang(producer: SyncProducer) -> None:
    producer.ping()
    refused: Future[str] = Future()

    def call() -> None:
        try:
            producer.ping()
        except FetchqError as problem:
            refused.set_result(str(problem))

    producer._mirrored()[0]._loop.call_soon_threadsafe(call)
    assert "own event loop" in refused.result(timeout=30)


def test_all_jobs_of_a_tag_are_cancelled(producer: SyncProducer) -> None:
    tagged = producer.enqueue_many(FetchRequest(url=URL, tags=("nightly",)) for _ in range(30))
    other = producer.enqueue(URL)
    counts = list(producer.cancel_all(tag="nightly"))
    assert sum(count[CancelOutcome.CANCELLED] for count in counts) == len(tagged)
    assert other.status() is JobStatus.QUEUED


@pytest.mark.parametrize(
    ("blocking", "original", "not_mirrored"),
    [
        (SyncProducer, Producer, {"aclose"}),
        (SyncDeadLetters, DeadLetters, set()),
        (SyncLimits, Limits, set()),
        (SyncJob, Job, set()),
        (SyncFetchJob, FetchJob, set()),
    ],
)
def test_it_has_the_methods_of_the_async_one_with_their_parameters(
    blocking: type, original: type, not_mirrored: set[str]
) -> None:
    def methods(kind: type) -> dict[str, list[str]]:
        named = {name: value for name, value in vars(kind).items() if callable(value) and name[0] != "_"}
        return {name: list(inspect.signature(value).parameters) for name, value in named.items()}

    expected = {name: names for name, names in methods(original).items() if name not in not_mirrored}
    assert {name: names for name, names in methods(blocking).items() if name != "close"} == expected


def test_a_fork_while_another_thread_holds_the_lock_leaves_a_child_that_works(producer: SyncProducer) -> None:
    producer.ping()
    held, let_go = threading.Event(), threading.Event()

    def hold() -> None:
        with producer._lock:
            held.set()
            let_go.wait(60)

    holder = threading.Thread(target=hold)
    holder.start()
    assert held.wait(30)
    child = os.fork()
    if child == 0:  # pragma: no cover - another process
        signal.alarm(20)  # ends it if it hangs
        os._exit(0 if producer.enqueue(URL).status() is JobStatus.QUEUED else 1)
    let_go.set()
    holder.join()
    assert os.waitpid(child, 0)[1] == 0
    producer.ping()


def test_closing_it_ends_the_wait_of_another_thread(url: str) -> None:
    producer = SyncProducer.from_url(url)
    job = producer.enqueue(URL)
    ended: Future[FetchResult] = Future()

    def wait() -> None:
        try:
            ended.set_result(job.result())
        except FetchqError as problem:
            ended.set_exception(problem)

    waiter = threading.Thread(target=wait)
    waiter.start()
    until = time.monotonic() + 30
    while not producer._mirrored()[1].results._futures and time.monotonic() < until:
        time.sleep(0.005)
    producer.close()
    with pytest.raises(FetchqError, match="closed"):
        ended.result(timeout=30)
    waiter.join()
