"""Listing, retrying and purging dead letters with a producer."""

from __future__ import annotations

import pickle
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
import pytest_asyncio
from redis.asyncio import Redis
from tests.support.scripted_queue import Queue, job_keys

from fetchq import (
    Attempt,
    DeadLetterNotFound,
    FetchRequest,
    FetchResult,
    FetchStatus,
    InvalidRequest,
    JobStatus,
    Producer,
    RedisRefused,
    ResultTimeout,
    RetryOutcome,
    RetryPolicy,
)
from fetchq.contract import wire
from fetchq.store.connection import connect

pytestmark = pytest.mark.asyncio

Die = Callable[..., Awaitable[str]]


@pytest_asyncio.fixture
async def queue(redis: Redis) -> Queue:
    """The engine's scripts, whose clock begins now."""
    queue = Queue(redis)  # type: ignore[arg-type]  # it asks for nothing that arq adds
    seconds, micros = await redis.time()
    queue.now_ms = seconds * 1000 + micros // 1000
    return queue


@pytest.fixture
def die(queue: Queue, producer: Producer) -> Die:
    """Enqueues a fetch, or uses an existing job that `raised`, and ends it with a dead letter at the queue's time."""

    async def die(
        request: FetchRequest | str = "http://a.test/",
        status: FetchStatus = FetchStatus.TIMEOUT,
        *,
        job_id: str | None = None,
        raised: BaseException | None = None,
    ) -> str:
        if job_id is None:
            job_id = (await producer.enqueue(request)).id
        await queue.redis.zadd(producer.keys.pending, {job_id: queue.now_ms - 1})
        attempt = Attempt(started_at=datetime.now(UTC), status=status, error="too slow")
        url = request.url if isinstance(request, FetchRequest) else request
        result = FetchResult(id=job_id, url=url, status=status, attempts=(attempt,), error="too slow")
        fields: dict[str, Any] = {"f": "fetch_data", "t": 1, "s": True, "r": result}
        if raised is not None:
            fields |= {"s": False, "r": raised, "f": "work"}
        claim = await queue.claim(1000, token="w.1")
        assert job_id in claim.ids
        assert await queue.finish_with_dead_letter(job_id, fields=fields) == ([], [], b"")
        return job_id

    return die


async def ids_of(producer: Producer, **wanted: Any) -> list[str]:
    return [dead.id async for dead in producer.dead_letters.list(**wanted)]


async def test_a_dead_letter_holds_the_request_and_the_result(producer: Producer, die: Die) -> None:
    request = FetchRequest(url="http://a.test/x", tags=("feeds",), headers=(("Authorization", "Bearer secret"),))
    job_id = await die(request)
    assert await producer.dead_letters.count() == 1
    dead = await producer.dead_letters.get(job_id)
    assert (dead.id, dead.status, dead.error, dead.tries) == (
        job_id,
        FetchStatus.TIMEOUT,
        "too slow",
        1,
    )
    assert dead.request == request
    assert (dead.url, dead.host, dead.tags) == ("http://a.test/x", "a.test", ("feeds",))
    assert [attempt.status for attempt in dead.result.attempts] == [FetchStatus.TIMEOUT]
    assert abs(dead.died_at - datetime.now(UTC)) < timedelta(minutes=1)
    assert dead.whole
    assert "secret" not in repr(dead)


async def test_a_missing_dead_letter_is_not_found(producer: Producer) -> None:
    with pytest.raises(DeadLetterNotFound, match="'unknown'"):
        await producer.dead_letters.get("unknown")
    assert await producer.dead_letters.retry_many(["unknown"]) == [RetryOutcome.NOT_FOUND]
    assert await producer.dead_letters.purge_many(["unknown"]) == [False]
    assert await producer.dead_letters.count() == 0


async def test_dead_letters_are_filtered_by_status_host_tag_and_age(producer: Producer, die: Die, queue: Queue) -> None:
    now_ms = queue.now_ms
    queue.now_ms = now_ms - 3_600_000
    old = await die("http://a.test/old")
    queue.now_ms = now_ms - 1000
    tagged = await die(FetchRequest(url="http://B.test:8080/", tags=("feeds", "daily")))
    other = await die("http://[::1]/", FetchStatus.CONNECT_ERROR)
    assert await ids_of(producer) == [old, *sorted((tagged, other))]
    assert await ids_of(producer, newest_first=True) == [*sorted((tagged, other), reverse=True), old]
    assert await ids_of(producer, status="CONNECT_ERROR") == [other]
    assert await ids_of(producer, host="b.TEST") == [tagged]
    assert await ids_of(producer, host="[0:0::1]") == [other]
    assert await ids_of(producer, tag="daily") == [tagged]
    assert await ids_of(producer, older_than_s=1800) == [old]
    assert sorted(await ids_of(producer, newer_than_s=1800)) == sorted((tagged, other))
    assert await ids_of(producer, newer_than_s=1800, status=FetchStatus.TIMEOUT) == [tagged]
    assert await ids_of(producer, host="b.test", tag="weekly") == []


@pytest.mark.parametrize(
    "wrong",
    [{"status": "SAD"}, {"host": "a/b"}, {"host": 7}, {"older_than_s": -1}, {"newer_than_s": "2d"}, {"color": "red"}],
)
async def test_an_unknown_or_invalid_filter_is_refused_by_its_name(producer: Producer, wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest) as refused:
        await ids_of(producer, **wrong)
    assert refused.value.field == next(iter(wrong))


async def test_a_retried_job_is_queued_under_its_id_like_a_new_one(producer: Producer, die: Die, queue: Queue) -> None:
    job_id = await die()
    await queue.redis.set(producer.keys.attempts + job_id, "left over")
    await queue.redis.delete(producer.keys.wake)
    payload = (await producer.dead_letters.get(job_id)).payload
    assert await producer.dead_letters.retry_many([job_id]) == [RetryOutcome.RETRIED]
    assert await producer.status(job_id) is JobStatus.QUEUED
    assert await queue.redis.get(producer.keys.job + job_id) == payload
    assert await queue.redis.llen(producer.keys.wake) == 1
    assert await producer.dead_letters.count() == 0
    left = await job_keys(queue.redis)
    keys = producer.keys
    assert left == sorted(key.encode() for key in (keys.pending, keys.job + job_id, keys.wake, keys.hosts))
    with pytest.raises(ResultTimeout):
        await producer.job(job_id).result(timeout_s=0)
    queue.now_ms += 1000
    [claimed] = (await queue.claim(token="w.2")).jobs
    assert (claimed.id, claimed.tries) == (job_id, 1)


async def test_a_job_that_is_queued_or_running_again_is_not_retried(producer: Producer, die: Die, queue: Queue) -> None:
    request = FetchRequest(url="http://a.test/", key="k")
    job_id = await die(request)
    await queue.redis.delete(producer.keys.result + job_id)
    assert (await producer.enqueue(request)).id == job_id
    assert await producer.dead_letters.retry_many([job_id]) == [RetryOutcome.ACTIVE]
    queue.now_ms += 60_000
    assert (await queue.claim(token="w.2")).ids == [job_id]
    assert await producer.dead_letters.retry_many([job_id]) == [RetryOutcome.ACTIVE]
    assert await producer.dead_letters.count() == 1


async def test_a_newer_dead_letter_of_the_same_id_is_not_retried(producer: Producer, die: Die, queue: Queue) -> None:
    request = FetchRequest(url="http://a.test/", key="k")
    await die(request)
    dead_letters = producer.dead_letters.list()
    first = await anext(dead_letters)
    await dead_letters.aclose()
    await producer.dead_letters.retry_many([first.id])
    queue.now_ms += 5
    await die(job_id=first.id)
    assert await producer.dead_letters._retry_batch([first]) == [RetryOutcome.ACTIVE]
    assert await producer.dead_letters._purge_entries([]) == 0
    assert await producer.dead_letters.count() == 1


async def test_a_retried_job_has_no_deadline_and_no_earlier_tries(producer: Producer, queue: Queue, die: Die) -> None:
    """With its deadline, which has passed by then, it would expire without a dead letter."""
    soon = datetime.now(UTC) + timedelta(seconds=60)
    job_id = await die(FetchRequest(url="http://a.test/", deadline=soon, timeout_s=7, retry=RetryPolicy(max_tries=2)))
    job = wire.deserialize((await producer.dead_letters.get(job_id)).payload)
    claimed = await die(job_id=await _put(producer, "claimed", wire.serialize({**job, "t": 4})))
    assert await producer.dead_letters.retry_many([job_id, claimed]) == [RetryOutcome.RETRIED] * 2
    for retried in (job_id, claimed):
        again = wire.deserialize(await queue.redis.get(producer.keys.job + retried))
        assert again["t"] is None
        request = wire.decode_request(again["a"][0])
        assert request == FetchRequest(url="http://a.test/", timeout_s=7, retry=RetryPolicy(max_tries=2))


async def test_a_payload_that_is_no_job_is_stored_unchanged(producer: Producer, die: Die) -> None:
    class Refused(ValueError):
        pass

    for job_id, payload in {"pickle": pickle.dumps({"f": "work"}), "rubbish": b"\xc1\x00", "empty": b""}.items():
        await die(job_id=await _put(producer, job_id, payload), raised=Refused("no"))
        dead = await producer.dead_letters.get(job_id)
        assert (dead.payload, dead.whole, dead.job, dead.request) == (
            payload,
            True,
            None,
            None,
        )
        assert (dead.status, dead.error, dead.host, dead.tags) == (
            "INTERNAL_ERROR",
            "Refused: no",
            None,
            (),
        )
        assert await producer.dead_letters.retry_many([job_id]) == [RetryOutcome.RETRIED]
        assert await producer._session.redis.get(producer.keys.job + job_id) == payload


async def test_an_invalid_request_is_listed_and_filtered_too(producer: Producer, die: Die) -> None:
    request = {"url": "http://a.test/", "color": "red", "tags": ["x"]}
    job: dict[str, Any] = {"t": None, "f": "fetch_data", "a": [request], "k": {}, "et": 1}
    await die(job_id=await _put(producer, "odd", wire.serialize(job)), status=FetchStatus.INVALID_JOB)
    dead = await producer.dead_letters.get("odd")
    assert (dead.request, dead.url, dead.tags, dead.whole) == (
        None,
        "http://a.test/",
        ("x",),
        True,
    )
    assert await ids_of(producer, host="a.test", tag="x", status="INVALID_JOB") == ["odd"]


@pytest.mark.parametrize("spoil", ["long", "list", "gone"])
async def test_a_truncated_payload_cannot_be_retried(producer: Producer, die: Die, queue: Queue, spoil: str) -> None:
    await _put(producer, "a", b"x" * (5 << 20))
    if spoil != "long":
        await queue.redis.delete(producer.keys.job + "a")
    if spoil == "list":
        await queue.redis.rpush(producer.keys.job + "a", "x")
    await die(job_id="a", raised=ValueError())
    assert not (await producer.dead_letters.get("a")).whole
    assert await producer.dead_letters.retry_many(["a"]) == [RetryOutcome.INCOMPLETE]
    assert await producer.dead_letters.count() == 1


async def test_an_unreadable_dead_letter_reports_it_and_can_be_purged(
    producer: Producer, queue: Queue, die: Die
) -> None:
    good = await die()
    await queue.redis.zadd(producer.keys.dead, {"bad": queue.now_ms - 1, "gone": 1, "list": 2})
    await queue.redis.set(producer.keys.dead_letter + "bad", b"\x94 rubbish")
    await queue.redis.rpush(producer.keys.dead_letter + "list", "x")
    assert await ids_of(producer) == ["bad", good]
    assert "cannot be read" in str((await producer.dead_letters.get("bad")).error)
    assert await producer.dead_letters.retry_many(["bad", "gone", "list"]) == [
        RetryOutcome.INCOMPLETE,
        RetryOutcome.NOT_FOUND,
        RetryOutcome.NOT_FOUND,
    ]
    assert [count async for count in producer.dead_letters.purge_all()] == [4]
    assert await queue.redis.keys("fetchq:dead*") == []


async def test_many_are_retried_in_batches_each_once(producer: Producer, queue: Queue) -> None:
    ids = await _store_many(producer, queue, 2500)
    outcomes = [counts async for counts in producer.dead_letters.retry_all()]
    assert outcomes == [{RetryOutcome.RETRIED: 1000}, {RetryOutcome.RETRIED: 1000}, {RetryOutcome.RETRIED: 500}]
    assert await queue.redis.zcard(producer.keys.pending) == 2500
    assert {job_id.decode() for job_id in await queue.redis.zrange(producer.keys.pending, 0, -1)} == set(ids)
    assert await queue.redis.keys("fetchq:dead*") == []
    assert await queue.redis.llen(producer.keys.wake) == 8


async def test_retried_jobs_of_a_full_host_are_parked_like_new_ones(producer: Producer, queue: Queue) -> None:
    await _store_many(producer, queue, 100, host="a.test")
    assert [counts async for counts in producer.dead_letters.retry_all()] == [{RetryOutcome.RETRIED: 100}]
    assert await queue.redis.zcard(producer.keys.pending) == 100
    assert await queue.redis.zcard(producer.keys.waiting + "a.test") == 92
    assert await queue.redis.zscore(producer.keys.backlog, "a.test") == 92
    other = await producer.enqueue("http://b.test/")
    assert await producer.status(other.id) is JobStatus.QUEUED


async def test_many_dead_letters_of_one_millisecond_are_all_listed_while_some_are_removed(
    producer: Producer, queue: Queue
) -> None:
    ids = await _store_many(producer, queue, 3500, spread_ms=0)
    found: list[str] = []
    async for dead in producer.dead_letters.list():
        found.append(dead.id)
        if len(found) % 500 == 0:
            await producer.dead_letters.purge_many(found[-500::7])
    assert sorted(found) == sorted(ids)
    assert len(await ids_of(producer, newest_first=True)) == 3500 - 7 * 72


async def test_only_dead_letters_that_match_the_filter_are_retried_or_purged(producer: Producer, die: Die) -> None:
    stay = await die("http://stay.test/")
    retried = await die("http://again.test/")
    purged = await die(FetchRequest(url="http://stay.test/", tags=("old",)))
    assert [counts async for counts in producer.dead_letters.retry_all(host="again.test")] == [
        {RetryOutcome.RETRIED: 1}
    ]
    assert [count async for count in producer.dead_letters.purge_all(tag="old")] == [1]
    assert await ids_of(producer) == [stay]
    assert await producer.status(retried) is JobStatus.QUEUED
    assert await producer.dead_letters.purge_many([stay, purged]) == [True, False]


async def test_a_job_that_dies_again_during_retry_all_is_not_retried_twice(
    producer: Producer, queue: Queue, die: Die
) -> None:
    await _store_many(producer, queue, 1500)
    batches = producer.dead_letters.retry_all()
    first = await anext(batches)
    queue.now_ms += 3_600_000
    again = (await queue.claim(5, token="w.9")).ids
    for job_id in again:
        await queue.finish_with_dead_letter(job_id, "w.9")
    assert [first, *[counts async for counts in batches]] == [{RetryOutcome.RETRIED: 1000}, {RetryOutcome.RETRIED: 500}]
    assert await producer.dead_letters.count() == 5


async def test_a_batch_is_bounded_in_bytes_too(producer: Producer, queue: Queue, die: Die) -> None:
    for number in range(9):
        await die(FetchRequest(url=f"http://a.test/{number}", method="POST", body=b"x" * (1 << 20)))
    counts = [batch[RetryOutcome.RETRIED] async for batch in producer.dead_letters.retry_all(host="a.test")]
    assert sum(counts) == 9
    assert max(counts) <= 5


async def test_a_full_redis_refuses_a_retry_and_the_dead_letter_stays(redis_server: Any) -> None:
    client: Redis = connect(redis_server.url)
    async with Producer(client) as producer:
        queue = Queue(client)  # type: ignore[arg-type]
        ids = await _store_many(producer, queue, 10)
        await client.config_set("maxmemory", 1)
        try:
            with pytest.raises(RedisRefused, match="full"):
                await producer.dead_letters.retry_many(ids)
        finally:
            await client.config_set("maxmemory", 0)
        assert await producer.dead_letters.count() == 10
        assert await client.exists(*(producer.keys.job + job_id for job_id in ids)) == 0
        assert await client.zcard(producer.keys.pending) == 0
    await client.aclose()


async def test_ids_are_checked(producer: Producer) -> None:
    for call in (producer.dead_letters.retry_many, producer.dead_letters.purge_many):
        with pytest.raises(InvalidRequest, match="takes a list of ids"):
            await call("one")
        with pytest.raises(InvalidRequest, match="takes a string"):
            await call([7])  # type: ignore[list-item]


async def test_a_dead_letter_of_another_coroutine_holds_its_error(producer: Producer, queue: Queue) -> None:
    for job_id, value in {"text": "gave up", "map": {"rows": 3}}.items():
        await queue.add(job_id)
        await queue.claim()
        await queue.finish_with_dead_letter(job_id, fields={"f": "work", "t": 2, "s": True, "r": value})
    dead_letters = {dead.id: dead async for dead in producer.dead_letters.list()}
    assert {job_id: one.error for job_id, one in dead_letters.items()} == {"text": "gave up", "map": '{"rows":3}'}
    assert {one.status for one in dead_letters.values()} == {FetchStatus.INTERNAL_ERROR}


async def test_the_documented_bytes_are_what_the_commit_writes_and_the_producer_reads(
    producer: Producer, queue: Queue
) -> None:
    page = Path(__file__).parents[3].joinpath("docs", "job-contract.md").read_text(encoding="utf-8")
    data = bytes.fromhex(page.split("```hex dead-letter\n", 1)[1].split("```", 1)[0])
    payload, _, _, fields = msgspec.msgpack.decode(data)
    fields["r"] = msgspec.convert(fields["r"], FetchResult)
    await _put(producer, "a", payload)
    await queue.claim()
    await queue.finish_with_dead_letter("a", fields=fields)
    assert await queue.redis.get(producer.keys.dead_letter + "a") == data
    dead = await producer.dead_letters.get("a")
    assert (dead.status, dead.error, dead.tries) == (
        FetchStatus.TIMEOUT,
        "no answer within 30 s",
        3,
    )
    assert dead.request == FetchRequest(url="https://example.org/")


async def _put(producer: Producer, job_id: str, payload: bytes) -> str:
    await producer._session.redis.set(producer.keys.job + job_id, payload)
    await producer._session.redis.zadd(producer.keys.pending, {job_id: 1})
    return job_id


async def _store_many(producer: Producer, queue: Queue, count: int, *, spread_ms: int = 1, host: str = "") -> list[str]:
    ids: list[str] = []
    queue.max_dead_letters = 10_000  # one host each, so that they do not wait for each other when they are retried
    seconds, micros = await queue.redis.time()
    start_ms = seconds * 1000 + micros // 1000 - 60_000
    for start in range(0, count, 500):
        numbers = range(start, min(count, start + 500))
        async with queue.redis.pipeline(transaction=False) as pipe:
            for number in numbers:
                request = FetchRequest(url=f"http://{host or f'host{number}.test'}/")
                pipe.set(f"{producer.keys.job}{number:05d}", wire.encode_job("fetch_data", (request,), {}, start_ms))
            pipe.zadd(producer.keys.pending, {f"{number:05d}": start_ms for number in numbers})
            await pipe.execute()
        queue.now_ms = start_ms + 120_000
        claim = await queue.claim(500, token=f"w.{start}")
        queue.now_ms = start_ms + start * spread_ms
        dead = wire.serialize({"f": "fetch_data", "t": 1, "s": False, "r": TimeoutError()})
        assert len(claim.ids) == len(numbers)
        await queue.commit(*[(job_id, f"w.{start}", "finish", 60_000, "", "x", "", dead) for job_id in claim.ids])
        ids += claim.ids
    await queue.redis.delete(producer.keys.wake)
    return ids
