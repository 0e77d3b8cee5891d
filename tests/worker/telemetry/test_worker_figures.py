"""What a worker measures arrives in the figures of its queue, each measurement once."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from arq.connections import ArqRedis
from arq.worker import func
from tests.support.ports import free_port
from tests.support.redis_server import RedisServer
from tests.support.running import running, wait_until
from tests.support.web.site import Site, http_response
from tests.worker.engine.conftest import MakeWorker

from fetchq import FetchRequest, Producer, RetryPolicy
from fetchq.store.commands.workers import Report
from fetchq.store.connection import connect
from fetchq.store.keys import Keys
from fetchq.store.runner import Argument, ClientRunner
from fetchq_worker import Worker, create_worker, worker_settings
from fetchq_worker.engine.upkeep.presence import Presence, new_record
from fetchq_worker.settings import Settings
from fetchq_worker.telemetry.measures import Measures, Reports

pytestmark = pytest.mark.asyncio

METRICS = "fetchq:metrics:arq:queue"


async def _figures(redis: ArqRedis, start: str) -> dict[str, int]:
    async with redis.pipeline() as pipe:
        pipe.hgetall(METRICS)
        [found] = await pipe.execute()
    return {name.decode(): int(number) for name, number in found.items() if name.decode().startswith(start)}


async def _buckets(redis: ArqRedis, start: str) -> dict[str, int]:
    return {name: number for name, number in (await _figures(redis, start)).items() if not name.endswith("sum")}


def _fetching(server: RedisServer, **options: Any) -> Worker:
    settings = Settings(redis_url=server.url, allow_net=("127.0.0.0/8",), concurrency=4)
    redis = connect(server.url, redis_class=ArqRedis)
    options = {"handle_signals": False, "poll_delay": 0.05, "burst": True, **options}
    return create_worker(worker_settings(settings=settings), redis_pool=redis, **options)


async def _work(ctx: dict[str, Any]) -> None:
    """Does nothing."""


async def test_the_waits_of_jobs_are_reported_when_a_burst_ends(redis: ArqRedis, make_worker: MakeWorker) -> None:
    for number in range(10):
        await redis.enqueue_job("work", _job_id=f"{number}", _defer_by=-5 if number < 3 else 0)
    worker = make_worker([func(_work, name="work")], burst=True)
    await worker.async_run()
    assert await _buckets(redis, "wait:") == {"wait:default:2": 3, "wait:default:0": 7}
    sum_us = (await _figures(redis, "wait:default:sum"))["wait:default:sum"]
    assert 15e6 <= sum_us < 60e6
    await worker.close()
    assert sum((await _buckets(redis, "wait:")).values()) == 10, "nothing is reported twice"


async def test_a_worker_reports_with_each_heartbeat(redis: ArqRedis, make_worker: MakeWorker) -> None:
    worker = make_worker([func(_work, name="work")], lease_s=0.6, renew_s=0.05)
    async with running(worker):
        await redis.enqueue_job("work")
        await wait_until(lambda: _holds(_buckets(redis, "wait:"), lambda found: sum(found.values()) == 1))
        await redis.enqueue_job("work")
        await wait_until(lambda: _holds(_buckets(redis, "wait:"), lambda found: sum(found.values()) == 2))
        round_trip_s = worker.measures().redis_round_trip_s
        assert round_trip_s is not None
        assert 0 < round_trip_s < 5


async def _holds(found: Any, condition: Callable[[Any], bool]) -> bool:
    return condition(await found)


async def test_a_worker_that_stops_reports_what_it_has_measured_since_its_last_heartbeat(
    redis: ArqRedis, make_worker: MakeWorker
) -> None:
    async with running(make_worker([func(_work, name="work")], lease_s=900, renew_s=300)):
        job = await redis.enqueue_job("work")
        assert job is not None
        await job.result(timeout=10)
        assert await _buckets(redis, "wait:") == {}
    assert sum((await _buckets(redis, "wait:")).values()) == 1
    assert await redis.keys("fetchq:worker*") == []


async def test_a_worker_without_metrics_reports_nothing(redis: ArqRedis, make_worker: MakeWorker) -> None:
    await redis.enqueue_job("work")
    worker = make_worker([func(_work, name="work")], burst=True, metrics=False)
    await worker.async_run()
    await worker.close()
    assert await _figures(redis, "wait:") == {}
    assert worker.jobs_complete == 1


async def test_a_fetch_is_measured_by_attempt(redis_server: RedisServer, real_redis: ArqRedis, site: Site) -> None:
    url = site.serve("/", http_response(status=500), http_response(b"hello"))
    async with Producer.from_url(redis_server.url) as producer:
        await producer.enqueue(FetchRequest(url=url, retry=RetryPolicy(base_s=0.01, cap_s=0.01)))
        await producer.enqueue(FetchRequest(url=f"http://127.0.0.1:{free_port()}/", retry=RetryPolicy(max_tries=1)))
        worker = _fetching(redis_server)
        await worker.async_run()
        await worker.close()
    assert await _figures(real_redis, "attempt:") == {
        "attempt:HTTP_ERROR": 1,
        "attempt:OK": 1,
        "attempt:CONNECT_ERROR": 1,
    }
    assert await _figures(real_redis, "response:") == {"response:5xx": 1, "response:2xx": 1}
    assert await _figures(real_redis, "body_bytes") == {"body_bytes": 5}
    assert sum((await _buckets(real_redis, "duration:")).values()) == 3
    assert sum((await _buckets(real_redis, "phase:first_byte:")).values()) == 2
    connected = sum((await _buckets(real_redis, "phase:connect:")).values())
    assert connected == 1, "the second request to the site has its connection, and the other server none"
    assert await _buckets(real_redis, "phase:dns:") == {}, "the host is an address"


async def test_the_wait_of_a_parked_job_counts_from_the_time_at_which_it_was_due(
    redis_server: RedisServer, real_redis: ArqRedis, site: Site
) -> None:
    """Two jobs of a host that runs one at a time, for more than a tenth of a second each."""
    answer = asyncio.Event()

    async def handle(visit: Any) -> None:
        await answer.wait()
        await visit.send(http_response(b"hello"))

    url = site.serve("/", handle)
    async with Producer.from_url(redis_server.url) as producer:
        await producer.limits.set("*", concurrency=1)
        await producer.enqueue_many([url, f"{url}?2"])
        worker = _fetching(redis_server)
        run = asyncio.create_task(worker.async_run())
        await wait_until(lambda: bool(site.visits))
        await asyncio.sleep(0.15)  # what is measured
        answer.set()
        await run
        await worker.close()
    assert await _buckets(real_redis, "wait:") == {"wait:default:0": 1, "wait:default:1": 1}


class _LosesReplies(ClientRunner):
    """Executes each script, and loses the reply as long as it is told to."""

    loses = True

    async def run(
        self,
        script: str,
        keys: Sequence[str],
        args: Sequence[Argument],
        *,
        on_sent: Callable[[], None] | None = None,
    ) -> Any:
        reply = await super().run(script, keys, args, on_sent=on_sent)
        if self.loses:
            raise TimeoutError("the reply was lost")
        return reply


async def test_a_report_whose_reply_was_lost_counts_once(redis: ArqRedis) -> None:
    measures = Measures()
    reports, runner = Reports(measures), _LosesReplies(redis)
    presence = Presence(Keys(), worker_id="w", heartbeat_s=1)

    async def beat() -> Report | None:
        report = reports.next()
        await presence.beat(runner, new_record("w", "arq:queue", heartbeat_s=1), report)
        reports.acknowledge()
        return report

    measures.leases_lost += 2
    for _ in range(3):
        with pytest.raises(TimeoutError):
            await beat()
    measures.leases_lost += 5
    runner.loses = False
    first, second = await beat(), await beat()
    assert await _figures(redis, "leases") == {"leases_lost": 7}
    assert (first and first.number, second and second.number) == (1, 2)


async def test_figures_that_redis_refuses_are_logged_once_and_stop_no_job(
    redis: ArqRedis, make_worker: MakeWorker, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR, "fetchq.engine")
    await redis.set(METRICS, "not a hash")
    worker = make_worker([func(_work, name="work")], lease_s=0.6, renew_s=0.02)
    async with running(worker):
        for _ in range(3):
            job = await redis.enqueue_job("work")
            assert job is not None
            await job.result(timeout=10)
    assert worker.jobs_complete == 3
    [line] = [line for line in caplog.messages if line.startswith("figures.refused")]
    assert "WRONGTYPE" in line


async def test_a_worker_says_what_it_measures_of_itself(redis_server: RedisServer, site: Site) -> None:
    url = site.serve("/", http_response(b"hello"), http_response(status=404))
    worker = _fetching(redis_server, burst=False)
    async with Producer.from_url(redis_server.url) as producer, running(worker):
        jobs = [await producer.enqueue(url) for _ in range(2)]
        for job in jobs:
            await job.result(timeout_s=10)
        await wait_until(lambda: worker.measures().running_jobs == 0)
        now = worker.measures()
    assert (now.ready, now.max_jobs, now.jobs_complete, now.jobs_failed) == (True, 4, 2, 0)
    assert now.connections_active == 0
    assert now.connections_idle >= 1
    assert 0 <= now.event_loop_lag_s < 10
    after = worker.measures()
    assert (after.ready, after.connections_idle, after.connections_active) == (False, 0, 0)
