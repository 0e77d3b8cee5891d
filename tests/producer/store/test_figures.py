"""The figures of a queue, counted in Redis."""

from __future__ import annotations

from typing import Any

import pytest
from tests.support.redis_server import RedisServer
from tests.support.scripted_queue import T0, Queue

from fetchq.store.commands import CancelJob, DeadLetterCommands, JobCommands, Report, RetryJob, WorkerCommands
from fetchq.store.connection import connect
from fetchq.store.keys import Keys
from fetchq.store.runner import PackedRunner
from fetchq.telemetry.figures import (
    BODY_BYTES,
    ENQUEUED,
    LEASES_LOST,
    MAX_FUNCTIONS,
    MINUTE_TTL_S,
    RETRIED_DEAD_LETTERS,
)

MINUTE_MS = 60_000
_NAMES = ("known", "unknown", "known")


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


@pytest.mark.asyncio
async def test_a_job_is_counted_when_it_is_added_and_when_it_ends(queue: Queue) -> None:
    await queue.enqueue(("a", "", "", ""), ("b", "", "", ""), ("a", "", "", ""))
    await queue.enqueue(("a", "", "", ""))
    await queue.claim()
    assert await totals(queue) == {ENQUEUED: 2}
    await queue.commit(("a", "w.1", "clean", 1000, "", "x"), ("b", "w.1", "retry"))
    assert await totals(queue) == {ENQUEUED: 2, "fetch:OK": 1}
    await queue.claim(token="w.2")
    await queue.commit(("b", "w.2", "finish", 1000, "", "x", "", b"", "fetch:TIMEOUT"))
    assert await totals(queue) == await this_minute(queue) == {ENQUEUED: 2, "fetch:OK": 1, "fetch:TIMEOUT": 1}


@pytest.mark.asyncio
async def test_a_commit_that_is_repeated_or_lost_counts_nothing(queue: Queue) -> None:
    await queue.add("a", "b")
    await queue.claim()
    outcome = ("a", "w.1", "finish", 1000, "", "x")
    for _ in range(2):
        await queue.commit(outcome, ("b", "other.1", "finish", 1000, "", "x"))
    assert await totals(queue) == {"fetch:OK": 1}


@pytest.mark.asyncio
async def test_a_job_whose_result_is_refused_counts_when_it_is_stored(queue: Queue) -> None:
    await queue.add("a")
    await queue.claim()
    await queue.commit(("a", "w.1", "finish", 2**63, "", "x"))
    assert await totals(queue) == {}
    await queue.commit(("a", "w.1", "finish", 1000, "", "x"))
    assert await totals(queue) == {"fetch:OK": 1}


@pytest.mark.asyncio
async def test_a_job_without_payload_counts_unless_it_ended_before(queue: Queue) -> None:
    await queue.add("lost", "ended", "stored by an override")
    await queue.redis.delete(queue.keys.job + "lost", queue.keys.job + "ended")
    for job_id in ("ended", "stored by an override"):
        await queue.redis.set(queue.keys.result + job_id, "x")
    claimed = await queue.claim()
    await queue.commit(
        *((job_id, "w.1", "missing", 1000, "", "x", "", b"", f"fetch:{job_id}") for job_id in claimed.ids)
    )
    assert await totals(queue) == {"fetch:lost": 1, "fetch:stored by an override": 1}


@pytest.mark.asyncio
async def test_a_job_without_a_figure_is_not_counted(queue: Queue) -> None:
    await queue.add("a")
    await queue.claim()
    await queue.commit(("a", "w.1", "finish", 1000, "", "x", "", b"", ""))
    assert await totals(queue) == {}


@pytest.mark.asyncio
async def test_a_cancelled_job_counts_once_if_it_waits_and_when_its_run_ends_if_it_runs(queue: Queue) -> None:
    await queue.enqueue(("waits", "", "", ""), ("runs", "", "", ""), ("parked", "+60000", "", "h"))
    await queue.claim(only=["runs"])
    for job_id in ("waits", "parked", "runs", "waits", "gone"):
        await queue.cancel(job_id)
    assert await totals(queue) == {ENQUEUED: 3, "fetch:CANCELLED": 2}


@pytest.mark.asyncio
async def test_a_retried_dead_letter_counts_and_its_job_counts_again(queue: Queue) -> None:
    await queue.add("a")
    await queue.claim()
    await queue.finish_with_dead_letter("a")
    letters = DeadLetterCommands(queue.keys)
    [stored] = await letters.read(queue.runner, [b"a"], max_bytes=1000)
    for _ in range(2):
        await letters.retry(queue.runner, [RetryJob(b"a", stored.ended_ms, b"", "", "")], now_ms=queue.now_ms)
    await queue.claim(token="w.2")
    await queue.commit(("a", "w.2", "finish", 1000, "", "x"))
    assert await totals(queue) == {"fetch:OK": 2, RETRIED_DEAD_LETTERS: 1}


async def end_own(queue: Queue, *ends: tuple[str, str]) -> None:
    """Ends one job of each function, in one commit."""
    ids = [f"{function}-{end}" for end, function in ends]
    await queue.add(*ids)
    await queue.claim(count=1000, only=ids)
    figures = dict(zip(ids, (f"job:{end}:{function}" for end, function in ends), strict=True))
    lost, refused, _ = await queue.commit(
        *((job_id, "w.1", "finish", 0, "", "", "", b"", figure) for job_id, figure in figures.items())
    )
    assert (lost, refused) == ([], [])


@pytest.mark.asyncio
async def test_at_most_fifty_functions_of_a_queue_are_counted_by_name(queue: Queue) -> None:
    await end_own(queue, *(("ok", f"function{n}") for n in range(MAX_FUNCTIONS + 10)))
    await end_own(queue, *(("failed", f"function{n}") for n in range(MAX_FUNCTIONS + 10)))
    counted = await totals(queue)
    assert sum(counted.values()) == 2 * (MAX_FUNCTIONS + 10)
    names = {field.split(":")[2] for field in counted}
    assert len(names) == MAX_FUNCTIONS + 1
    assert counted["job:ok:other"] == counted["job:failed:other"] == 10
    assert counted == await this_minute(queue)


@pytest.mark.asyncio
async def test_only_a_function_that_a_worker_has_run_is_counted_by_name_when_it_is_cancelled(queue: Queue) -> None:
    """Any producer can choose the name of a function."""
    await end_own(queue, ("ok", "known"))
    await queue.add("a", "b", "c")
    jobs = [CancelJob(job_id, b"", 0, "", f"job:cancelled:{name}") for job_id, name in zip("abc", _NAMES, strict=True)]
    assert await JobCommands(queue.keys).cancel(queue.runner, jobs, now_ms=queue.now_ms) == [1, 1, 1]
    assert await totals(queue) == {"job:ok:known": 1, "job:cancelled:known": 2, "job:cancelled:other": 1}


@pytest.mark.asyncio
@pytest.mark.parametrize("value", ["no hash", None])
async def test_a_figure_that_redis_refuses_stops_no_job(queue: Queue, value: str | None) -> None:
    minute = f"{queue.keys.minute}{T0 // MINUTE_MS}"
    if value is not None:
        await queue.redis.mset({queue.keys.metrics: value, minute: value})
    else:
        for key in (queue.keys.metrics, minute):
            await queue.redis.hset(key, mapping={ENQUEUED: "x", "fetch:OK": 2**63 - 1, "fetch:CANCELLED": "1.5"})
    await queue.enqueue(("a", "", "", ""), ("b", "", "", ""))
    await queue.claim(count=1)
    assert await queue.commit(("a", "w.1", "finish", 1000, "", "x")) == ([], [], b"")
    assert await queue.cancel("b") == 1
    assert await queue.redis.exists(queue.keys.result + "a", queue.keys.result + "b") == 2
    assert await queue.redis.zcard(queue.keys.pending) == 0
