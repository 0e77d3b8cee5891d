"""Enqueues per second, singly and many at a time, and the Redis memory of a queued job."""

from __future__ import annotations

from typing import Final

from bench.testbed import adapter_process as talk
from bench.testbed.environments import ensure
from bench.testbed.peers import Peer
from bench.testbed.stage import Stage

from .measure import Measure

_SECONDS: Final = 1.0


class Enqueue(Measure):
    """Without a worker. One: each is awaited before the next. Many: by the peer's call for many, or gathered."""

    name = "enqueue"
    figures = ("enqueue_one", "enqueue_many")

    def covers(self, peer: Peer) -> bool:
        return peer.is_queue

    async def warm_up(self, stage: Stage, peer: Peer) -> None:
        for op, count in (("enqueue_one", 200), ("enqueue_many", 2_000)):
            stage.capacity[peer.name, op] = await _rate(stage, peer, op, count)

    async def take(self, stage: Stage, peer: Peer) -> dict[str, float]:
        sample = {}
        for op in self.figures:
            count = max(200, int(stage.capacity[peer.name, op] * _SECONDS))
            sample[op] = stage.capacity[peer.name, op] = await _rate(stage, peer, op, count)
        return sample


class Memory(Measure):
    """The growth of `used_memory` for each of 10,000 queued fetches of one short URL."""

    name = "memory"
    figures = ("memory",)
    most_rounds = 1

    JOBS: Final = 10_000
    URL: Final = "https://example.org/"

    def covers(self, peer: Peer) -> bool:
        return peer.is_queue

    async def warm_up(self, stage: Stage, peer: Peer) -> None:
        await ensure(peer.environment, stage.folder)

    async def take(self, stage: Stage, peer: Peer) -> dict[str, float]:
        await stage.server.empty()
        # The first job creates what all share: scripts, streams, registries.
        await self._enqueue(stage, peer, 1)
        before = await stage.server.memory_bytes()
        await self._enqueue(stage, peer, self.JOBS)
        return {"memory": (await stage.server.memory_bytes() - before) / self.JOBS}

    async def _enqueue(self, stage: Stage, peer: Peer, count: int) -> None:
        """By a producer that has ended when this returns, since the buffers of its connections would count too."""
        async with talk.producer(peer, stage.settings(peer), stage.folder, role="memory") as producer:
            await producer.ask("enqueue_many", job="fetch", args=[self.URL], count=count)


async def _rate(stage: Stage, peer: Peer, op: str, count: int) -> float:
    producer = await stage.clean_producer(peer)
    answer = await producer.ask(op, job="fetch", args=[stage.site.url("2k")], count=count)
    rate: float = count / answer["elapsed_s"]
    return rate
