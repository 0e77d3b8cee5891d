"""The commit of a first try removes the history that the run has written, and looks for nothing else."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from arq.worker import func
from tests.support.running import running
from tests.support.web.site import Site, Visit, http_response

from fetchq import FetchRequest, FetchStatus, Producer
from fetchq.contract.wire import deserialize, serialize
from fetchq_worker.engine import Worker
from fetchq_worker.fetch import Fetcher, fetch_data
from fetchq_worker.fetch.job import coroutine
from fetchq_worker.fetch.job.history import AttemptHistory, HistoryUnavailable, save_history
from fetchq_worker.process.arq_settings import fetch_function
from fetchq_worker.process.embedded import EmbeddedRedis

pytestmark = pytest.mark.asyncio


async def wrapped(ctx: dict[str, Any], url: str) -> str:
    """A user's coroutine that passes on a copy of its ctx."""
    result = await fetch_data({**ctx, "extra": 1}, FetchRequest(url=url, method="POST"))
    return str(result.status)


def _worker(embedded: EmbeddedRedis, fetcher: Fetcher) -> Worker:
    return Worker(
        [fetch_function(), func(wrapped, name="wrapped")],
        redis_pool=embedded.client(),
        ctx={"fetcher": fetcher},
        handle_signals=False,
        poll_delay=0.05,
        job_serializer=serialize,
        job_deserializer=deserialize,
    )


@pytest.mark.parametrize("own", [False, True])
async def test_a_post_leaves_no_history(embedded: EmbeddedRedis, fetcher: Fetcher, site: Site, own: bool) -> None:
    redis = embedded.client()
    seen: list[list[bytes]] = []

    async def look(visit: Visit) -> None:
        seen.append(await redis.keys("fetchq:attempts:*"))
        await visit.send(http_response(b"hello"))

    url = site.serve("/", look)
    async with Producer(redis) as producer, running(_worker(embedded, fetcher)), asyncio.timeout(20):
        if own:
            assert await (await producer.enqueue_job("wrapped", url)).value() == FetchStatus.OK
        else:
            job = await producer.enqueue(FetchRequest(url=url, method="POST"))
            assert (await job.result(timeout_s=10)).status is FetchStatus.OK
    assert len(seen[0]) == 1  # a request that must not be sent twice is marked before it is sent
    assert await redis.keys("fetchq:attempts:*") == []
    await redis.aclose()


@pytest.mark.parametrize("cut_off_by", ["a lost reply", "a stop"])
async def test_a_history_whose_write_was_cut_off_is_removed_with_its_job(
    embedded: EmbeddedRedis, fetcher: Fetcher, site: Site, monkeypatch: pytest.MonkeyPatch, cut_off_by: str
) -> None:
    written = asyncio.Event()

    async def save(redis: Any, key: str, kept: AttemptHistory) -> None:
        await save_history(redis, key, kept)
        if not written.is_set():
            written.set()
            if cut_off_by == "a stop":
                await asyncio.Event().wait()
            raise HistoryUnavailable("the reply was lost")

    monkeypatch.setattr(coroutine, "save_history", save)
    monkeypatch.setattr(coroutine, "REDIS_DEFER_S", 0.01)
    redis = embedded.client()
    url = site.serve("/", http_response(status=503), http_response(b"hello"))
    async with Producer(redis) as producer, asyncio.timeout(20):
        fetch = await producer.enqueue(FetchRequest(url=url))
        async with running(_worker(embedded, fetcher)):
            await written.wait()
        async with running(_worker(embedded, fetcher)):
            assert (await fetch.result(timeout_s=10)).status is FetchStatus.OK
        assert await redis.keys(producer.keys.attempts + "*") == []
        assert await redis.keys(producer.keys.retry + "*") == []
    await redis.aclose()
