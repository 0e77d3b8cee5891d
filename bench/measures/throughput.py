"""Jobs per second: empty ones, fetches, sleeping ones; one process and two; a short queue and a long one."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import ClassVar, Final

from bench.report.results import Results
from bench.testbed import adapter_process as talk
from bench.testbed.environments import ensure, python_of
from bench.testbed.failure import BenchFailure
from bench.testbed.peers import ARQ_TUNED, BARE, BARE_LOOP, BULLMQ, FETCHQ, PLAIN_SET, Peer
from bench.testbed.processes import run
from bench.testbed.redis_server import RedisServer, redis_server
from bench.testbed.site import BODIES
from bench.testbed.stage import Stage

from .drain import EMPTY, FETCH_1M, FETCH_2K, FETCH_100K, NAP, Drained, Job, drain, watch
from .measure import Measure

WARM_UP_JOBS: Final = 1_000
FEWEST_JOBS: Final = 300
MOST_JOBS: Final = 200_000
_SETS_AT_A_TIME: Final = 50


class Throughput(Measure):
    """Drains of one kind of job. The figures of Redis's work come from the same drains."""

    job: ClassVar[Job]
    processes: ClassVar[int] = 1
    warm_up_jobs: ClassVar[int] = WARM_UP_JOBS
    most_jobs: ClassVar[int] = MOST_JOBS

    def covers(self, peer: Peer) -> bool:
        return peer.is_queue

    async def warm_up(self, stage: Stage, peer: Peer) -> None:
        key = (peer.name, self.name)
        stage.capacity[key] = (await self._drain(stage, peer, self.warm_up_jobs)).rate

    async def take(self, stage: Stage, peer: Peer) -> dict[str, float]:
        key = (peer.name, self.name)
        # A tenth more than the window should need, so that a faster round does not empty the queue.
        count = int(min(self.most_jobs, max(FEWEST_JOBS, stage.capacity[key] * stage.options.window_s * 1.1)))
        drained = await self._drain(stage, peer, count)
        stage.capacity[key] = drained.rate
        return self._sample(drained)

    async def _drain(self, stage: Stage, peer: Peer, count: int) -> Drained:
        return await drain(stage, peer, self.job, count, processes=self.processes)

    def _sample(self, drained: Drained) -> dict[str, float]:
        sample = {self.name: drained.rate}
        values = (drained.trips, drained.commands, drained.redis_cpu_us)
        return sample | dict(zip(self.figures[1:], values, strict=False))


class Empty(Throughput):
    name = "empty"
    figures = ("empty", "empty_trips", "empty_commands", "empty_redis_cpu")
    job = EMPTY


class _Fetch(Throughput):
    """Fetches; the bare loop is measured too."""

    def covers(self, peer: Peer) -> bool:
        return peer.is_queue or peer.name == BARE

    def figures_of(self, peer: Peer) -> tuple[str, ...]:
        return self.figures[:1] if peer.name == BARE else self.figures

    async def warm_up(self, stage: Stage, peer: Peer) -> None:
        if peer.name == BARE:
            await ensure(BARE, stage.folder)
        else:
            await super().warm_up(stage, peer)

    async def take(self, stage: Stage, peer: Peer) -> dict[str, float]:
        if peer.name != BARE:
            return await super().take(stage, peer)
        return {self.name: await _bare_rate(stage, self.job.page)}


class Fetch2K(_Fetch):
    name = "fetch_2k"
    figures = ("fetch_2k", "fetch_2k_trips", "fetch_2k_commands", "fetch_2k_redis_cpu")
    job = FETCH_2K


class _LargeFetch(_Fetch):
    """Also what Redis spends on one, beside what it spends on a plain SET of the body."""

    sets: ClassVar[int]
    """How many SETs are measured."""
    most_rounds = 3

    def covers(self, peer: Peer) -> bool:
        return super().covers(peer) or peer.name == PLAIN_SET

    def figures_of(self, peer: Peer) -> tuple[str, ...]:
        return self.figures[1:] if peer.name == PLAIN_SET else super().figures_of(peer)

    async def warm_up(self, stage: Stage, peer: Peer) -> None:
        if peer.name != PLAIN_SET:
            await super().warm_up(stage, peer)

    async def take(self, stage: Stage, peer: Peer) -> dict[str, float]:
        if peer.name != PLAIN_SET:
            return await super().take(stage, peer)
        return {self.figures[1]: await _set_us(stage.server, BODIES[self.job.page], self.sets)}

    def _sample(self, drained: Drained) -> dict[str, float]:
        return dict(zip(self.figures, (drained.rate, drained.redis_cpu_us), strict=True))


class Fetch100K(_LargeFetch):
    name = "fetch_100k"
    figures = ("fetch_100k", "fetch_100k_redis_cpu")
    job = FETCH_100K
    sets = 5_000


class Fetch1M(_LargeFetch):
    """Few jobs: their results are in Redis until the next measure empties it."""

    name = "fetch_1m"
    figures = ("fetch_1m", "fetch_1m_redis_cpu")
    job = FETCH_1M
    warm_up_jobs = 200
    most_jobs = 1_500
    sets = 500

    def covers(self, peer: Peer) -> bool:
        return peer.name in (FETCHQ, ARQ_TUNED, "saq", BULLMQ, BARE, PLAIN_SET)


class EmptyByTwo(Throughput):
    name = "empty_two"
    figures = ("empty_two",)
    job = EMPTY
    processes = 2
    most_rounds = 3


class FetchByTwo(Throughput):
    name = "fetch_2k_two"
    figures = ("fetch_2k_two",)
    job = FETCH_2K
    processes = 2
    most_rounds = 3


class Sleeping(Measure):
    """Jobs that only sleep: the cost of high concurrency. The maximum is 2,000 a second."""

    name = "sleeping"
    figures = ("sleeping",)
    most_rounds = 3

    CONCURRENCY: Final = 2_000
    JOBS: Final = 4_000

    def covers(self, peer: Peer) -> bool:
        return peer.is_queue

    async def take(self, stage: Stage, peer: Peer) -> dict[str, float]:
        drained = await drain(stage, peer, NAP, self.JOBS, concurrency=self.CONCURRENCY, window_s=4.0)
        # The first job to finish started a second earlier, as did all of its wave: both are counted.
        return {"sleeping": drained.finished / (drained.elapsed_s + 1.0)}


class Depth(Measure):
    """A long queue and a short one, with the same number of finished jobs.

    The long one is filled once, then topped up.
    """

    name = "depth"
    figures = ("depth_10k", "depth_1m")

    JOBS: Final = 10_000

    def covers(self, peer: Peer) -> bool:
        return peer.is_queue

    async def run(self, stage: Stage, peers: Sequence[Peer], results: Results) -> None:
        """The long queues are on their own Redis servers, which are idle while others are measured."""
        async with AsyncExitStack() as stack:
            self._stack = stack
            self._deep: dict[str, tuple[RedisServer, talk.Producer]] = {}
            await super().run(stage, peers, results)

    async def warm_up(self, stage: Stage, peer: Peer) -> None:
        producer = await stage.clean_producer(peer)
        answer = await producer.ask("enqueue_many", job="empty", args=[], count=self.JOBS, timeout_s=60.0)
        jobs = stage.options.deep_jobs
        needs_s = answer["elapsed_s"] / self.JOBS * jobs
        if needs_s > stage.options.fill_s:
            raise BenchFailure(f"filling {jobs:,} jobs would take about {needs_s:,.0f} s at its rate of enqueueing")
        server = await self._stack.enter_async_context(redis_server(stage.folder, f"redis-deep-{peer.name}"))
        opened = talk.producer(peer, stage.settings(peer, server=server), stage.folder, role="deep")
        deep = await self._stack.enter_async_context(opened)
        await deep.ask("enqueue_many", job="empty", args=[], count=jobs, timeout_s=stage.options.fill_s * 2)
        self._deep[peer.name] = server, deep

    async def take(self, stage: Stage, peer: Peer) -> dict[str, float]:
        short = await drain(stage, peer, EMPTY, self.JOBS)
        server, producer = self._deep[peer.name]
        backlog = await talk.Backlog.of(server, producer.hello, stage.options.deep_jobs)
        async with talk.worker(peer, stage.settings(peer, server=server), stage.folder) as worker:
            deep = await watch(server, backlog, [worker], self.JOBS, stage.options.window_s)
            await worker.stop()  # requeues its jobs, so that the next count is stable
        gone = await backlog.finished()
        await producer.ask("enqueue_many", job="empty", args=[], count=gone, timeout_s=stage.options.fill_s)
        return {"depth_10k": short.rate, "depth_1m": deep.rate}


async def _bare_rate(stage: Stage, page: str) -> float:
    options = stage.options
    command: list[str | Path] = [python_of(BARE_LOOP.environment), "-m", "bench.adapters.bare_peer", "loop"]
    command += [stage.site.url(page), str(options.concurrency), str(options.window_s), str(BODIES[page])]
    answer = json.loads(await run(BARE, command, stage.folder, timeout_s=60.0, env={}))
    rate: float = answer["count"] / answer["elapsed_s"]
    return rate


async def _set_us(server: RedisServer, size: int, count: int) -> float:
    """Redis's CPU time of one SET, with an expiry as results have, in microseconds."""
    body = b"x" * size
    await server.empty()
    before = await server.usage()
    for start in range(0, count, _SETS_AT_A_TIME):
        pipe = server.client.pipeline(transaction=False)
        for number in range(start, min(count, start + _SETS_AT_A_TIME)):
            pipe.set(f"body:{number}", body, ex=3_600)
        await pipe.execute()
    return ((await server.usage()).cpu_s - before.cpu_s) * 1e6 / count
