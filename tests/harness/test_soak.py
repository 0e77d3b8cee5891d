"""A short `make soak`, and that it detects what it checks for."""

from __future__ import annotations

import pytest
from harness.soak.leftovers import wait_for_leftovers
from harness.soak.memory import Memory
from harness.soak.outcome import MAX_GROWTH, Load, Pace
from harness.soak.run import soak
from tests.support.redis_server import RedisServer

from fetchq.store.connection import connect

pytestmark = pytest.mark.asyncio


@pytest.mark.slow
async def test_two_thousand_jobs_leave_no_key_behind() -> None:
    soaked = await soak(Load(jobs=1000, warm_up=1000, fetch_share=0.1, result_ttl_s=1.0, rest_s=0))
    # The buffers of one connection are a tenth of such a small Redis, so growth is not checked here.
    assert [problem for problem in soaked.broken if "the memory of" not in problem] == []
    assert soaked.fetched == soaked.fetches == 200
    assert soaked.finished >= soaked.enqueued == 2000  # more, if a lease ended


@pytest.mark.slow
async def test_a_process_that_grows_by_more_than_a_soak_allows_is_named() -> None:
    soaked = await soak(Load(jobs=100, warm_up=100, fetch_share=0.1, result_ttl_s=1.0, rest_s=0))
    soaked.warm = Memory(workers=(1000, 1000), redis=1000, driver=1000)
    soaked.end = Memory(workers=(1000, 1000), redis=round(1000 * (1 + 2 * MAX_GROWTH)), driver=1000)
    assert soaked.broken == ["the memory of Redis grew by 20.0%"]


@pytest.mark.slow
async def test_lost_empty_jobs_are_detected(monkeypatch: pytest.MonkeyPatch) -> None:
    async def lose(_producer: object, _count: int) -> None:
        pass

    monkeypatch.setattr("harness.soak.run._enqueue_empty", lose)
    soaked = await soak(Load(jobs=100, warm_up=100, fetch_share=0.1, result_ttl_s=1.0, rest_s=0))
    assert "200 jobs were enqueued, and 20 were finished" in soaked.broken


async def test_the_cpu_time_of_a_job_is_that_of_all_workers() -> None:
    pace = Pace(jobs=1_000_000, took_s=50, cpu_s={"worker 0": 14, "worker 1": 14, "Redis": 33})
    assert pace.us_a_job == "workers together 28 µs, Redis 33 µs"


async def test_keys_without_a_ttl_and_results_past_their_ttl_count_as_left_over(
    redis_server: RedisServer,
) -> None:
    async with connect(redis_server.url) as redis:
        await redis.set("arq:job:1", "x")
        await redis.set("arq:result:1", "x", px=50)
        await redis.set("arq:result:2", "x", ex=30)
        left = await wait_for_leftovers(redis, result_ttl_s=1.0)
    assert left == {"arq:job:": 1, "arq:result:": 1}
