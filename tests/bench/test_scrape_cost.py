"""The bench of scrapes makes the queue that it says, and a scrape of it is cheap."""

from __future__ import annotations

from pathlib import Path

import pytest
from bench.scrape_cost import Load, measure
from bench.testbed.redis_server import redis_server
from tests.support.redis_server import needed_binary


@pytest.mark.asyncio
async def test_a_scrape_costs_little(tmp_path: Path) -> None:
    needed_binary("redis-server")
    async with redis_server(tmp_path) as server:
        cost, figures = await measure(server, Load(jobs=2_000, hosts=500, workers=8, slots=10, limits=100))

    state = figures.state
    assert (state.running, state.waiting, state.hosts_waiting, state.slots) == (80, 2_000, 500, 80)
    assert state.demand == 80 + 250 * 4
    assert len(figures.totals.functions) == 50
    assert cost.redis_ms < 20
    assert cost.asker_ms < 20
