"""The effect of hosts' responses on later fetches, for all workers."""

from __future__ import annotations

import asyncio
import logging
import re
import time
from itertools import pairwise
from typing import Any

import pytest
from tests.support.running import wait_until
from tests.support.web.site import Site, Visit, http_response

from fetchq import FetchRequest, FetchStatus, Producer, RetryPolicy
from fetchq.store.keys import Keys

from .conftest import Working

pytestmark = pytest.mark.asyncio

KEYS = Keys()
ONCE = RetryPolicy(max_tries=1)
FIELDS = ("running", "ready", "waiting", "tat", "cooldown_until", "throttles", "failures", "delay", "due_at")


async def record_of(redis: Any, key: str) -> dict[str, Any]:
    """The record of a limit key; nothing if it has none."""
    text = await redis.hget(KEYS.hosts, key)
    if text is None:
        return {}
    *numbers, last = text.decode().split(" ", len(FIELDS))
    return {**dict(zip(FIELDS, map(int, numbers), strict=True)), "last": last}


async def in_cooldown(redis: Any) -> list[str]:
    return [key.decode() for key in await redis.zrange(KEYS.cooldowns, 0, -1)]


class Busy:
    """A path that responds, and refuses request number `turn` with the given headers.

    It records when each request arrives.
    """

    def __init__(self, status: int = 429, **headers: str) -> None:
        self.came: list[float] = []
        self.refused_at: float | None = None
        self._refusal = http_response(
            status=status, headers={name.replace("_", "-"): value for name, value in headers.items()}
        )
        self._turn = asyncio.Event()

    def turn(self) -> None:
        self._turn.set()

    async def __call__(self, visit: Visit) -> None:
        self.came.append(time.monotonic())
        await asyncio.sleep(0.005)  # the duration of the response
        if self._turn.is_set() and self.refused_at is None:
            await visit.send(self._refusal)
            self.refused_at = time.monotonic()
        else:
            await visit.send(http_response(b"well"))


async def test_a_429_that_one_worker_sees_stops_all_for_as_long_as_it_asks(
    producer: Producer, working: Working, site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    busy = Busy(Retry_After="2")
    url = site.serve("/busy", busy)
    other = site.serve("/", http_response(b"well"))
    async with working(), working():
        jobs = await producer.enqueue_many([f"{url}?{n}" for n in range(600)])
        await wait_until(lambda: len(busy.came) > 100)
        busy.turn()
        await wait_until(lambda: busy.refused_at is not None)
        assert busy.refused_at is not None
        elsewhere = await producer.enqueue(other.replace("127.0.0.1", "localhost"))
        assert (await elsewhere.result(timeout_s=1.5)).ok, "another host goes on"
        done = [result async for result in producer.as_completed(jobs, timeout_s=30)]
    late = [at - busy.refused_at for at in busy.came if at > busy.refused_at]
    assert len([after for after in late if after < 2.0]) == len([after for after in late if after < 0.1])
    assert min(after for after in late if after >= 1.9) < 3.0
    assert all(result.ok for result in done)
    assert _hosts_events(caplog) == ["host.cooldown host=127.0.0.1 for_s=2.0 asked=True"]


def _hosts_events(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What an operator sees of hosts by default."""
    return [
        record.getMessage()
        for record in caplog.records
        if record.name == "fetchq.hosts" and record.levelno >= logging.WARNING
    ]


@pytest.mark.parametrize("asked", ["0", "Thu, 01 Jan 1970 00:00:00 GMT"])
async def test_a_time_that_has_passed_is_waited_for_a_second_and_no_more(
    producer: Producer, working: Working, site: Site, redis: Any, asked: str
) -> None:
    url = site.serve("/busy", http_response(status=503, headers={"Retry-After": asked}), http_response(b"well"))
    began = time.monotonic()
    async with working(cooldown_s=500):
        result = await (await producer.enqueue(url, retry=RetryPolicy(base_s=0.0))).result(timeout_s=10)
    assert [attempt.http_status for attempt in result.attempts] == [503, 200]
    assert 1.0 <= time.monotonic() - began < 4.0


@pytest.mark.parametrize("asked", ["-5", "soon", "5 s"])
async def test_what_cannot_be_read_is_as_if_nothing_was_asked(
    producer: Producer, working: Working, site: Site, redis: Any, asked: str
) -> None:
    url = site.serve("/busy", http_response(status=429, headers={"Retry-After": asked}))
    async with working(cooldown_s=500):
        await (await producer.enqueue(url, retry=ONCE)).result(timeout_s=10)
        record = await record_of(redis, "127.0.0.1")
    assert 390 < record["cooldown_until"] / 1000 - time.time() < 610
    assert record["throttles"] == 1


async def test_no_server_is_obeyed_for_longer_than_the_worker_allows(
    producer: Producer, working: Working, site: Site, redis: Any
) -> None:
    url = site.serve("/busy", http_response(status=429, headers={"Retry-After": "999999999999999999"}))
    async with working(max_cooldown_s=100):
        await (await producer.enqueue(url, retry=ONCE)).result(timeout_s=10)
        record = await record_of(redis, "127.0.0.1")
        assert record["last"] == "HTTP_ERROR 429"
    assert 80 < record["cooldown_until"] / 1000 - time.time() <= 101


async def test_without_cooldowns_a_429_is_a_response_like_any_other(
    producer: Producer, working: Working, site: Site, redis: Any
) -> None:
    url = site.serve("/busy", http_response(status=429, headers={"Retry-After": "60"}))
    async with working(max_cooldown_s=0):
        await (await producer.enqueue(url, retry=ONCE)).result(timeout_s=10)
        assert await in_cooldown(redis) == []


async def test_after_a_redirect_the_host_that_responded_gets_the_cooldown(
    producer: Producer, working: Working, site: Site, redis: Any
) -> None:
    site.serve("/busy", http_response(status=429, headers={"Retry-After": "60"}))
    url = site.serve("/", http_response(status=302, headers={"Location": site.url("/busy", "localhost")}))
    async with working():
        result = await (await producer.enqueue(url, retry=ONCE)).result(timeout_s=10)
        assert result.http_status == 429
        assert await in_cooldown(redis) == ["localhost"]
        site.serve("/well", http_response())
        assert (await (await producer.enqueue(site.url("/well"))).result(timeout_s=10)).ok
        waiting = await producer.enqueue(site.url("/well", "localhost"))
        assert await redis.zrange(f"{KEYS.waiting}localhost", 0, -1) == [waiting.id.encode()]


async def test_a_host_with_failing_connections_gets_a_cooldown_and_recovers(
    producer: Producer, working: Working, site: Site, redis: Any, caplog: pytest.LogCaptureFixture
) -> None:
    url, port = site.serve("/", http_response(b"well")), site.port
    await site.stop()
    async with working():
        jobs = [await producer.enqueue(f"{url}?{n}", retry=ONCE) for n in range(30)]

        async def is_idle() -> bool:
            record = await record_of(redis, "127.0.0.1")
            return record.get("running") == 0 and record["cooldown_until"] > time.time() * 1000

        await wait_until(is_idle)
        record = await record_of(redis, "127.0.0.1")
        assert 5 <= record["failures"] <= 16
        assert record["waiting"] >= 30 - 16
        assert 7 < record["cooldown_until"] / 1000 - time.time() < 13
        assert record["last"] == "CONNECT_ERROR"
        [opened] = _hosts_events(caplog)
        assert re.fullmatch(r"host\.circuit_opened host=127\.0\.0\.1 failures=\d+ for_s=1?\d\.\d", opened)
        await site.start(port)
        await _end_cooling(redis, "127.0.0.1")
        results = [result async for result in producer.as_completed(jobs, timeout_s=10)]
    statuses = {result.status for result in results}
    assert statuses == {FetchStatus.CONNECT_ERROR, FetchStatus.OK}
    assert sum(not result.ok for result in results) == record["failures"]
    assert await record_of(redis, "127.0.0.1") == {}, "one success, and nothing is held against it"


async def _end_cooling(redis: Any, key: str) -> None:
    """Moves the times in the records to the past."""
    fields = (await redis.hget(KEYS.hosts, key)).decode().split(" ", len(FIELDS))
    fields[FIELDS.index("cooldown_until")] = "1"
    await redis.hset(KEYS.hosts, key, " ".join(fields))
    await redis.zadd(KEYS.due_hosts, {key: 1})


async def test_a_host_with_server_errors_gets_no_cooldown(
    producer: Producer, working: Working, site: Site, redis: Any
) -> None:
    url = site.serve("/", http_response(status=500))
    missing = site.url("/nothing")
    async with working():
        jobs = [await producer.enqueue(f"{target}?{n}", retry=ONCE) for n in range(10) for target in (url, missing)]
        results = [result async for result in producer.as_completed(jobs, timeout_s=10)]
        assert {result.http_status for result in results} == {500, 404}
        assert await in_cooldown(redis) == []


async def test_without_the_breaker_all_jobs_of_a_dead_host_end(
    producer: Producer, working: Working, site: Site, redis: Any
) -> None:
    url = site.url("/")
    await site.stop()
    async with working(circuit_breaker=False):
        jobs = [await producer.enqueue(f"{url}?{n}", retry=ONCE) for n in range(30)]
        results = [result async for result in producer.as_completed(jobs, timeout_s=10)]
    assert {result.status for result in results} == {FetchStatus.CONNECT_ERROR}
    await site.start()


async def test_the_crawl_delay_of_a_host_paces_its_jobs(
    producer: Producer, working: Working, site: Site, redis: Any
) -> None:
    came: list[float] = []

    async def note(visit: Visit) -> None:
        came.append(time.monotonic())
        await visit.send(http_response(b"well"))

    url = site.serve("/", note)
    site.serve("/robots.txt", http_response(b"User-agent: *\nCrawl-delay: 0.3\n"))
    async with working():
        assert (await (await producer.enqueue(url, robots=True)).result(timeout_s=10)).ok
        await wait_until(lambda: _has(redis, "delay", 300))
        jobs = [await producer.enqueue(f"{url}?{n}") for n in range(4)]
        assert all([result.ok async for result in producer.as_completed(jobs, timeout_s=10)])
    gaps = [later - sooner for sooner, later in pairwise(came[1:])]
    assert min(gaps) > 0.25, gaps


async def _has(redis: Any, field: str, value: object) -> bool:
    return (await record_of(redis, "127.0.0.1")).get(field) == value


async def test_the_wait_in_a_hosts_own_queue_is_time_queued(
    producer: Producer, working: Working, site: Site, redis: Any
) -> None:
    async def slowly(visit: Visit) -> None:
        await asyncio.sleep(0.3)
        await visit.send(http_response(b"well"))

    url = site.serve("/", slowly)
    await redis.hset(KEYS.limits, "127.0.0.1", "c=1")
    async with working():
        await (await producer.enqueue(site.url("/", "localhost"))).result(timeout_s=10)  # the worker has begun
        jobs = [await producer.enqueue(f"{url}?{n}", priority=lane) for n, lane in enumerate(("high", "high", "low"))]
        results = [await job.result(timeout_s=10) for job in jobs]
    queued = [result.timing.queued_s or 0.0 for result in results]
    assert queued[0] < 0.2 <= queued[1] - queued[0]
    assert queued[2] - queued[1] >= 0.2


@pytest.mark.parametrize("lane", ["default", "low"])
async def test_a_constant_flow_of_high_jobs_does_not_starve_the_others(
    producer: Producer, working: Working, site: Site, lane: str
) -> None:
    """Each finished high job enqueues another: there are always more than there are slots."""
    url = site.serve("/", http_response(b"well"))
    flows = True

    async def flow() -> None:
        while flows:
            job = await producer.enqueue(url, priority="high", limit_key="flow")
            await job.result(timeout_s=10)

    async with working(concurrency=2):
        flowing = [asyncio.create_task(flow()) for _ in range(10)]
        others = [await producer.enqueue(url, priority=lane) for _ in range(5)]
        try:
            assert len([1 async for _ in producer.as_completed(others, timeout_s=20)]) == 5
        finally:
            flows = False
            await asyncio.gather(*flowing)


async def test_one_tenants_many_jobs_do_not_hold_up_anothers(
    producer: Producer, working: Working, site: Site, redis: Any
) -> None:
    order: list[str] = []

    async def note(visit: Visit) -> None:
        order.append(visit.target)
        await asyncio.sleep(0.01)
        await visit.send(http_response(b"well"))

    site.serve("/big", note)
    site.serve("/small", note)
    await redis.hset(KEYS.limits, "key:*", "c=2")
    big = [await producer.enqueue(site.url("/big"), limit_key="big") for _ in range(60)]
    small = [await producer.enqueue(site.url("/small"), limit_key="small") for _ in range(5)]
    async with working():
        assert len([1 async for _ in producer.as_completed([*big, *small], timeout_s=20)]) == 65
    assert max(place for place, target in enumerate(order) if target == "/small") < 20


async def test_a_passing_failure_of_robots_txt_costs_its_hosts_jobs_no_try(
    producer: Producer, working: Working, site: Site, redis: Any
) -> None:
    busy = http_response(status=503, headers={"Retry-After": "1"})
    site.serve("/robots.txt", busy, http_response(status=429), http_response(status=404))
    site.serve("/", http_response(b"well"))
    async with working(), working():
        jobs = await producer.enqueue_many([FetchRequest(url=site.url(f"/?{n}"), robots=True) for n in range(30)])
        done = [result async for result in producer.as_completed(jobs, timeout_s=30)]
    assert [result.status for result in done] == [FetchStatus.OK] * 30
    assert {len(result.attempts) for result in done} == {1}
    asked = [visit.target for visit in site.visits].count("/robots.txt")
    assert 3 <= asked <= 6, "each of the two workers may ask before it knows the other's answer"
    assert await redis.keys(f"{KEYS.attempts}*") == await redis.keys(f"{KEYS.retry}*") == []
