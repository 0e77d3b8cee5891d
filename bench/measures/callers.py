"""Enqueues per second of many callers that share one producer, each awaiting its own."""

from __future__ import annotations

from typing import Final

from bench.testbed.peers import Peer
from bench.testbed.stage import Stage

from .measure import Measure

_SECONDS: Final = 1.0


class Callers(Measure):
    """A web server's case: every request enqueues one job, and many requests are under way."""

    name = "callers"
    figures = ("enqueue_64",)
    most_rounds = 3

    CALLERS: Final = 64

    def covers(self, peer: Peer) -> bool:
        return peer.is_queue

    async def warm_up(self, stage: Stage, peer: Peer) -> None:
        stage.capacity[peer.name, "enqueue_64"] = await self._rate(stage, peer, 10)

    async def take(self, stage: Stage, peer: Peer) -> dict[str, float]:
        each = max(10, int(stage.capacity[peer.name, "enqueue_64"] * _SECONDS / self.CALLERS))
        rate = stage.capacity[peer.name, "enqueue_64"] = await self._rate(stage, peer, each)
        return {"enqueue_64": rate}

    async def _rate(self, stage: Stage, peer: Peer, each: int) -> float:
        producer = await stage.clean_producer(peer)
        args = [stage.site.url("2k")]
        answer = await producer.ask("enqueue_callers", job="fetch", args=args, callers=self.CALLERS, each=each)
        rate: float = self.CALLERS * each / answer["elapsed_s"]
        return rate
