"""What a job returns, where it cannot be stored."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from arq import func
from arq.connections import ArqRedis
from tests.worker.engine.conftest import MakeWorker

from fetchq import JobFailed
from fetchq.contract import wire

pytestmark = pytest.mark.asyncio


async def test_a_value_that_cannot_be_stored_is_the_jobs_failure_and_says_why(
    redis: ArqRedis, make_worker: MakeWorker, caplog: pytest.LogCaptureFixture
) -> None:
    async def work(ctx: Any) -> Any:
        return object()

    redis.job_serializer, redis.job_deserializer = wire.serialize, wire.deserialize
    job = await redis.enqueue_job("work", _job_id="a")
    assert job is not None
    worker = make_worker(
        [func(work, name="work")],
        burst=True,
        dead_letter_max=10,
        job_serializer=wire.serialize,
        job_deserializer=wire.deserialize,
    )
    worker.logs_events = True
    await worker.main()
    why = "unable to serialize result: a object cannot be encoded; use plain values or msgspec structs"
    with pytest.raises(JobFailed) as failure:
        await job.result(timeout=1)
    assert (failure.value.type, failure.value.message) == ("SerializationError", why)
    assert (worker.jobs_complete, worker.jobs_failed) == (0, 1)
    assert await redis.zscore("fetchq:dead:arq:queue", "a") is not None
    [line] = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert line == (f"job.failed id=a function=work status=SerializationError attempts=1 dead_letter=yes error={why}")
