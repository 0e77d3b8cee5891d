"""Every end of a job is counted once, under the outcome that its caller sees."""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from arq import Retry
from arq.connections import ArqRedis
from arq.worker import func
from tests.support.running import running, wait_until
from tests.support.web.site import Site, Visit, http_response

from fetchq import CancelOutcome, FetchStatus, Producer, RetryPolicy
from fetchq.contract.wire import deserialize, serialize
from fetchq.telemetry.figures import ENQUEUED, FETCH, FUNCTION
from fetchq_worker import Worker

from .conftest import NewClient, Working

pytestmark = pytest.mark.asyncio

ONCE = RetryPolicy(max_tries=1)


async def ends(redis: Any, producer: Producer) -> Counter[str]:
    figures = await redis.hgetall(producer.keys.metrics)
    named = {field.decode(): int(number) for field, number in figures.items()}
    return Counter({field: number for field, number in named.items() if field.startswith((FETCH, FUNCTION))})


async def test_the_figures_of_fetches_are_the_statuses_of_their_results(
    producer: Producer, working: Working, site: Site, redis: ArqRedis
) -> None:
    asked = asyncio.Event()

    async def never(visit: Visit) -> None:
        asked.set()
        await asyncio.Event().wait()

    soon = datetime.now(UTC) + timedelta(seconds=0.5)
    jobs = [
        await producer.enqueue(site.serve("/well", http_response(b"well")), retry=ONCE),
        await producer.enqueue(site.serve("/none", http_response(status=404)), retry=ONCE),
        await producer.enqueue(site.serve("/flaky", http_response(status=503), http_response(b"well")), retry=RETRIED),
        await producer.enqueue("http://192.0.2.1/", retry=ONCE),
        await producer.enqueue(site.url("/late"), deadline=soon),
        producer.job((await producer.enqueue_job("nobody_has_this")).id),
        waiting := await producer.enqueue(site.url("/waiting"), delay_s=3600),
        cut := await producer.enqueue(site.serve("/cut", never)),
        producer.job((await producer.enqueue_job("fetch_data", "one", "too many")).id),
    ]
    await redis.set(producer.keys.job + "unreadable", b"\x80\x04rubbish.")
    await redis.zadd(producer.keys.pending, {"unreadable": 1, "without a payload": 1})
    jobs += [producer.job("unreadable"), producer.job("without a payload")]
    assert await waiting.cancel() is CancelOutcome.CANCELLED
    await wait_until(lambda: datetime.now(UTC) > soon)
    async with working():
        await asyncio.wait_for(asked.wait(), 20)
        assert await cut.cancel() is CancelOutcome.REQUESTED
        results = [await job.result(timeout_s=20) for job in jobs]
    seen = Counter(f"{FETCH}{result.status}" for result in results)
    assert await ends(redis, producer) == seen
    assert seen[f"{FETCH}{FetchStatus.CANCELLED}"] == 2
    assert seen[f"{FETCH}{FetchStatus.INVALID_JOB}"] == 4
    assert seen.keys() >= {f"{FETCH}{status}" for status in ("OK", "HTTP_ERROR", "BLOCKED", "EXPIRED")}
    assert int(await redis.hget(producer.keys.metrics, ENQUEUED) or 0) == len(jobs) - 2  # type: ignore[misc]


RETRIED = RetryPolicy(base_s=0.0)


async def test_the_ends_of_own_coroutines_are_counted_by_function(
    producer: Producer, new_client: NewClient, redis: ArqRedis
) -> None:
    started = asyncio.Event()

    async def works(ctx: dict[Any, Any]) -> str:
        return "done"

    async def fails(ctx: dict[Any, Any]) -> None:
        raise ValueError("no")

    async def gives_up(ctx: dict[Any, Any]) -> None:
        raise Retry(defer=0)

    async def unencodable(ctx: dict[Any, Any]) -> object:
        return object()

    async def waits(ctx: dict[Any, Any]) -> None:
        started.set()
        await asyncio.Event().wait()

    functions = [works, fails, gives_up, unencodable, waits]
    named = [func(function, name=function.__name__) for function in functions]
    wire: Any = {"job_serializer": serialize, "job_deserializer": deserialize}
    options: Any = {"allow_abort_jobs": True, "max_tries": 2, "job_timeout": 60, "handle_signals": False, **wire}
    worker = Worker(functions=named, redis_pool=new_client(), **options)
    jobs = [await producer.enqueue_job(function.__name__) for function in (*functions, works)]
    assert await (await producer.enqueue_job("not_run_yet", _defer_by=3600)).cancel() is CancelOutcome.CANCELLED
    async with running(worker):
        await asyncio.wait_for(started.wait(), 20)
        assert await jobs[4].cancel() is CancelOutcome.REQUESTED
        await wait_until(lambda: worker.jobs_complete + worker.jobs_failed == len(jobs))
    assert await ends(redis, producer) == {
        "job:ok:works": 2,
        "job:failed:fails": 1,
        "job:failed:gives_up": 1,
        "job:failed:unencodable": 1,
        "job:cancelled:waits": 1,
        "job:cancelled:other": 1,
    }


async def test_a_worker_without_metrics_counts_no_ends(
    producer: Producer, working: Working, site: Site, redis: ArqRedis
) -> None:
    job = await producer.enqueue(site.serve("/well", http_response(b"well")))
    async with working(metrics=False):
        assert (await job.result(timeout_s=20)).ok
    assert await ends(redis, producer) == {}
