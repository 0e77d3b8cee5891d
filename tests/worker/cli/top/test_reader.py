"""Reading a queue again and again."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import msgspec
import pytest
import pytest_asyncio
from redis.asyncio import Redis
from redis.asyncio.connection import AbstractConnection
from tests.support.redis_server import RedisServer
from tests.worker.cli.top.samples import NOW_MS, worker

from fetchq import Producer, RedisRefused
from fetchq.inspect.figures import read_figures
from fetchq.inspect.workers import WorkerState
from fetchq.store.connection import connect
from fetchq.store.keys import Keys
from fetchq_worker.cli.top.reader import HISTORY_MINUTES, Reader, has_expired, rates, server_state
from fetchq_worker.cli.top.view import Rates, ServerState

KEYS = Keys()


@pytest_asyncio.fixture
async def redis(redis_server: RedisServer) -> AsyncIterator[Any]:
    client: Redis = connect(redis_server.url)
    yield client
    await client.aclose()


@contextmanager
def counted_round_trips() -> Iterator[Counter[int]]:
    """How often each connection has sent something in the meantime."""
    sent: Counter[int] = Counter()
    send = AbstractConnection.send_packed_command

    async def count(connection: Any, *arguments: Any, **options: Any) -> None:
        sent[id(connection)] += 1
        await send(connection, *arguments, **options)

    with mock.patch.object(AbstractConnection, "send_packed_command", count):
        yield sent


async def now_ms(redis: Any) -> int:
    seconds, micros = await redis.time()
    return int(seconds * 1000 + micros // 1000)


async def count_in(redis: Any, minutes_ago: int, **fields: int) -> None:
    minute = await now_ms(redis) // 60_000 - minutes_ago
    named = {name.replace("__", ":"): value for name, value in fields.items()}
    await redis.hset(f"{KEYS.minute}{minute}", mapping=named)


@pytest.mark.asyncio
async def test_a_reading_takes_two_round_trips(redis: Any, redis_server: RedisServer) -> None:
    async with Producer.from_url(redis_server.url) as producer:
        await producer.enqueue_many(f"http://h{number % 30}.example/{number}" for number in range(900))
    reader = Reader(redis, KEYS)
    await reader.read()
    with counted_round_trips() as sent:
        snapshot = await reader.read()
    assert max(sent.values()) <= 2
    assert len(snapshot.hosts) == 30


@pytest.mark.asyncio
async def test_the_minutes_that_are_over_are_read_once(redis: Any) -> None:
    await count_in(redis, 30, fetch__OK=7, fetch__TIMEOUT=2)
    await count_in(redis, HISTORY_MINUTES + 5, fetch__OK=100)
    reader = Reader(redis, KEYS)
    first = await reader.read()
    assert len(first.minutes) == HISTORY_MINUTES + 1
    await redis.config_resetstat()
    second = await reader.read()
    calls = (await redis.info("commandstats"))["cmdstat_hgetall"]["calls"]
    assert calls <= 3  # the totals, the current minute and the one before
    for snapshot in (first, second):
        assert sum(minute.finished for minute in snapshot.minutes) == 9
        assert sum(minute.failed for minute in snapshot.minutes) == 2
        numbers = [minute.minute for minute in snapshot.minutes]
        assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))


@pytest.mark.asyncio
async def test_rates_are_of_the_last_minute_at_first_and_then_of_the_time_between_readings(redis: Any) -> None:
    await count_in(redis, 1, enqueued=600, fetch__OK=300)
    reader = Reader(redis, KEYS)
    first = (await reader.read()).rates
    assert 60 <= first.span_s <= 120
    assert first.enqueued == pytest.approx(600 / first.span_s)
    await redis.hincrby(KEYS.metrics, "enqueued", 50)
    second = (await reader.read()).rates
    assert second.enqueued == pytest.approx(50 / second.span_s)
    assert second.finished == 0


def test_rates_of_deleted_counters_are_zero() -> None:
    assert rates(-5, 3, 0, 2.0) == Rates(enqueued=0.0, finished=1.5, failed=0.0, span_s=2.0)
    assert rates(5, 3, 0, 0.0) == Rates()


@pytest.mark.asyncio
async def test_percentiles_and_outcomes_are_of_the_last_minutes(redis: Any) -> None:
    await count_in(redis, 2, duration__3=90, duration__9=10, fetch__OK=80, fetch__TIMEOUT=20, job__failed__f=3)
    await count_in(redis, 20, duration__16=1000, fetch__OK=1000)
    snapshot = await Reader(redis, KEYS).read()
    assert snapshot.p50_s is not None
    assert snapshot.p95_s is not None
    assert 0.025 < snapshot.p50_s <= 0.05
    assert 0.75 < snapshot.p95_s <= 1.0
    assert snapshot.recent == {"OK": 80, "TIMEOUT": 20, "f()": 3}


@pytest.mark.asyncio
async def test_an_empty_queue_has_no_percentiles(redis: Any) -> None:
    snapshot = await Reader(redis, KEYS).read()
    assert (snapshot.p50_s, snapshot.p95_s, snapshot.recent, snapshot.hosts) == (None, None, {}, ())
    assert snapshot.server == ServerState()


async def beat(redis: Any, record: Any, *, age_ms: int = 0) -> None:
    at_ms = await now_ms(redis) - age_ms
    await redis.zadd(KEYS.workers, {record.id: at_ms})
    await redis.set(KEYS.worker + record.id, msgspec.json.encode(record))


@pytest.mark.asyncio
async def test_a_worker_whose_record_expires_is_lost_and_one_that_removes_it_is_not(redis: Any) -> None:
    reader = Reader(redis, KEYS)
    for number, age_ms in ((1, 14_000), (2, 1_000), (3, 14_000)):
        await beat(redis, worker(number), age_ms=age_ms)
    assert len((await reader.read()).state.workers) == 3
    for number in (1, 2):
        await redis.delete(f"{KEYS.worker}w{number}")
        await redis.zrem(KEYS.workers, f"w{number}")
    assert [lost.record.id for lost in (await reader.read()).lost] == ["w1"]
    await beat(redis, worker(1))
    assert (await reader.read()).lost == ()


@pytest.mark.asyncio
async def test_a_worker_that_ended_while_nothing_was_read_is_not_called_lost(redis: Any) -> None:
    reader = Reader(redis, KEYS)
    await beat(redis, worker(1), age_ms=4_000)
    figures = await read_figures(redis, KEYS)
    reader._watch_workers(figures)
    an_hour_later = msgspec.structs.replace(figures.state, now_ms=figures.state.now_ms + 3_600_000, workers=())
    reader._watch_workers(msgspec.structs.replace(figures, state=an_hour_later))
    assert reader._lost == {}


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, False),
        ({"heartbeat_ms": NOW_MS - 9_000}, False),
        ({"heartbeat_ms": NOW_MS - 13_000}, True),
        ({"heartbeat_ms": NOW_MS - 13_000, "state": WorkerState.STOPPING}, False),
        ({"heartbeat_ms": NOW_MS - 13_000, "heartbeat_s": 20.0}, False),
        ({"heartbeat_ms": NOW_MS - 13_000, "heartbeat_s": 0.0}, False),
    ],
)
def test_a_record_that_is_gone_has_expired_if_heartbeats_were_missing_before(
    fields: dict[str, Any], expected: bool
) -> None:
    assert has_expired(worker(1, **fields), NOW_MS) is expected


@pytest.mark.asyncio
async def test_a_user_without_info_sees_all_but_the_server(redis: Any, redis_server: RedisServer) -> None:
    await redis.execute_command("ACL", "SETUSER", "looker", "on", ">pw", "~*", "&*", "+@all", "-info")
    client: Redis = connect(redis_server.url.replace("unix://", "unix://looker:pw@"))
    try:
        reader = Reader(client, KEYS)
        assert (await reader.read()).server is None
        await redis.acl_log_reset()
        assert (await reader.read()).server is None
        refused = [entry for entry in await redis.acl_log() if entry["context"] == "toplevel"]
        assert refused == []  # it does not ask again
    finally:
        await client.aclose()
        await redis.acl_deluser("looker")


@pytest.mark.asyncio
async def test_what_redis_refuses_is_one_error(redis: Any) -> None:
    await redis.set(KEYS.backlog, "no sorted set")
    with pytest.raises(RedisRefused):
        await Reader(redis, KEYS).read()


@pytest.mark.asyncio
async def test_limits_of_a_name_that_no_url_has_are_none(redis: Any) -> None:
    reader = Reader(redis, KEYS)
    assert await reader.read_limits("not a host\x1b") is None
    limits = await reader.read_limits("example.org")
    assert limits is not None
    assert limits.concurrency == 8


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ({}, ServerState()),
        ({"role": "master", "rdb_last_bgsave_status": "ok", "aof_last_write_status": "ok"}, ServerState()),
        ({"role": "slave"}, ServerState(is_replica=True)),
        ({"rdb_last_bgsave_status": "err"}, ServerState(cannot_save=True)),
        ({"aof_last_write_status": "err"}, ServerState(cannot_save=True)),
    ],
)
def test_what_info_says(said: dict[str, Any], expected: ServerState) -> None:
    assert server_state(said) == expected


@pytest.mark.asyncio
async def test_a_reading_can_be_cancelled(redis_server: RedisServer) -> None:
    client: Redis = connect(redis_server.url)
    reader = Reader(client, KEYS)
    await reader.read()
    with redis_server.hung():
        reading = asyncio.create_task(reader.read())
        await asyncio.sleep(0)
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
    await client.aclose()
