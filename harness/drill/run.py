"""Runs a queue, injects one fault after the other, and notes which alerts of a real Prometheus fire."""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import msgspec

from .faults import Fault
from .stage import Stage, staged

POLL_S: Final = 0.5
START_S: Final = 30.0
FIRES_WITHIN_S: Final = 60.0
QUIET_WITHIN_S: Final = 120.0
REPEAT_EACH_S: Final = 1.0


class Outcome(msgspec.Struct, frozen=True):
    """What fired for one fault."""

    fault: Fault
    fired: frozenset[str]
    fired_after_s: float
    quiet_after_s: float
    """From the end of the fault."""

    @property
    def problems(self) -> list[str]:
        missing = sorted(self.fault.alerts - self.fired)
        unexplained = sorted(self.fired - self.fault.alerts - self.fault.beside.keys())
        return [f"{name} did not fire" for name in missing] + [f"{name} fired" for name in unexplained]


async def drill(
    faults: Sequence[Fault], report: Callable[[Outcome], None], *, shorter_by: float, at_most_s: float
) -> list[Outcome]:
    """Runs the faults in turn; `report` is called after each. Raises `RuntimeError` if a part does not start."""
    with tempfile.TemporaryDirectory(prefix="fetchq-drill-") as folder:
        async with staged(Path(folder), shorter_by=shorter_by, at_most_s=at_most_s) as stage:
            await _wait_for_work(stage)
            outcomes = []
            for fault in faults:
                outcomes.append(await _run(stage, fault))
                report(outcomes[-1])
            return outcomes


async def _wait_for_work(stage: Stage) -> None:
    """Until both workers are seen and no alert is pending: at the start each part is missing for a moment."""
    until = time.monotonic() + START_S
    while (
        await _query(stage, "sum(fetchq_worker_ready) == 2 and on () max(fetchq_demand) >= 0 unless on () ALERTS") == 0
    ):
        if time.monotonic() > until:
            raise RuntimeError(f"the queue is not at work: {stage.prometheus.targets_down()}")
        await asyncio.sleep(POLL_S)


async def _query(stage: Stage, promql: str) -> int:
    return len(await asyncio.to_thread(stage.prometheus.query, promql))


async def _run(stage: Stage, fault: Fault) -> Outcome:
    began, fired = time.monotonic(), set[str]()
    repeating = asyncio.create_task(_repeat(stage, fault)) if fault.repeats else None
    if repeating is None:
        await fault.inject(stage)
    while not fault.alerts <= fired and time.monotonic() - began < FIRES_WITHIN_S:
        await asyncio.sleep(POLL_S)
        fired |= await asyncio.to_thread(stage.prometheus.firing)
    ended = time.monotonic()
    if repeating is not None:
        repeating.cancel()
        await asyncio.wait([repeating])
    await fault.recover(stage)
    firing = fired
    while firing and time.monotonic() - ended < QUIET_WITHIN_S:
        await asyncio.sleep(POLL_S)
        firing = await asyncio.to_thread(stage.prometheus.firing)
        fired |= firing
    return Outcome(fault, frozenset(fired), ended - began, time.monotonic() - ended)


async def _repeat(stage: Stage, fault: Fault) -> None:
    while True:
        await fault.inject(stage)
        await asyncio.sleep(REPEAT_EACH_S)
