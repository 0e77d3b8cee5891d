"""Unexpected arguments of scripts: ids of any text, results of any bytes, texts in place of numbers.

With each of them a job is finished once, with its result, and no other job is changed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from redis.exceptions import ResponseError
from tests.support.scripted_queue import Queue

from fetchq_worker.process.embedded import EmbeddedRedis

EXAMPLES = 60
ODD = ["", "|", "%", "a|b|c", "a\nb", "^$()%.[]*+-?", "0", "-1", "nan", "\0", "fetchq:", "é" * 9, "x" * 300]
NUMBERS = ["", "x", "-1", "nan", "inf", "1e400", "9" * 40, "0x10", "\0"]
TEXTS = st.sampled_from(ODD) | st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
IDS = st.lists(TEXTS, min_size=1, max_size=6, unique=True)


@pytest.fixture(scope="module")
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as runner:
        yield runner


fuzz = settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))


@fuzz
@given(ids=IDS, result=st.binary(min_size=1, max_size=50))
@example(ids=ODD, result=b"\x00\xff|")
def test_jobs_of_any_ids_are_claimed_renewed_and_finished_once(
    runner: asyncio.Runner, ids: list[str], result: bytes
) -> None:
    async def run() -> None:
        redis = EmbeddedRedis().client()
        queue = Queue(redis)
        await queue.add(*ids, "bystander")
        claim = await queue.claim(count=len(ids))
        assert sorted(claim.ids) == sorted(ids)
        assert await queue.renew(*((job_id, "w.1") for job_id in ids)) == []
        assert await queue.renew(*((job_id, "w.2") for job_id in ids)) == [job_id.encode() for job_id in ids]
        wrong = [(job_id, "w.2", "finish", 1000, "", b"of another") for job_id in ids]
        assert (await queue.commit(*wrong))[0] == [job_id.encode() for job_id in ids]
        right = [(job_id, "w.1", "finish", 3_600_000, "", result) for job_id in ids]
        assert await queue.commit(*right) == ([], [], b"")
        assert (await queue.commit(*right))[0] == [job_id.encode() for job_id in ids]
        assert {await redis.get(queue.keys.result + job_id) for job_id in ids} == {result}
        assert await redis.zrange(queue.keys.pending, 0, -1) == [b"bystander"]
        assert await redis.hlen(queue.keys.leases) == 0  # type: ignore[misc]  # redis-py 5's two kinds of reply
        await redis.aclose()

    runner.run(run())


@fuzz
@given(number=st.sampled_from(NUMBERS), action=st.sampled_from(["finish", "retry", "requeue", "", "missing", "x"]))
def test_invalid_numbers_lose_no_job(runner: asyncio.Runner, number: str, action: str) -> None:
    """Whether the call is refused or not, each job can be claimed again or has its result afterwards."""

    async def run() -> None:
        redis = EmbeddedRedis().client()
        queue = Queue(redis)
        await queue.add("a", "b")
        await queue.claim()
        try:
            await queue.commit(("a", "w.1", action, number, number, b"done"), ("b", "w.1", "finish", 1000, "", b"done"))
        except ResponseError as problem:
            assert str(problem)
        for job_id in ("a", "b"):
            is_there = await redis.zscore(queue.keys.pending, job_id) is not None
            is_done = await redis.exists(queue.keys.result + job_id) == 1
            no_result_asked = job_id == "a" and action in ("finish", "missing") and number in ("0",)
            assert is_there or is_done or no_result_asked, (job_id, is_there, is_done)
        await redis.aclose()

    runner.run(run())
