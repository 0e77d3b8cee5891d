"""`TestWorker` in tests without an event loop, and the fixtures."""

from __future__ import annotations

import pytest

from fetchq import FetchStatus, Producer, SyncProducer
from fetchq.testing import TestWorker, UnexpectedJob
from fetchq.testing.fixtures import fetchq_producer, fetchq_sync_producer, fetchq_worker

__all__ = ["fetchq_producer", "fetchq_sync_producer", "fetchq_worker"]

URL = "https://api.example/"


def test_a_blocking_producer_shares_the_workers_redis(
    fetchq_worker: TestWorker,
    fetchq_sync_producer: SyncProducer,
) -> None:
    fetchq_worker.respond(URL, text="well")
    job = fetchq_sync_producer.enqueue(URL)
    later = fetchq_sync_producer.enqueue(URL, delay_s=60)
    assert fetchq_worker.run_sync() == 1
    assert job.result(timeout_s=0).text == "well"
    fetchq_worker.advance(61)
    assert fetchq_worker.run_sync() == 1
    assert later.result(timeout_s=0).ok


def test_in_a_thread_code_can_wait_for_its_results(
    fetchq_worker: TestWorker,
    fetchq_sync_producer: SyncProducer,
) -> None:
    fetchq_worker.respond(URL, text="well")
    with fetchq_worker:
        assert fetchq_sync_producer.enqueue(URL).result(timeout_s=20).text == "well"
        deferred = fetchq_sync_producer.enqueue(URL, delay_s=60)
        fetchq_worker.advance(61)
        assert deferred.result(timeout_s=20).ok


def test_in_a_thread_an_unexpected_url_is_raised_at_the_end_and_hides_no_failure_of_the_test(
    fetchq_worker: TestWorker,
    fetchq_sync_producer: SyncProducer,
) -> None:
    with pytest.raises(UnexpectedJob, match="no canned response"), fetchq_worker:
        result = fetchq_sync_producer.enqueue(URL).result(timeout_s=20)
        assert result.status is FetchStatus.INTERNAL_ERROR
    with pytest.raises(ZeroDivisionError), fetchq_worker:
        fetchq_sync_producer.enqueue(URL).result(timeout_s=20)
        raise ZeroDivisionError


@pytest.mark.asyncio
async def test_the_async_fixture_is_on_the_same_queue(
    fetchq_worker: TestWorker,
    fetchq_producer: Producer,
) -> None:
    fetchq_worker.respond(URL)
    await fetchq_producer.enqueue(URL)
    assert await fetchq_worker.run() == 1
