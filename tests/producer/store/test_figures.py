"""The figures of a queue, counted in Redis."""

from __future__ import annotations

from typing import Any

import pytest
from tests.support.redis_server import RedisServer
from tests.support.scripted_queue import T0, Queue

from fetchq.store.commands import Report, WorkerCommands
from fetchq.store.connection import connect
from fetchq.store.keys import Keys
from fetchq.store.runner import PackedRunner
from fetchq.telemetry.figures import BODY_BYTES, LEASES_LOST, MINUTE_TTL_S

MINUTE_MS = 60_000


async def figures(redis: Any, key: str) -> dict[str, int]:
    return {field.decode(): int(number) for field, number in (await redis.hgetall(key)).items()}


async def totals(queue: Queue) -> dict[str, int]:
    return await figures(queue.redis, queue.keys.metrics)


async def this_minute(queue: Queue) -> dict[str, int]:
    return await figures(queue.redis, f"{queue.keys.minute}{queue.now_ms // MINUTE_MS}")


async def beat(queue: Queue, report: Report | None, worker_id: str = "w") -> str:
    return await WorkerCommands(queue.keys).heartbeat(
        queue.runner, worker_id=worker_id, record=b"{}", ttl_ms=1000, report=report, now_ms=queue.now_ms
    )


@pytest.mark.asyncio
async def test_a_report_adds_to_the_totals_and_to_the_minute(queue: Queue) -> None:
    assert await beat(queue, Report(1, [BODY_BYTES, 100, "attempt:OK", 2])) == ""
    assert await beat(queue, Report(2, [BODY_BYTES, 10])) == ""
    assert await totals(queue) == await this_minute(queue) == {BODY_BYTES: 110, "attempt:OK": 2}
    queue.now_ms += MINUTE_MS
    await beat(queue, Report(3, [BODY_BYTES, 1]))
    assert (await totals(queue))[BODY_BYTES] == 111
    assert await this_minute(queue) == {BODY_BYTES: 1}


@pytest.mark.asyncio
async def test_a_repeated_report_counts_once(queue: Queue) -> None:
    for report in (Report(1, [LEASES_LOST, 1]), Report(1, [LEASES_LOST, 1]), Report(2, [LEASES_LOST, 1])):
        assert await beat(queue, report) == ""
    await beat(queue, Report(1, [LEASES_LOST, 1]))  # an old connection's
    await beat(queue, Report(1, [LEASES_LOST, 1]), "another worker")
    assert await totals(queue) == {LEASES_LOST: 3}


@pytest.mark.asyncio
async def test_a_heartbeat_without_a_report_counts_nothing(queue: Queue) -> None:
    await beat(queue, None)
    await beat(queue, Report(1, []))
    assert await queue.redis.exists(queue.keys.metrics, queue.keys.worker_report + "w") == 0


@pytest.mark.asyncio
async def test_the_number_of_the_last_report_and_each_minute_expire(queue: Queue) -> None:
    await beat(queue, Report(1, [BODY_BYTES, 1]))
    minute = f"{queue.keys.minute}{T0 // MINUTE_MS}"
    assert 80_000 < await queue.redis.ttl(queue.keys.worker_report + "w") <= 86_400
    assert MINUTE_TTL_S - 60 < await queue.redis.ttl(minute) <= MINUTE_TTL_S
    await queue.redis.expire(minute, 100)
    await beat(queue, Report(2, [BODY_BYTES, 1, LEASES_LOST, 1]))
    assert await queue.redis.ttl(minute) <= 100
    assert await queue.redis.ttl(queue.keys.metrics) == -1


@pytest.mark.asyncio
async def test_figures_that_redis_refuses_do_not_fail_a_heartbeat(queue: Queue) -> None:
    await queue.redis.set(queue.keys.metrics, "no hash")
    assert "WRONGTYPE" in await beat(queue, Report(1, [BODY_BYTES, 1]))
    assert await this_minute(queue) == {BODY_BYTES: 1}
    await queue.redis.delete(queue.keys.metrics)
    await queue.redis.hset(queue.keys.metrics, BODY_BYTES, 2**63 - 1)
    assert "overflow" in await beat(queue, Report(2, [LEASES_LOST, 1, BODY_BYTES, 1]))
    assert (await totals(queue))[LEASES_LOST] == 1
    await queue.redis.delete(queue.keys.worker_report + "w")
    await queue.redis.lpush(queue.keys.worker_report + "w", "no string")
    await beat(queue, Report(3, [LEASES_LOST, 1]))
    assert (await totals(queue))[LEASES_LOST] == 2
    assert await queue.redis.zscore(queue.keys.workers, "w") == queue.now_ms


@pytest.mark.asyncio
async def test_without_rights_for_the_figures_a_heartbeat_does_all_but_count(redis_server: RedisServer) -> None:
    """A fleet that is upgraded before the rules of `fetchq acl` are applied again goes on working."""
    keys = Keys()
    rule = ("reset", "on", ">pw", f"~{keys.workers}", f"~{keys.worker}*", "+@all")
    async with connect(redis_server.url) as admin:
        await admin.execute_command("ACL", "SETUSER", "old", *rule)
        try:
            async with connect(f"unix://old:pw@{redis_server.socket}") as old:
                refusal = await WorkerCommands(keys).heartbeat(
                    PackedRunner(old, timeout_s=10),
                    worker_id="w",
                    record=b"{}",
                    ttl_ms=9999,
                    report=Report(1, ["a", 1]),
                )
            assert "NOPERM" in refusal or "permission" in refusal or "can't access" in refusal
            assert await admin.exists(keys.worker + "w", keys.workers) == 2
            assert await admin.exists(keys.metrics, keys.worker_report + "w") == 0
        finally:
            await admin.execute_command("ACL", "DELUSER", "old")
