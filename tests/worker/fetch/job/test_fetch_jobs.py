"""`fetch_data` as a job: one run is one attempt, and the history between two runs is in Redis."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from unittest.mock import AsyncMock

import msgspec
import pytest
import pytest_asyncio
from arq.connections import ArqRedis
from arq.worker import Retry
from redis.exceptions import ConnectionError as RedisConnectionError
from tests.support.web.site import Site, Visit, http_response

from fetchq import Attempt, FetchRequest, FetchResult, FetchStatus, RetryPolicy
from fetchq.store.keys import Keys
from fetchq_worker import fetch_data
from fetchq_worker.engine.run.snooze import Snooze
from fetchq_worker.fetch import Fetcher
from fetchq_worker.fetch.cache.shared_cache import SharedCache
from fetchq_worker.fetch.job.history import HISTORY_TTL_S, AttemptHistory
from fetchq_worker.process.embedded import EmbeddedRedis

pytestmark = pytest.mark.asyncio

KEY = "fetchq:attempts:job1"


@pytest_asyncio.fixture
async def redis(embedded: EmbeddedRedis) -> AsyncIterator[ArqRedis]:
    client = embedded.client()
    yield client
    await client.aclose()


Run = dict[str, Any]


@pytest.fixture
def run(redis: ArqRedis, fetcher: Fetcher) -> Run:
    """The ctx of a job's first run, as arq makes it."""
    due_ms = int(datetime.now(UTC).timestamp() * 1000) - 2000
    return {"redis": redis, "fetcher": fetcher, "job_id": "job1", "job_try": 1, "score": due_ms}


async def _record(redis: ArqRedis) -> AttemptHistory | None:
    data = await redis.get(KEY)
    return None if data is None else msgspec.msgpack.decode(data, type=AttemptHistory)


async def _save(redis: ArqRedis, record: AttemptHistory) -> None:
    await redis.set(KEY, msgspec.msgpack.encode(record))


def _failed(times: int) -> tuple[Attempt, ...]:
    return tuple(
        Attempt(started_at=datetime.now(UTC), status=FetchStatus.HTTP_ERROR, http_status=503, error="busy")
        for _ in range(times)
    )


async def test_a_successful_first_run_makes_no_call_to_redis(site: Site, run: Run) -> None:
    run["redis"] = AsyncMock()  # records any call
    request = FetchRequest(url=site.serve("/", http_response(b"hello")), result_ttl_s=77)

    result = await fetch_data(run, request)

    assert (result.id, result.status, result.body) == ("job1", FetchStatus.OK, b"hello")
    assert run["fetchq"].result_ttl_s == 77
    assert run["redis"].mock_calls == []
    assert result.timing.queued_s is not None
    assert 2 <= result.timing.queued_s < 10


async def test_a_retried_run_is_not_answered_with_the_stored_error(site: Site, run: Run, redis: ArqRedis) -> None:
    error = http_response(status=503, headers={"Cache-Control": "max-age=60"})
    request = FetchRequest(url=site.serve("/", error, http_response(b"well")), cache=True)
    shared_cache = SharedCache(redis, Keys())
    async with Fetcher(user_agent="t/1", allow_net=("127.0.0.0/8",), shared_cache=shared_cache) as fetcher:
        run["fetcher"] = fetcher
        with pytest.raises(Retry):
            await fetch_data(run, request)
        result = await fetch_data({**run, "job_try": 2}, request)
    assert (result.body, result.from_cache) == (b"well", False)


async def test_the_request_may_be_the_decoded_map(site: Site, run: Run) -> None:
    result = await fetch_data(run, {"url": site.serve("/", http_response(b"hello")), "timeout_s": 5})

    assert result.body == b"hello"


async def test_a_failed_attempt_is_recorded_and_the_job_retried(site: Site, run: Run, redis: ArqRedis) -> None:
    url = site.serve("/", http_response(status=503, headers={"Retry-After": "9"}), http_response(b"at last"))

    with pytest.raises(Retry) as retry:
        await fetch_data(run, FetchRequest(url=url))

    assert retry.value.defer_score == 9000
    record = await _record(redis)
    assert record is not None
    assert [(attempt.status, attempt.http_status) for attempt in record.attempts] == [(FetchStatus.HTTP_ERROR, 503)]
    assert 0 < await redis.ttl(KEY) <= HISTORY_TTL_S

    result = await fetch_data({**run, "job_try": 2, "score": run["score"] + 1000}, FetchRequest(url=url))

    assert (result.status, result.body) == (FetchStatus.OK, b"at last")
    assert [attempt.http_status for attempt in result.attempts] == [503, 200]
    assert result.timing.queued_s == record.queued_s, "counted to the first attempt, not to the last"


async def test_the_last_try_ends_the_job_with_all_attempts(site: Site, run: Run, redis: ArqRedis) -> None:
    await _save(redis, AttemptHistory(attempts=_failed(2)))
    url = site.serve("/", http_response(status=503))

    result = await fetch_data({**run, "job_try": 3}, FetchRequest(url=url))

    assert (result.status, result.http_status, len(result.attempts)) == (FetchStatus.HTTP_ERROR, 503, 3)


async def test_crashes_and_attempts_are_counted_separately(site: Site, run: Run, redis: ArqRedis) -> None:
    url = site.serve("/", http_response(b"hello"))
    await _save(redis, AttemptHistory(attempts=_failed(2)))

    after_four = await fetch_data({**run, "job_try": 7}, FetchRequest(url=url))
    after_five = await fetch_data({**run, "job_try": 8}, FetchRequest(url=url))

    assert after_four.status is FetchStatus.OK
    lost, failed = [FetchStatus.WORKER_LOST], [FetchStatus.HTTP_ERROR]
    assert [attempt.status for attempt in after_four.attempts] == failed * 2 + lost * 4 + [FetchStatus.OK]
    assert [attempt.status for attempt in after_five.attempts] == failed * 2 + lost * 5
    assert after_five.status is FetchStatus.WORKER_LOST
    assert "5 times" in (after_five.error or "")
    assert len(site.visits) == 1


async def test_a_crash_is_not_counted_as_a_try_and_stays_in_the_history(site: Site, run: Run, redis: ArqRedis) -> None:
    request = FetchRequest(url=site.serve("/", http_response(status=503)), retry=RetryPolicy(max_tries=2, base_s=0))

    with pytest.raises(Retry):
        await fetch_data({**run, "job_try": 2}, request)
    result = await fetch_data({**run, "job_try": 4}, request)

    assert [attempt.status for attempt in result.attempts] == ["WORKER_LOST", "HTTP_ERROR", "WORKER_LOST", "HTTP_ERROR"]


async def test_a_client_that_claims_a_billion_tries_gets_a_small_result(site: Site, run: Run) -> None:
    result = await fetch_data({**run, "job_try": 1_000_000_000}, FetchRequest(url=site.serve("/", http_response())))

    assert (result.status, len(result.attempts)) == (FetchStatus.WORKER_LOST, 5)


async def test_a_job_whose_deadline_has_passed_is_not_run(site: Site, run: Run) -> None:
    past = datetime.now(UTC) - timedelta(seconds=1)

    result = await fetch_data(run, FetchRequest(url=site.serve("/", http_response()), deadline=past))

    assert (result.status, result.attempts) == (FetchStatus.EXPIRED, ())
    assert site.visits == []


async def test_a_retry_after_the_deadline_ends_with_the_last_outcome(site: Site, run: Run, redis: ArqRedis) -> None:
    await _save(redis, AttemptHistory(attempts=_failed(1)))
    past = datetime.now(UTC) - timedelta(seconds=1)

    result = await fetch_data({**run, "job_try": 2}, FetchRequest(url=site.serve("/", http_response()), deadline=past))

    assert (result.status, result.http_status, result.error) == (FetchStatus.HTTP_ERROR, 503, "busy")
    assert site.visits == []


async def test_a_newer_wire_version_is_snoozed_uncounted(run: Run) -> None:
    with pytest.raises(Snooze) as release:
        await fetch_data(run, {"url": "http://example.org/", "v": 2})

    assert release.value.defer_score == 5000
    assert run["fetchq"].uncounted


async def test_an_invalid_request_ends_as_a_result(run: Run) -> None:
    result = await fetch_data(run, {"url": "gopher://example.org/"})

    assert (result.id, result.status, result.url) == ("job1", FetchStatus.INVALID_URL, "gopher://example.org/")


async def test_a_non_idempotent_request_is_marked_before_it_is_sent(site: Site, run: Run, redis: ArqRedis) -> None:
    marks: list[AttemptHistory | None] = []

    async def look(visit: Visit) -> None:
        marks.append(await _record(redis))
        await visit.send(http_response())

    await fetch_data(run, FetchRequest(url=site.serve("/", look), method="POST", body=b"x"))

    assert marks[0] is not None
    assert marks[0].sending


@pytest.mark.parametrize("next_try", [1, 2], ids=["stopped, and the try not counted", "crashed"])
async def test_a_non_idempotent_request_that_a_lost_worker_may_have_sent_is_not_sent_again(
    site: Site, run: Run, next_try: int
) -> None:
    arrived = asyncio.Event()

    async def never(visit: Visit) -> None:
        arrived.set()
        await asyncio.Event().wait()

    request = FetchRequest(url=site.serve("/", never), method="POST", body=b"x")
    lost = asyncio.create_task(fetch_data(run, request))
    await arrived.wait()
    lost.cancel()
    await asyncio.wait([lost])

    result = await fetch_data({**run, "job_try": next_try}, request)

    assert result.status is FetchStatus.WORKER_LOST
    assert [attempt.status for attempt in result.attempts] == [FetchStatus.WORKER_LOST]
    assert len(site.visits) == 1


async def test_a_repeatable_request_is_sent_again_with_the_same_idempotency_key(site: Site, run: Run) -> None:
    arrived = asyncio.Event()

    async def never(visit: Visit) -> None:
        arrived.set()
        await asyncio.Event().wait()

    request = FetchRequest(url=site.serve("/", never, http_response()), method="POST", retry_non_idempotent=True)
    lost = asyncio.create_task(fetch_data(run, request))
    await arrived.wait()
    lost.cancel()
    await asyncio.wait([lost])

    result = await fetch_data({**run, "job_try": 2}, request)

    assert result.status is FetchStatus.OK
    assert [visit.header("Idempotency-Key") for visit in site.visits] == ["job1", "job1"]


async def test_a_non_idempotent_request_that_was_not_sent_is_retried_and_leaves_no_mark(
    run: Run, redis: ArqRedis
) -> None:
    request = FetchRequest(url="http://no-such-name.invalid/", method="POST")

    with pytest.raises(Retry):
        await fetch_data(run, request)

    record = await _record(redis)
    assert record is not None
    assert (len(record.attempts), record.sending) == (1, False)


async def test_a_non_idempotent_request_with_an_error_response_is_not_retried(site: Site, run: Run) -> None:
    result = await fetch_data(run, FetchRequest(url=site.serve("/", http_response(status=503)), method="POST"))

    assert result.http_status == 503


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_without_redis_a_job_that_needs_its_history_is_snoozed_and_nothing_is_sent(
    site: Site, run: Run, method: str
) -> None:
    away = AsyncMock(side_effect=RedisConnectionError("connection refused"))
    run["redis"] = AsyncMock(get=away, set=away)
    url = site.serve("/", http_response(status=503))

    with pytest.raises(Snooze):
        await fetch_data(run, FetchRequest(url=url, method=method))
    with pytest.raises(Snooze):
        await fetch_data({**run, "job_try": 2}, FetchRequest(url=url, method=method))

    assert len(site.visits) == (1 if method == "GET" else 0)


async def test_an_unused_connection_is_returned_to_the_pool(site: Site, run: Run) -> None:
    url = site.serve("/", http_response(b"hello"))
    going = AsyncMock(get=AsyncMock(return_value=None), set=AsyncMock(side_effect=RedisConnectionError))
    away = {**run, "redis": going}

    with pytest.raises(Snooze):
        await fetch_data(away, FetchRequest(url=url, method="POST"))
    result = await fetch_data(run, FetchRequest(url=url))

    assert result.body == b"hello"
    assert site.connections == 1


async def test_an_unreadable_history_stops_only_non_idempotent_requests(site: Site, run: Run, redis: ArqRedis) -> None:
    await redis.set(KEY, b"\x80\x04not msgpack of ours")
    url = site.serve("/", http_response())

    safe = await fetch_data({**run, "job_try": 2}, FetchRequest(url=url))
    unsafe = await fetch_data({**run, "job_try": 2}, FetchRequest(url=url, method="POST"))

    assert (safe.status, unsafe.status) == (FetchStatus.OK, FetchStatus.WORKER_LOST)


async def test_the_keys_of_the_workers_namespace_are_used(site: Site, run: Run, redis: ArqRedis) -> None:
    from fetchq.store.keys import Keys

    run["keys"] = Keys(namespace="{a}:")

    with pytest.raises(Retry):
        await fetch_data(run, FetchRequest(url=site.serve("/", http_response(status=503))))

    assert await redis.keys("*") == [b"{a}:fetchq:attempts:job1"]


async def test_without_retries_the_first_outcome_is_the_result(site: Site, run: Run) -> None:
    request = FetchRequest(url=site.serve("/", http_response(status=503)), retry=RetryPolicy(max_tries=1))

    result: FetchResult = await fetch_data(run, request)

    assert result.http_status == 503


@pytest.mark.parametrize(
    ("arguments", "named", "count"),
    [((), {}, 0), (("http://example.org/", "x"), {}, 2), (({"url": "http://example.org/"},), {"extra": 1}, 2)],
)
async def test_a_job_without_exactly_one_argument_is_an_invalid_job(
    run: Run, arguments: tuple[Any, ...], named: dict[str, Any], count: int
) -> None:
    result = await fetch_data(run, *arguments, **named)
    assert (result.id, result.status) == ("job1", FetchStatus.INVALID_JOB)
    assert result.error == f"request: fetch_data takes one argument, not {count}"
