"""What the gateway answers, as an app of its own and mounted in another."""

from __future__ import annotations

import asyncio
import gc
import tracemalloc
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import pytest_asyncio
from prometheus_client.parser import text_string_to_metric_families
from redis.asyncio import Redis
from starlette.applications import Starlette
from starlette.routing import Mount
from tests.support.redis_server import RedisServer
from tests.support.running import wait_until

from fetchq import FetchqError, InvalidRequest, Producer
from fetchq.store.connection import connect
from fetchq_gateway import app as gateway_module
from fetchq_gateway import gateway_app, queue_figures
from fetchq_worker.process.embedded import EmbeddedRedis

pytestmark = pytest.mark.asyncio


@pytest_asyncio.fixture
async def redis(own_redis_server: RedisServer) -> AsyncIterator[Redis]:
    client: Redis = connect(own_redis_server.url)
    yield client
    await client.aclose()


def client_of(app: Starlette) -> httpx.AsyncClient:
    return httpx.AsyncClient(
        transport=httpx.ASGITransport(app, raise_app_exceptions=False), base_url="http://localhost"
    )


async def readings(redis: Redis) -> int:
    """How often the figures of a queue were read."""
    stats: Any = await redis.info("commandstats")
    return int(stats.get("cmdstat_hgetall", {"calls": 0})["calls"])


def requests_in(text: str) -> dict[tuple[str, str], float]:
    """The requests that `/metrics` counts, by route and code."""
    [family] = [one for one in text_string_to_metric_families(text) if one.name == "fetchq_gateway_requests"]
    return {(one.labels["route"], one.labels["code"]): one.value for one in family.samples}


async def test_it_is_ready_as_long_as_redis_answers_and_alive_without_it(
    redis: Redis, own_redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with client_of(gateway_app(redis)) as client:
        assert (await client.get("/readyz")).text == "the gateway is ready\n"
        monkeypatch.setattr(gateway_module, "READY_WITHIN_S", 0.1)
        with own_redis_server.hung():
            assert (await client.get("/readyz")).text == "Redis has not answered within 0.1 s\n"
        own_redis_server.stop()
        answer = await client.get("/readyz")
        assert answer.status_code == 503
        assert str(own_redis_server.socket) in answer.text
        assert (await client.get("/livez")).status_code == 200
        own_redis_server.start()
        assert (await client.get("/readyz")).status_code == 200


async def test_a_thousand_scrapes_at_a_time_cost_one_reading(redis: Redis) -> None:
    async with client_of(gateway_app(redis)) as client:
        before = await readings(redis)
        answers = await asyncio.gather(*(client.get("/metrics/queue") for _ in range(1000)))
        assert {answer.status_code for answer in answers} == {200}
        assert len({answer.text for answer in answers}) == 1
        assert await readings(redis) == before + 1


async def test_figures_are_read_again_when_they_are_old(redis: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue_figures, "FRESH_S", 0.0)
    async with client_of(gateway_app(redis)) as client:
        before = await readings(redis)
        for _ in range(3):
            await client.get("/metrics/queue")
        assert await readings(redis) == before + 3


async def test_a_client_that_goes_stops_no_reading_that_others_wait_for(
    redis: Redis, own_redis_server: RedisServer
) -> None:
    async with client_of(gateway_app(redis)) as client:
        with own_redis_server.hung():
            first, second = (asyncio.create_task(client.get("/metrics/queue")) for _ in range(2))
            await wait_until(lambda: any(task.get_name() == "fetchq-figures" for task in asyncio.all_tasks()))
            first.cancel()
            await asyncio.wait([first])
        assert (await second).status_code == 200


async def test_a_redis_that_hangs_is_503_in_time_for_every_scraper(
    redis: Redis, own_redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queue_figures, "READ_TIMEOUT_S", 0.1)
    async with client_of(gateway_app(redis)) as client:
        with own_redis_server.hung():
            answers = await asyncio.gather(*(client.get("/metrics/queue") for _ in range(10)))
    assert {answer.status_code for answer in answers} == {503}
    assert answers[0].text == f"Redis at {own_redis_server.socket} has not answered within 0.1 s\n"


async def test_requests_are_counted_by_route_and_code_whatever_paths_are_asked_for(redis: Redis) -> None:
    async with client_of(gateway_app(redis, allow_hosts=())) as client:
        for number in range(20):
            await client.get(f"/secret/{number}")
        await client.post("/livez")
        await client.get("/livez", headers={"Host": "evil.example"})
        await client.head("/livez")
        text = (await client.get("/metrics")).text
    assert requests_in(text) == {
        ("/livez", "200"): 1,
        ("/livez", "405"): 1,
        ("other", "404"): 20,
        ("other", "421"): 1,
    }
    assert "secret" not in text


async def test_its_own_metrics_have_the_process_and_the_lag_of_the_event_loop(redis: Redis) -> None:
    async with client_of(gateway_app(redis)) as client:
        await client.get("/livez")
        families = {one.name: one for one in text_string_to_metric_families((await client.get("/metrics")).text)}
    assert families["fetchq_gateway_event_loop_lag_seconds"].samples[0].value >= 0
    assert families["process_resident_memory_bytes"].samples[0].value > 0
    assert families["python_info"].samples[0].labels["implementation"] == "CPython"
    assert set(families["fetchq_build_info"].samples[0].labels) == {"version"}
    assert all(family.documentation for family in families.values())


async def test_it_can_be_mounted_in_another_app(redis: Redis) -> None:
    async with client_of(Starlette(routes=[Mount("/fetchq", gateway_app(redis))])) as client:
        assert (await client.get("/fetchq/livez", headers={"Host": "api.example"})).status_code == 200
        assert (await client.get("/livez")).status_code == 404
        assert requests_in((await client.get("/fetchq/metrics")).text) == {("/livez", "200"): 1}


async def test_it_answers_for_an_embedded_redis(embedded: EmbeddedRedis) -> None:
    redis = embedded.client()
    async with Producer(redis) as producer:
        await producer.enqueue("http://127.0.0.1/")
    async with client_of(gateway_app(redis)) as client:
        assert (await client.get("/readyz")).status_code == 200
        assert 'fetchq_jobs{queue="arq:queue",state="due"} 1.0' in (await client.get("/metrics/queue")).text
    await redis.aclose()


async def test_answers_are_not_cached_nor_taken_for_a_page(redis: Redis) -> None:
    async with client_of(gateway_app(redis)) as client:
        for path in ("/", "/livez", "/readyz", "/metrics", "/metrics/queue"):
            headers = (await client.get(path)).headers
            assert headers["cache-control"] == "no-store"
            assert headers["x-content-type-options"] == "nosniff"


async def test_many_requests_leave_no_memory_behind(redis: Redis) -> None:
    async def ask(first: int, count: int) -> None:
        for number in range(first, first + count):
            for path in ("/metrics/queue", "/metrics", "/livez", f"/none/{number}"):
                await client.get(path)

    async with client_of(gateway_app(redis)) as client:
        tracemalloc.start()
        await ask(0, 200)
        gc.collect()
        before, _ = tracemalloc.get_traced_memory()
        await ask(1000, 200)
        gc.collect()
        after, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert after - before < 100_000, f"{after - before} bytes after 800 requests"


async def test_bad_arguments_are_refused_when_the_app_is_made(redis: Redis) -> None:
    for queues in ("abc", [], [""]):
        with pytest.raises(InvalidRequest, match="queue"):
            gateway_app(redis, queues=queues)
    with pytest.raises(InvalidRequest, match="namespace"):
        gateway_app(redis, namespace="arq:")
    with pytest.raises(FetchqError, match="decode_responses"):
        gateway_app(Redis(decode_responses=True))
