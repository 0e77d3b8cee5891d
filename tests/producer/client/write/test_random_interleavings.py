"""Random interleavings of enqueues, cancellations and broken connections: each outcome is that of its own job."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence

import pytest
from redis.asyncio import Redis
from tests.producer.client.write.gated_redis import PATIENCE_S, queued
from tests.support.redis_server import RedisServer

from fetchq import FetchJob, FetchqError, FetchRequest, KeyConflict, Producer, QueueFull, RedisUnavailable
from fetchq.store.connection import connect

MAX_QUEUED = 120
KEYS = ("a", "b", "c")


class Callers:
    """Starts callers of one producer at random, and knows what each got."""

    def __init__(self, producer: Producer, chance: random.Random) -> None:
        self.producer = producer
        self.chance = chance
        self.tasks: list[asyncio.Task[None]] = []
        self.acknowledged: dict[str, str] = {}
        """The URL of each job that a caller has got."""
        self.uncertain: set[str] = set()
        """The URLs of callers that were cancelled, or lost their connection."""
        self.refused: set[str] = set()

    def start(self) -> None:
        number = len(self.tasks)
        kind = self.chance.choice(("one", "one", "one", "key", "many", "each"))
        urls = [f"http://h/{number}-{i}" for i in range(1 if kind in ("one", "key") else self.chance.randint(1, 5))]
        self.tasks.append(asyncio.create_task(self._call(kind, urls)))

    async def _call(self, kind: str, urls: Sequence[str]) -> None:
        try:
            if kind == "one":
                self._note(urls, [await self.producer.enqueue(urls[0])])
            elif kind == "key":
                self._note(urls, [await self.producer.enqueue(urls[0], key=self.chance.choice(KEYS))])
            elif kind == "many":
                self._note(urls, await self.producer.enqueue_many(urls))
            else:
                self._note(urls, await self.producer.enqueue_each([FetchRequest(url=url) for url in urls]))
        except FetchqError as problem:
            self._note(urls, [*problem.enqueued, *(problem for _ in urls[len(problem.enqueued) :])])
        except asyncio.CancelledError as problem:
            jobs: tuple[FetchJob, ...] = problem.enqueued  # type: ignore[attr-defined]
            self.acknowledged.update((job.id, "") for job in jobs)
            self.uncertain.update(urls)

    def _note(self, urls: Sequence[str], outcomes: Sequence[object]) -> None:
        for url, outcome in zip(urls, outcomes, strict=True):
            if isinstance(outcome, FetchJob):
                assert outcome.id not in self.acknowledged
                self.acknowledged[outcome.id] = url
            elif isinstance(outcome, RedisUnavailable):
                self.uncertain.add(url)
            else:
                assert isinstance(outcome, QueueFull | KeyConflict), outcome
                self.refused.add(url)


async def _urls(redis: Redis) -> dict[str, bytes]:
    ids = sorted(await queued(redis))
    return dict(zip(ids, await redis.mget([f"arq:job:{job_id}" for job_id in ids]), strict=True))


@pytest.mark.asyncio
@pytest.mark.parametrize("breaks", [False, True])
@pytest.mark.parametrize("seed", range(6))
async def test_what_a_caller_gets_is_true_of_its_own_job(
    seed: int, breaks: bool, own_redis_server: RedisServer
) -> None:
    chance = random.Random(seed)
    async with (
        connect(own_redis_server.url) as admin,
        Producer.from_url(own_redis_server.url, max_queued=MAX_QUEUED) as producer,
        asyncio.timeout(PATIENCE_S),
    ):
        callers = Callers(producer, chance)
        for _ in range(100):
            for _ in range(chance.randint(0, 3)):
                callers.start()
            if callers.tasks and chance.random() < 0.2:
                chance.choice(callers.tasks[-5:]).cancel()
            if breaks and chance.random() < 0.1:
                await admin.client_kill_filter(_type="normal", skipme=True)
            for _ in range(chance.randint(0, 8)):
                await asyncio.sleep(0)
        ended = await asyncio.gather(*callers.tasks, return_exceptions=True)
        assert [one for one in ended if isinstance(one, Exception)] == []
        payloads = await _urls(admin)
    assert callers.acknowledged.keys() <= payloads.keys()
    assert len(payloads) <= MAX_QUEUED
    for job_id, url in callers.acknowledged.items():
        assert url.encode() in payloads[job_id]
    for job_id in payloads.keys() - callers.acknowledged.keys():
        assert any(url.encode() in payloads[job_id] for url in callers.uncertain)
    for url in callers.refused:
        assert not any(url.encode() in payload for payload in payloads.values())
    assert callers.refused
    assert callers.uncertain
    assert len(callers.acknowledged) > MAX_QUEUED / 4
