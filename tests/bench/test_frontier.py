"""`make frontier`: its counters, and the simulator on an embedded Redis."""

from __future__ import annotations

import pytest
from bench.frontier.jobs import hosts, percentile
from bench.frontier.rate import most_in_a_second
from bench.frontier_sim import Fleet, simulate

from fetchq_worker.process.embedded import EmbeddedRedis


@pytest.mark.parametrize(
    ("came_s", "most"), [([0.0, 0.5, 0.999], 3), ([0.0, 1.0, 2.0], 1), ([0.0, 0.9, 1.1, 1.2, 1.8, 2.2], 4)]
)
def test_a_sliding_second_is_open_at_its_end(came_s: list[float], most: int) -> None:
    assert most_in_a_second(came_s) == most


def test_each_host_has_its_own_address() -> None:
    assert len(set(hosts(100_000))) == 100_000


def test_the_99th_percentile_of_a_hundred_is_the_greatest() -> None:
    assert percentile(range(100), 0.99) == 99


def test_the_best_possible_is_what_slots_and_rates_permit() -> None:
    fleet = Fleet([10, 1, 1], slots=2)
    assert [fleet.best(ms) for ms in (100, 200, 400, 1200, 3200)] == [0, 2, 3, 4, 6]


def test_a_start_beyond_a_limit_is_found() -> None:
    fleet = Fleet([5], slots=2)
    fleet.start("0.00000", "t", 0)
    fleet.start("0.00001", "t", 1)
    assert len(fleet.broken) == 1
    fleet.ended(500)
    fleet.start("0.00002", "t", 600)
    assert "ms after the one before" in fleet.broken[1]
    fleet.ended(5000)
    fleet.start("0.00004", "t", 6000)
    assert "out of turn" in fleet.broken[2]


@pytest.mark.asyncio
async def test_a_small_simulation_keeps_all_limits_and_its_slots_busy() -> None:
    assert await simulate(EmbeddedRedis().client(), hosts=60, slots=3, seed=1)
