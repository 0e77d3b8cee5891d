"""Dead letters that the engine writes and trims."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest
from arq import func
from arq.connections import ArqRedis
from arq.worker import Retry
from tests.support.running import running, wait_until
from tests.support.scripted_queue import DAY_MS, T0, Queue, job_keys
from tests.worker.engine.conftest import MakeWorker

from fetchq.store.keys import Keys
from fetchq_worker.engine.run.dead_letters import MAX_ENCODED_BYTES, MAX_MESSAGE_CHARS

pytestmark = pytest.mark.asyncio

KEYS = Keys()


async def nothing(ctx: dict[str, Any]) -> None:
    """A job id that is not in the queue."""


async def read_dead_letter(redis: Any, job_id: str) -> list[Any]:
    """Payload, type of its key, its size, and the worker's part."""
    letter: list[Any] = msgspec.msgpack.decode(await redis.get(KEYS.dead_letter + job_id))
    return letter


async def dead_ids(redis: Any) -> list[str]:
    return [job_id.decode() for job_id in await redis.zrange(KEYS.dead, 0, -1)]


async def test_a_dead_letter_is_written_with_the_result_and_holds_the_payload(queue: Queue) -> None:
    payload = bytes(range(256))
    await queue.add("a")
    await queue.redis.set(KEYS.job + "a", payload)
    await queue.claim()
    assert await queue.finish_with_dead_letter("a") == ([], [], b"")
    assert await job_keys(queue.redis) == [b"arq:result:a", b"fetchq:dead-letter:a", b"fetchq:dead:arq:queue"]
    reported = {"f": "work", "t": 1, "s": False, "r": {"type": "ValueError", "message": "no"}}
    assert await read_dead_letter(queue.redis, "a") == [payload, "string", 256, reported]
    assert await queue.redis.zscore(KEYS.dead, "a") == T0
    assert DAY_MS - 60_000 < await queue.redis.pttl(KEYS.dead_letter + "a") <= DAY_MS


async def test_a_payload_of_another_type_is_stored_as_its_dump(queue: Queue) -> None:
    await queue.add("a")
    await queue.redis.delete(KEYS.job + "a")
    await queue.redis.rpush(KEYS.job + "a", "one", "two")
    await queue.claim()
    await queue.commit(("a", "w.1", "missing", 1000, "", "x", "", b"\x80"))
    dump, kind, size, _ = await read_dead_letter(queue.redis, "a")
    assert (kind, size) == ("list", len(dump))
    assert await queue.redis.exists(KEYS.job + "a") == 0
    await queue.redis.restore("again", 0, dump)
    assert await queue.redis.lrange("again", 0, -1) == [b"one", b"two"]


async def test_a_payload_that_is_too_long_is_cut(queue: Queue) -> None:
    await queue.add("a")
    await queue.redis.set(KEYS.job + "a", b"x" * (5 << 20))
    await queue.claim()
    await queue.finish_with_dead_letter("a")
    payload, kind, size, _ = await read_dead_letter(queue.redis, "a")
    assert (payload, kind, size) == (b"x" * 65_536, "string", 5 << 20)


async def test_a_job_without_a_payload_leaves_a_dead_letter_unless_it_was_finished_before(queue: Queue) -> None:
    await queue.add("gone", "finished before")
    await queue.redis.delete(KEYS.job + "gone", KEYS.job + "finished before")
    await queue.redis.set(KEYS.result + "finished before", "well")
    await queue.claim()
    await queue.commit(
        *[(job_id, "w.1", "missing", 1000, "", "x", "", b"\x80") for job_id in ("gone", "finished before")]
    )
    assert await dead_ids(queue.redis) == ["gone"]
    assert (await read_dead_letter(queue.redis, "gone"))[:3] == [b"", "none", 0]


async def test_a_run_that_lost_its_token_leaves_no_dead_letter(queue: Queue) -> None:
    await queue.add("a")
    await queue.claim()
    assert (await queue.finish_with_dead_letter("a", "not mine"))[0] == [b"a"]
    assert await queue.redis.exists(KEYS.dead, KEYS.dead_letter + "a") == 0


async def test_a_job_that_succeeds_removes_an_older_dead_letter_under_its_id(queue: Queue) -> None:
    """A job with an idempotency key can fail, be enqueued again and succeed: then it must not be retried."""
    for _ in range(2):
        await queue.add("a", "other")
        await queue.claim(token=f"w.{queue.now_ms}")
        await queue.finish_with_dead_letter("a", f"w.{queue.now_ms}")
        await queue.finish_with_dead_letter("other", f"w.{queue.now_ms}")
        queue.now_ms += 1
    await queue.add("a")
    await queue.claim(token="w.2")
    await queue.finish("a", "w.2")
    assert await dead_ids(queue.redis) == ["other"]
    assert await queue.redis.keys(KEYS.dead_letter + "*") == [b"fetchq:dead-letter:other"]


async def test_the_oldest_dead_letters_are_removed_when_there_are_too_many(queue: Queue) -> None:
    queue.max_dead_letters = 3
    for number in range(5):
        await queue.add(f"{number}")
        await queue.claim(token=f"w.{number}")
        await queue.finish_with_dead_letter(f"{number}", f"w.{number}")
        queue.now_ms += 1
    assert await dead_ids(queue.redis) == ["2", "3", "4"]
    assert sorted(await queue.redis.keys(KEYS.dead_letter + "*")) == [b"fetchq:dead-letter:%d" % n for n in (2, 3, 4)]


async def test_trimming_removes_old_and_surplus_dead_letters_in_batches(queue: Queue) -> None:
    for number in range(10):
        await queue.add(f"{number}")
        await queue.claim(token=f"w.{number}")
        await queue.finish_with_dead_letter(f"{number}", f"w.{number}")
        queue.now_ms += 1000
    assert await queue.trim_dead_letters() == 0
    queue.now_ms = T0 + 2500 + queue.dead_letter_ttl_ms
    assert await queue.trim_dead_letters(count=2) == 2
    assert await queue.trim_dead_letters(count=2) == 1
    queue.max_dead_letters = 4
    assert await queue.trim_dead_letters() == 3
    assert await dead_ids(queue.redis) == ["6", "7", "8", "9"]
    assert len(await queue.redis.keys(KEYS.dead_letter + "*")) == 4


async def test_a_dead_letter_key_of_the_wrong_type_changes_nothing(queue: Queue) -> None:
    await queue.add("a")
    await queue.claim()
    await queue.redis.set(KEYS.dead, "rubbish")
    with pytest.raises(Exception, match="WRONGTYPE"):
        await queue.finish_with_dead_letter("a")
    assert await queue.redis.exists(KEYS.job + "a", KEYS.result + "a") == 1
    assert await queue.redis.hexists(KEYS.leases, "a")
    assert await queue.score("a") is not None
    await queue.redis.delete(KEYS.dead)
    assert await queue.finish_with_dead_letter("a") == ([], [], b"")


async def test_a_coroutine_that_raises_and_a_job_that_cannot_be_run_leave_dead_letters(
    make_worker: MakeWorker, redis: ArqRedis
) -> None:
    async def fail(ctx: dict[str, Any]) -> None:
        raise ValueError("x" * 2 * MAX_MESSAGE_CHARS)

    async def never(ctx: dict[str, Any]) -> None:
        raise Retry

    await redis.enqueue_job("fail", _job_id="raised")
    await redis.enqueue_job("nobody", _job_id="unknown")
    await redis.enqueue_job("never", _job_id="used up")
    await redis.enqueue_job("fail", _job_id="no job")
    await redis.set(KEYS.job + "no job", b"\xc1 rubbish")
    functions = [func(fail, name="fail"), func(never, name="never", max_tries=2)]
    worker = make_worker(functions, dead_letter_max=10, burst=True)
    await worker.main()
    assert sorted(await dead_ids(redis)) == ["no job", "raised", "unknown", "used up"]
    reported = {job_id: (await read_dead_letter(redis, job_id))[3] for job_id in await dead_ids(redis)}
    assert {job_id: (one["f"], one["t"], one["r"]["type"]) for job_id, one in reported.items()} == {
        "raised": ("fail", 1, "ValueError"),
        "unknown": ("nobody", 1, "JobExecutionFailed"),
        "used up": ("never", 2, "JobExecutionFailed"),
        "no job": ("<unknown>", 1, "DeserializationError"),
    }
    assert reported["used up"]["r"]["message"] == "max 2 retries exceeded"
    assert len(reported["raised"]["r"]["message"]) == MAX_MESSAGE_CHARS
    assert (await read_dead_letter(redis, "no job"))[0] == b"\xc1 rubbish"


async def test_a_coroutine_that_returns_can_report_a_dead_letter(make_worker: MakeWorker, redis: ArqRedis) -> None:
    kept: dict[str, Any] = {"word": "kept", "huge": "x" * MAX_ENCODED_BYTES, "no form": object(), "nothing": None}

    async def give_up(ctx: dict[str, Any], what: str) -> str:
        ctx["fetchq"].dead_letter = kept[what]
        return "gave up"

    for what in kept:
        await redis.enqueue_job("give_up", what, _job_id=what)
    await make_worker([func(give_up, name="give_up")], dead_letter_max=10, burst=True).main()
    assert sorted(await dead_ids(redis)) == ["huge", "no form", "word"]
    reported = {job_id: (await read_dead_letter(redis, job_id))[3] for job_id in await dead_ids(redis)}
    assert (reported["word"]["s"], reported["word"]["r"]) == (True, "kept")
    assert {reported[what]["r"]["type"] for what in ("huge", "no form")} == {"DeadLetterCut"}


async def test_a_retried_or_aborted_job_leaves_no_dead_letter(make_worker: MakeWorker, redis: ArqRedis) -> None:
    started = asyncio.Event()

    async def once_more(ctx: dict[str, Any]) -> None:
        if ctx["job_try"] == 1:
            ctx["fetchq"].dead_letter = "not yet"
            raise Retry

    async def wait(ctx: dict[str, Any]) -> None:
        started.set()
        await asyncio.Event().wait()

    await redis.enqueue_job("once_more", _job_id="again")
    aborted = await redis.enqueue_job("wait", _job_id="aborted")
    assert aborted is not None
    functions = [func(once_more, name="once_more"), func(wait, name="wait")]
    worker = make_worker(functions, dead_letter_max=10, allow_abort_jobs=True)
    async with running(worker):
        await asyncio.wait_for(started.wait(), 10)
        await aborted.abort(timeout=10)
        await wait_until(lambda: worker.jobs_complete == 1)
    assert await redis.exists(KEYS.dead) == 0


async def test_a_worker_keeps_no_dead_letters_by_default(make_worker: MakeWorker, redis: ArqRedis) -> None:
    async def fail(ctx: dict[str, Any]) -> None:
        ctx["fetchq"].dead_letter = "kept"
        raise ValueError

    await redis.enqueue_job("fail", _job_id="a")
    await make_worker([func(fail, name="fail")], burst=True).main()
    assert await redis.keys("fetchq:dead*") == []


async def test_a_running_worker_trims_dead_letters(make_worker: MakeWorker, redis: ArqRedis) -> None:
    await redis.zadd(KEYS.dead, {"old": 1, "older": 0})
    await redis.set(KEYS.dead_letter + "old", "letter")
    async with running(make_worker([nothing], dead_letter_max=10, renew_s=0.05)):
        await wait_until(lambda: _is_gone(redis, KEYS.dead))
    assert await redis.exists(KEYS.dead_letter + "old") == 0


async def _is_gone(redis: ArqRedis, key: str) -> bool:
    return bool(await redis.exists(key) == 0)


@pytest.mark.parametrize("wrong", [{"dead_letter_ttl_s": 0}, {"dead_letter_max": -1}])
async def test_invalid_dead_letter_limits_are_refused(make_worker: MakeWorker, wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        make_worker([nothing], **wrong)
