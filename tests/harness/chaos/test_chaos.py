"""The short form of `make chaos`: all faults mixed, a power cut and a failover, under load. SEED repeats a run."""

from __future__ import annotations

import os
import secrets

import pytest
from harness.chaos.run import run
from harness.chaos.scenarios import EVERYSEC, FAILOVER, FAILOVER_REPLICATED, MIXED, Scenario

pytestmark = [pytest.mark.asyncio, pytest.mark.slow]


@pytest.mark.parametrize(
    "scenario", [MIXED, EVERYSEC, FAILOVER, FAILOVER_REPLICATED], ids=lambda scenario: scenario.name
)
async def test_no_acknowledged_job_is_lost_or_finished_twice_under_faults(scenario: Scenario) -> None:
    seed = os.environ.get("SEED") or secrets.token_hex(4)
    outcome = await run(scenario, seed=seed, jobs=12_000 if scenario is MIXED else 5_000, fault_every_s=1.0)
    assert outcome.broken == [], f"make chaos ONLY={scenario.name} SEED={seed}; logs in {outcome.folder}"
    assert outcome.injections
    assert outcome.verdict.finished > 1_000
