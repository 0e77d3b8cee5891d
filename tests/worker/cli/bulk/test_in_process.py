"""The worker of `fetchq fetch`."""

from __future__ import annotations

import pytest
from tests.support.redis_server import RedisServer

from fetchq_worker.cli.bulk.in_process import in_process
from fetchq_worker.settings import Settings


@pytest.mark.asyncio
async def test_on_a_private_server_nothing_is_measured(redis_server: RedisServer) -> None:
    settings = Settings(redis_url=redis_server.url)
    async with in_process(settings, embedded=True) as alone, in_process(settings, embedded=False) as shared:
        assert (alone.worker.metrics, alone.worker.telemetry.measures) == (False, None)
        assert shared.worker.metrics
        assert shared.worker.telemetry.measures is not None
