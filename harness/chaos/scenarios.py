"""The runs of `make chaos`: each fault alone, then all of them mixed."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

import msgspec

import fetchq

from . import faults
from .faults import Fault


class Durability(StrEnum):
    """How many acknowledged changes Redis still has after the fault."""

    ALWAYS = "always"
    EVERYSEC = "everysec"
    SENTINEL = "sentinel"
    """A replica with asynchronous replication."""


GOALS_S: Final[dict[Fault, float]] = {faults.kill_worker: 5.0, faults.restart_redis: 10.0, faults.fail_over: 10.0}
"""Goals in seconds for the return of 90 % of the throughput, after a worker's death and after an outage of Redis."""


class Scenario(msgspec.Struct, frozen=True):
    """One run. `faults` are chosen at random; a single one is repeated."""

    name: str
    faults: tuple[Fault, ...]
    durability: Durability = Durability.ALWAYS
    injections: int | None = 2
    """The number of injections; None: until the producers have finished."""
    asked: fetchq.Durability = fetchq.Durability.MEMORY
    """The durability that the producers require."""

    @property
    def rolls_back(self) -> bool:
        """Whether Redis may lose its latest changes."""
        return self.durability is not Durability.ALWAYS

    @property
    def may_lose(self) -> bool:
        """Whether acknowledged jobs may be lost with them: the loss is counted, and breaks no guarantee of fetchq."""
        return self.rolls_back and self.asked is fetchq.Durability.MEMORY

    @property
    def goal_s(self) -> float | None:
        """The goal in seconds for the return of the throughput after each injection; None: no goal."""
        return None if self.injections is None else GOALS_S.get(self.faults[0])


def _alone(fault: Fault) -> Scenario:
    return Scenario(fault.__name__, (fault,))


MIXED: Final = Scenario(
    "mixed",
    (*faults.WORKER_FAULTS, *faults.NETWORK_FAULTS, *faults.REDIS_FAULTS, faults.kill_producer),
    injections=None,
)
EVERYSEC: Final = Scenario("power_cut_everysec", (faults.restart_redis,), Durability.EVERYSEC)
FAILOVER: Final = Scenario("fail_over", (faults.fail_over,), Durability.SENTINEL, injections=1)
FAILOVER_REPLICATED: Final = Scenario(
    "fail_over_replicated", (faults.fail_over,), Durability.SENTINEL, injections=1, asked=fetchq.Durability.REPLICATED
)
ALONE: Final = (
    *(_alone(fault) for fault in (*faults.WORKER_FAULTS, *faults.NETWORK_FAULTS, *faults.REDIS_FAULTS)),
    _alone(faults.kill_producer),
    EVERYSEC,
    FAILOVER,
    FAILOVER_REPLICATED,
)
