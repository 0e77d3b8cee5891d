"""Latency: until a job starts, and until the producer has its result; when idle and at half load."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any, Final

from bench.report.results import percentile
from bench.testbed import adapter_process as talk
from bench.testbed.environments import ensure, python_of
from bench.testbed.failure import BenchFailure
from bench.testbed.peers import BARE, Peer
from bench.testbed.processes import run
from bench.testbed.site import BODIES
from bench.testbed.stage import Stage

from .drain import FETCH_2K, drain
from .measure import Measure
from .throughput import WARM_UP_JOBS

PROBE_S: Final = 1.5
SLOW_PROBE_S: Final = 4.0
"""Duration for a peer that polls so rarely that the time above would allow only two or three probes."""
PROBES: Final = 400
SETTLE_S: Final = 0.5
"""How long the load runs before the first probe."""


class Latency(Measure):
    """One probe at a time. At half load, another producer sends 2 KB fetches at half of the peer's throughput."""

    name = "latency"
    figures = (
        "idle_pick_up_p50",
        "idle_pick_up_p99",
        "idle_fetch_p50",
        "idle_fetch_p99",
        "half_pick_up_p50",
        "half_pick_up_p99",
        "half_fetch_p50",
        "half_fetch_p99",
    )

    def covers(self, peer: Peer) -> bool:
        return peer.is_queue or peer.name == BARE

    def figures_of(self, peer: Peer) -> tuple[str, ...]:
        return ("idle_fetch_p50", "idle_fetch_p99") if peer.name == BARE else self.figures

    async def warm_up(self, stage: Stage, peer: Peer) -> None:
        if peer.name == BARE:
            await ensure(BARE, stage.folder)
        elif (peer.name, "fetch_2k") not in stage.capacity:
            stage.capacity[peer.name, "fetch_2k"] = (await drain(stage, peer, FETCH_2K, WARM_UP_JOBS)).rate

    async def take(self, stage: Stage, peer: Peer) -> dict[str, float]:
        if peer.name == BARE:
            return _percentiles("idle_fetch", await _bare_latencies_ms(stage))
        await stage.clean_producer(peer)
        async with talk.worker(peer, stage.settings(peer), stage.folder) as worker:
            await _probe(stage, peer, "stamp", limit=3, patience_s=30.0)  # until the worker is up and warm
            idle = await _probe_both(stage, peer, "idle")
            if not stage.options.half_load:
                return idle
            rate = stage.capacity[peer.name, "fetch_2k"] / 2
            opened = talk.producer(peer, stage.settings(peer), stage.folder, role="load")
            async with opened as loader:
                load = asyncio.create_task(_load(stage, peer, loader, rate))
                try:
                    await asyncio.sleep(SETTLE_S)
                    half = await _probe_both(stage, peer, "half")
                    loaded = await load
                finally:
                    load.cancel()
            worker.check()
        sent_per_s = loaded["sent"] / loaded["elapsed_s"]
        if sent_per_s < rate * 0.8:
            raise BenchFailure(f"its producer reached only {sent_per_s:,.0f}/s of the half load of {rate:,.0f}/s")
        return idle | half


def _duration_s(peer: Peer) -> float:
    return PROBE_S if peer.poll_s < 0.1 else SLOW_PROBE_S


async def _load(stage: Stage, peer: Peer, loader: talk.Producer, rate_per_s: float) -> dict[str, Any]:
    duration_s = SETTLE_S + 2 * _duration_s(peer)
    args = [stage.site.url("2k")]
    return await loader.ask("load", job="fetch", args=args, rate_per_s=rate_per_s, duration_s=duration_s)


async def _probe_both(stage: Stage, peer: Peer, when: str) -> dict[str, float]:
    stamps = await _probe(stage, peer, "stamp")
    fetches = await _probe(stage, peer, "fetch")
    sample = _percentiles(f"{when}_pick_up", stamps["pick_ups_ms"])
    return sample | _percentiles(f"{when}_fetch", fetches["round_trips_ms"])


async def _probe(
    stage: Stage, peer: Peer, job: str, *, limit: int = PROBES, patience_s: float = 10.0
) -> dict[str, Any]:
    args = [stage.site.url("2k")] if job == "fetch" else []
    producer = await stage.producer(peer)
    return await producer.ask(
        "probe",
        job=job,
        args=args,
        duration_s=_duration_s(peer),
        gap_s=peer.poll_s,
        limit=limit,
        body_bytes=BODIES["2k"],
        patience_s=patience_s,
    )


def _percentiles(name: str, values_ms: list[float]) -> dict[str, float]:
    if not values_ms:
        raise BenchFailure("not one probe came back in time")
    return {f"{name}_p50": percentile(values_ms, 50), f"{name}_p99": percentile(values_ms, 99)}


async def _bare_latencies_ms(stage: Stage) -> list[float]:
    command: list[str | Path] = [python_of(BARE), "-m", "bench.adapters.bare_peer"]
    command += ["single", stage.site.url("2k"), "200"]
    answer = json.loads(await run(BARE, command, stage.folder, timeout_s=60.0, env={}))
    latencies_ms: list[float] = answer["latencies_ms"]
    return latencies_ms
