"""`python -m bench.trace_cost`: what traces cost, for empty jobs, 2 KB fetches and enqueues.

In turn, in one process: without OpenTelemetry; with its SDK, where the sender of each job is not sampled; where jobs
have no sender and the worker's sampler drops nearly all of them; and where every job is sampled, its spans exported to
nowhere. Each number is the minimum of the rounds of this process's CPU time; each ratio, the median over the rounds.
nginx and Redis run in their own processes and are not counted.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from statistics import median
from time import process_time, time
from typing import Any, Final, cast
from unittest.mock import patch

import uvloop
from arq.connections import ArqRedis
from arq.typing import WorkerCoroutine
from arq.worker import func
from opentelemetry import trace
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_ON, ParentBased, Sampler, TraceIdRatioBased

from bench.testbed.failure import BenchFailure
from bench.testbed.redis_server import RedisServer, redis_server
from bench.testbed.site import nginx_site
from fetchq import FetchRequest, Producer
from fetchq.contract.job_ids import JobIds
from fetchq.contract.wire import FETCH_FUNCTION, encode_job
from fetchq.store.connection import connect
from fetchq.store.keys import Keys
from fetchq.telemetry.trace_context import carried
from fetchq_worker.process.arq_settings import worker_settings
from fetchq_worker.process.gc_tuning import tune_gc
from fetchq_worker.process.make_worker import make_worker
from fetchq_worker.settings import Settings

JOBS: Final = 5_000
ONE_BY_ONE: Final = 1_000
ROUNDS: Final = 9
BATCH: Final = 1_000
CONCURRENCY: Final = 100
EMPTY: Final = "empty"
URL: Final = "https://example.org/"
SENDERS: Final = {flags: carried(1 << 100, 1 << 50, flags) for flags in (0, 1)}


class Traces(StrEnum):
    """What is set up."""

    NONE = "no OpenTelemetry"
    UNSAMPLED = "sender not sampled"
    DROPPED = "no sender, dropped by a sampler of one in 10,000"
    SAMPLED = "sampled"


SAMPLERS: Final[Mapping[Traces, Sampler]] = {
    Traces.UNSAMPLED: ParentBased(ALWAYS_ON),
    Traces.DROPPED: ParentBased(TraceIdRatioBased(0.0001)),
    Traces.SAMPLED: ParentBased(ALWAYS_ON),
}
FIELDS: Final = {Traces.UNSAMPLED: SENDERS[0], Traces.SAMPLED: SENDERS[1]}
"""What the jobs carry."""

Spend = Callable[[Traces], Awaitable[float]]
"""Returns microseconds of CPU time for each job."""


@contextmanager
def set_up(traces: Traces) -> Iterator[None]:
    if traces is Traces.NONE:
        yield
        return
    provider = TracerProvider(sampler=SAMPLERS[traces], shutdown_on_exit=False)
    provider.add_span_processor(SpanProcessor())
    with patch.object(trace, "_TRACER_PROVIDER", provider):
        yield


async def spend_worker(server: RedisServer, traces: Traces, function: str, arguments: tuple[Any, ...]) -> float:
    """A worker in this process drains a queue."""

    async def empty(_ctx: dict[Any, Any]) -> None: ...

    await server.empty()
    keys, ids = Keys(), JobIds()
    payload = encode_job(function, arguments, {}, round(time() * 1000), None, **FIELDS.get(traces, {}))
    for _ in range(JOBS // BATCH):
        batch = ids.new_ids(BATCH)
        await server.client.mset({keys.job + job_id: payload for job_id in batch})
        await server.client.zadd(keys.pending, dict.fromkeys(batch, int(time() * 1000)))
    redis_url = f"redis://127.0.0.1:{server.port}"
    async with Producer.from_url(redis_url) as producer:
        await producer.limits.set("*", concurrency=JOBS)  # all go to one host, whose limit must not delay them
    settings = Settings(redis_url=redis_url, concurrency=CONCURRENCY, allow_net=("127.0.0.1/32",))
    described = worker_settings([func(cast(WorkerCoroutine, empty), name=EMPTY)], settings=settings)
    redis = connect(redis_url, redis_class=ArqRedis)
    worker = make_worker(described, redis, burst=True, handle_signals=False)
    try:
        with set_up(traces):
            began = process_time()
            await worker.async_run()
            spent = process_time() - began
    finally:
        await worker.close()
    if worker.jobs_complete != JOBS or worker.jobs_failed or worker.jobs_retried:
        raise BenchFailure(f"{worker.jobs_complete} jobs of {JOBS} were completed")
    return spent / JOBS * 1e6


async def spend_producer(server: RedisServer, traces: Traces, *, many: bool) -> float:
    """A producer in this process enqueues, within a span that is not sampled, or is."""
    await server.empty()
    context = trace.SpanContext(1 << 100, 1 << 50, False, trace.TraceFlags(traces is Traces.SAMPLED))
    span = trace.NonRecordingSpan(context if traces in FIELDS else trace.INVALID_SPAN_CONTEXT)
    async with Producer.from_url(f"redis://127.0.0.1:{server.port}") as producer:
        await producer.enqueue(URL)
        requests = [FetchRequest(url=URL) for _ in range(JOBS if many else ONE_BY_ONE)]
        with set_up(traces), trace.use_span(span):
            began = process_time()
            if many:
                await producer.enqueue_many(requests)
            else:
                for request in requests:
                    await producer.enqueue(request)
            return (process_time() - began) / len(requests) * 1e6


async def measure(rounds: int, only: str) -> None:
    with tempfile.TemporaryDirectory(prefix="fetchq-trace-cost-") as name:
        folder = Path(name)
        async with redis_server(folder) as server, nginx_site(folder) as site:
            page = FetchRequest(url=site.url("2k"))
            ways: dict[str, Spend] = {
                "empty job": lambda traces: spend_worker(server, traces, EMPTY, ()),
                "2 KB fetch": lambda traces: spend_worker(server, traces, FETCH_FUNCTION, (page,)),
                "enqueue": lambda traces: spend_producer(server, traces, many=False),
                "enqueue_many": lambda traces: spend_producer(server, traces, many=True),
            }
            ways = {what: way for what, way in ways.items() if not only or what == only}
            for way in ways.values():  # fills caches, and exempts loaded objects from garbage collection
                for traces in Traces:
                    await way(traces)
            tune_gc()
            for what, way in ways.items():
                spent: dict[Traces, list[float]] = {traces: [] for traces in Traces}
                for _ in range(rounds):
                    for traces in Traces:
                        spent[traces].append(await way(traces))
                for traces, each in spent.items():
                    ratio = median(us / base for us, base in zip(each, spent[Traces.NONE], strict=True))
                    print(f"{min(each):8.2f} us  {ratio - 1:+7.1%}  {what}, {traces}", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.trace_cost", description="What traces cost.")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="how often each way is measured")
    parser.add_argument("--only", default="", help="measure one way: 'empty job', '2 KB fetch', enqueue, enqueue_many")
    given = parser.parse_args()
    try:
        uvloop.run(measure(max(1, given.rounds), given.only))
    except (KeyboardInterrupt, asyncio.CancelledError):
        return 130
    except BenchFailure as problem:
        print(f"trace_cost: {problem}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
