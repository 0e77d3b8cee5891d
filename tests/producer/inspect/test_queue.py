"""What operators read of a queue and its workers."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from tests.support.scripted_queue import Queue

from fetchq import Producer
from fetchq.inspect.queue import read_queue_state
from fetchq.inspect.workers import WorkerRecord, decode_record, live_workers
from fetchq.store.keys import Keys

KEYS = Keys()
RECORD = WorkerRecord(id="w", host="h", pid=1, version="0", queue="arq:queue", running=2, concurrency=4)


@pytest.mark.asyncio
async def test_each_job_is_counted_in_one_state(producer: Producer, redis: Any) -> None:
    await producer.enqueue("http://due.example/")
    await producer.enqueue("http://running.example/")
    await producer.enqueue("http://deferred.example/", delay_s=60)
    queue = Queue(redis)
    queue.now_ms = (await redis.time())[0] * 1000 + 1000
    assert len((await queue.claim(1)).ids) == 1
    await redis.zadd(KEYS.dead, {"a": 1})
    await producer.pause()

    state = await read_queue_state(redis, KEYS)

    assert (state.due, state.deferred, state.running, state.dead_letters) == (1, 1, 1, 1)
    assert state.paused
    assert state.queue == "arq:queue"
    assert state.workers == ()


@pytest.mark.asyncio
async def test_a_worker_is_listed_until_its_record_expires_and_foreign_bytes_are_skipped(redis: Any) -> None:
    await redis.zadd(KEYS.workers, {"w": 3000, "expired": 2000, "foreign": 1000})
    await redis.set(f"{KEYS.worker}w", msgspec.json.encode(RECORD))
    await redis.set(f"{KEYS.worker}foreign", b"{}")

    assert await live_workers(redis, KEYS) == [msgspec.structs.replace(RECORD, heartbeat_ms=3000)]


@pytest.mark.parametrize("data", [b"", b"\xff", b"[]", b'{"id": 1}', b"[" * 100_000])
def test_bytes_that_are_not_a_record_are_none(data: bytes) -> None:
    assert decode_record(data) is None


def test_a_record_of_a_later_version_is_read_without_its_new_fields() -> None:
    assert decode_record(msgspec.json.encode({**msgspec.structs.asdict(RECORD), "mood": "good"})) == RECORD
