"""`/metrics/queue`: cheap for Redis however often it is asked, and honest while Redis is away."""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import Any

import pytest
from prometheus_client import parser
from redis.asyncio import Redis
from tests.support.redis_server import RedisServer

from fetchq import Producer
from fetchq.store.connection import connect
from fetchq.store.keys import Keys
from fetchq_worker.process.http import queue_scrape
from fetchq_worker.process.http.messages import Reply, Request
from fetchq_worker.process.http.queue_scrape import QueueScrape

pytestmark = pytest.mark.asyncio

KEYS = Keys()


def _due(reply: Reply) -> float:
    assert reply.status is HTTPStatus.OK
    families = parser.text_string_to_metric_families(f"{reply.text}\n")
    [due] = [s.value for family in families for s in family.samples if s.labels.get("state") == "due"]
    return float(due)


async def _readings(client: Redis) -> int:
    """How often the figures were read."""
    stats: Any = await client.info("commandstats")
    return int(stats.get("cmdstat_hgetall", {"calls": 0})["calls"])


async def test_any_number_of_scrapes_in_a_second_costs_one_reading(redis_server: RedisServer) -> None:
    async with connect(redis_server.url) as client, Producer(client) as producer:
        scrape = QueueScrape(lambda: client, KEYS)
        before = await _readings(client)
        replies = await asyncio.gather(
            *(scrape.answer(Request(accept="application/openmetrics-text")) for _ in range(50))
        )
        await producer.enqueue("https://example.org/")
        assert _due(await scrape.answer(Request())) == 0
        assert await _readings(client) == before + 1
        assert len(set(replies)) == 1
        assert replies[0].content_type.startswith("application/openmetrics-text")
        assert replies[0].text.endswith("# EOF")


async def test_a_later_scrape_has_new_figures(redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue_scrape, "CACHED_S", 0.0)
    async with connect(redis_server.url) as client, Producer(client) as producer:
        scrape = QueueScrape(lambda: client, KEYS)
        assert _due(await scrape.answer(Request())) == 0
        await producer.enqueue("https://example.org/")
        assert _due(await scrape.answer(Request())) == 1


async def test_while_redis_is_away_the_answer_is_503_and_says_why(
    own_redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queue_scrape, "CACHED_S", 0.0)
    async with connect(own_redis_server.url) as client:
        scrape = QueueScrape(lambda: client, KEYS)
        assert _due(await scrape.answer(Request())) == 0
        with own_redis_server.hung():
            hung = await scrape.answer(Request(timeout_s=0.1))
        own_redis_server.stop()
        away = await scrape.answer(Request())
        own_redis_server.start()
        assert _due(await scrape.answer(Request())) == 0
    assert hung == Reply(HTTPStatus.SERVICE_UNAVAILABLE, "Redis has not answered within 0.09 s")
    assert (away.status, "cannot be reached" in away.text) == (HTTPStatus.SERVICE_UNAVAILABLE, True)


async def test_a_worker_that_has_no_client_yet_answers_503() -> None:
    reply = await QueueScrape(lambda: None, KEYS).answer(Request())
    assert reply == Reply(HTTPStatus.SERVICE_UNAVAILABLE, "the worker has not connected to Redis yet")
