"""The runs of `make chaos`: each fault alone, then all of them mixed."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

import msgspec

import fetchq

from . import faults
from .faults import Fault


class Durability(StrEnum):
    """How much of what Redis has acknowledged it still knows after the fault."""

    ALWAYS = "always"
    EVERYSEC = "everysec"
    SENTINEL = "sentinel"
    """A replica that follows, asynchronously."""


GOALS_S: Final[dict[Fault, float]] = {faults.kill_worker: 5.0, faults.restart_redis: 10.0, faults.fail_over: 10.0}
"""Within which 90 % of the throughput is to be back after a worker's death, and after Redis's return."""


class Scenario(msgspec.Struct, frozen=True):
    """One run. `faults` are drawn by lot, or, where there is but one, it is repeated."""

    name: str
    faults: tuple[Fault, ...]
    durability: Durability = Durability.ALWAYS
    strikes: int | None = 2
    """How often; None for as long as the producers are at work."""
    asked: fetchq.Durability = fetchq.Durability.MEMORY
    """What the producers ask for before they take a job for acknowledged."""

    @property
    def rolls_back(self) -> bool:
        """Whether Redis itself may forget what it did last."""
        return self.durability is not Durability.ALWAYS

    @property
    def may_lose(self) -> bool:
        """Whether acknowledged jobs may be among that: the loss is counted, and breaks no promise of ours."""
        return self.rolls_back and self.asked is fetchq.Durability.MEMORY

    @property
    def goal_s(self) -> float | None:
        """Within which the throughput is to be back after each strike; None where nothing is said of it."""
        return None if self.strikes is None else GOALS_S.get(self.faults[0])


def _alone(fault: Fault) -> Scenario:
    return Scenario(fault.__name__, (fault,))


MIXED: Final = Scenario(
    "mixed",
    (*faults.WORKER_FAULTS, *faults.NETWORK_FAULTS, *faults.REDIS_FAULTS, faults.kill_producer),
    strikes=None,
)
EVERYSEC: Final = Scenario("power_cut_everysec", (faults.restart_redis,), Durability.EVERYSEC)
FAILOVER: Final = Scenario("fail_over", (faults.fail_over,), Durability.SENTINEL, strikes=1)
FAILOVER_REPLICATED: Final = Scenario(
    "fail_over_replicated", (faults.fail_over,), Durability.SENTINEL, strikes=1, asked=fetchq.Durability.REPLICATED
)
ALONE: Final = (
    *(_alone(fault) for fault in (*faults.WORKER_FAULTS, *faults.NETWORK_FAULTS, *faults.REDIS_FAULTS)),
    _alone(faults.kill_producer),
    EVERYSEC,
    FAILOVER,
    FAILOVER_REPLICATED,
)
