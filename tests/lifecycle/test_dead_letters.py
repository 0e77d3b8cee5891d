"""A fetch that fails for good, its dead letter, and its retry, end to end."""

from __future__ import annotations

import pytest
from redis.asyncio import Redis
from tests.support.running import wait_until
from tests.support.web.site import Site, http_response

from fetchq import FetchRequest, FetchStatus, Producer, RetryOutcome, RetryPolicy

from .conftest import Working

pytestmark = pytest.mark.asyncio


async def test_a_dead_fetch_is_retried_under_its_id_and_its_new_result_is_awaited(
    redis: Redis, producer: Producer, working: Working, site: Site
) -> None:
    policy = RetryPolicy(max_tries=2, base_s=0.0)
    url = site.serve(
        "/", http_response(b"busy", status=503), http_response(b"busy", status=503), http_response(b"hello")
    )
    async with working():
        job = await producer.enqueue(FetchRequest(url=url, retry=policy))
        assert (await job.result(timeout_s=20)).http_status == 503
        letter = await producer.dead_letters.get(job.id)
        assert (letter.status, letter.url, letter.tries) == (FetchStatus.HTTP_ERROR, url, 2)
        assert [attempt.http_status for attempt in letter.result.attempts] == [503, 503]

        assert await producer.dead_letters.retry_many([job.id]) == [RetryOutcome.RETRIED]
        again = await job.result(timeout_s=20)
        assert (again.status, again.body) == (FetchStatus.OK, b"hello")
        assert [attempt.http_status for attempt in again.attempts] == [200]
    assert await redis.keys(f"*{job.id}") == [b"arq:result:" + job.id.encode()]
    assert await producer.dead_letters.count() == 0


async def test_a_dead_fetch_without_a_stored_result_leaves_a_dead_letter(
    producer: Producer, working: Working, site: Site
) -> None:
    url = site.serve("/", http_response(b"busy", status=503))
    async with working():
        job = await producer.enqueue(url, retry=RetryPolicy(max_tries=1), result_ttl_s=0)
        await wait_until(lambda: _is_dead(producer))
    assert (await producer.dead_letters.get(job.id)).result.http_status == 503


async def test_a_job_that_fails_again_has_one_dead_letter_with_the_new_time(
    producer: Producer, working: Working, site: Site
) -> None:
    url = site.serve("/", http_response(b"busy", status=503), http_response(b"slow down", status=429))
    async with working():
        job = await producer.enqueue(url, retry=RetryPolicy(max_tries=1))
        await job.result(timeout_s=20)
        [counts] = [counts async for counts in producer.dead_letters.retry_all(status="HTTP_ERROR")]
        assert counts == {RetryOutcome.RETRIED: 1}
        assert (await job.result(timeout_s=20)).http_status == 429
    assert [letter.result.http_status async for letter in producer.dead_letters.list()] == [429]


async def _is_dead(producer: Producer) -> bool:
    return await producer.dead_letters.count() == 1
