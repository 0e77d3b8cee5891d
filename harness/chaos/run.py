"""One chaos run: processes under load, faults, drain, verdict."""

from __future__ import annotations

import asyncio
import random
import shutil
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Final

from harness.chaos.fleet.processes import Fleet, Producers, read_acknowledged
from harness.chaos.fleet.producing import Plan
from harness.chaos.fleet.site import HOST, CountingSite
from harness.chaos.judge.history import History, read_append_only_file
from harness.chaos.judge.verdict import judge, read_runs, recovery_s
from harness.servers.durable_redis import DurableRedis
from harness.servers.proxy import Proxy
from harness.servers.sentinel import SentinelCluster
from redis.asyncio import Redis

from fetchq import Producer
from fetchq.store.connection import connect
from fetchq.store.keys import Keys

from .faults import MET, Arena, Fault
from .outcome import Injection, Outcome
from .scenarios import Durability, Scenario

WORKERS: Final = 3
CONCURRENCY: Final = 40
HOST_LIMIT: Final = WORKERS * CONCURRENCY // 4
"""Concurrency limit of the one host, for all workers: low enough that a burst after a fault reaches it."""
PRODUCERS: Final = 2
MAX_QUEUED: Final = 3000
MAX_WAIT_S: Final = 0.2
WARM_UP_S: Final = 3.5
"""The last three seconds before the first fault are the reference for the throughput."""
AFTER_LAST_FAULT_S: Final = 5.0
DRAIN_S: Final = 90.0
START_S: Final = 30.0


async def run(scenario: Scenario, *, seed: str, jobs: int, fault_every_s: float, lease_s: float = 2.0) -> Outcome:
    """Runs a scenario with at most `jobs` jobs. A single fault's run ends a few seconds after its last injection."""
    began = time.monotonic()
    rng = random.Random(f"{seed}/{scenario.name}")
    folder = Path(tempfile.mkdtemp(prefix="fetchq-chaos-"))
    injections: list[Injection] = []
    async with _arena(scenario, folder, rng, jobs=jobs, lease_s=lease_s) as (arena, site):
        await _wait_under_load(arena)
        noting = asyncio.create_task(_note_sizes(arena))
        await asyncio.sleep(WARM_UP_S)
        await _inject(scenario, arena, injections, fault_every_s)
        failures = await _drain(arena)
        noting.cancel()
        await asyncio.gather(noting, return_exceptions=True)
        await arena.fleet.stop()
        failures += arena.fleet.failures + arena.producers.failures()
        acknowledged = [job for path in folder.glob("*.acknowledged") for job in read_acknowledged(path)]
        acknowledged += arena.acknowledged
        history = History(Keys()).read(read_append_only_file(arena.redis.history_folder))
        async with connect(arena.redis.url) as redis:
            verdict = await judge(
                redis,
                acknowledged,
                history,
                read_runs(folder),
                site,
                lease_s=lease_s,
                rolled_back=scenario.rolls_back,
            )
    outcome = Outcome(
        scenario=scenario,
        seed=seed,
        verdict=verdict,
        injections=injections,
        reasons=dict(history.reasons),
        failures=failures,
        recoveries_s=[
            recovery_s(verdict.finished_at_ms, injection.began_ms, injection.over_ms) for injection in injections
        ],
        took_s=time.monotonic() - began,
        folder=folder,
    )
    if not outcome.broken:
        shutil.rmtree(folder)
        outcome.folder = None
    return outcome


@asynccontextmanager
async def _arena(
    scenario: Scenario, folder: Path, rng: random.Random, *, jobs: int, lease_s: float
) -> AsyncIterator[tuple[Arena, CountingSite]]:
    async with AsyncExitStack() as stack:
        redis, cluster = await _start_redis(scenario, stack)
        site = await stack.enter_async_context(CountingSite(wait_s=0.02, limit=HOST_LIMIT))
        proxy = await stack.enter_async_context(Proxy(redis.port))
        url = cluster.url if cluster else redis.tcp_url
        fleet = Fleet(
            cluster.url if cluster else proxy.url,
            folder,
            size=WORKERS,
            concurrency=CONCURRENCY,
            lease_s=lease_s,
            rng=random.Random(rng.random()),
        )
        plan = Plan(
            redis_url=url,
            site_url=site.url,
            acknowledged="",
            first=0,
            count=jobs,
            seed=0,
            max_wait_s=MAX_WAIT_S,
            max_queued=MAX_QUEUED,
            durability=scenario.asked,
        )
        producers = Producers(plan, folder, size=PRODUCERS, rng=random.Random(rng.random()))
        producer = await stack.enter_async_context(Producer.from_url(url))
        await producer.limits.set(HOST, concurrency=HOST_LIMIT)
        admin: Redis = await stack.enter_async_context(connect(redis.url))
        stack.push_async_callback(fleet.stop)
        stack.push_async_callback(producers.stop)
        await fleet.start()
        await producers.start()
        yield (
            Arena(
                redis=redis,
                admin=admin,
                proxy=proxy,
                fleet=fleet,
                producers=producers,
                producer=producer,
                rng=rng,
                lease_s=lease_s,
                cluster=cluster,
            ),
            site,
        )


async def _start_redis(scenario: Scenario, stack: AsyncExitStack) -> tuple[DurableRedis, SentinelCluster | None]:
    if scenario.durability is not Durability.SENTINEL:
        redis = DurableRedis(scenario.durability)
        stack.callback(redis.remove)
        return redis, None
    cluster = SentinelCluster()
    stack.callback(cluster.remove)
    await cluster.wait_replicating()
    return cluster.master, cluster


async def _wait_under_load(arena: Arena) -> None:
    async with asyncio.timeout(START_S):
        while await arena.admin.zcard(Keys().workers) < WORKERS or await arena.admin.zcard(Keys().lease_ends) == 0:
            await asyncio.sleep(0.05)


async def _note_sizes(arena: Arena) -> None:
    while True:
        arena.redis.note_size()
        await asyncio.sleep(0.03)


async def _inject(scenario: Scenario, arena: Arena, injections: list[Injection], fault_every_s: float) -> None:
    """Injects faults. Those of a mixed run may overlap."""
    under_way: set[asyncio.Task[None]] = set()
    done = asyncio.create_task(arena.producers.wait())
    count = 0
    while not done.done() and (scenario.injections is None or count < scenario.injections):
        fault = arena.rng.choice(scenario.faults)
        count += 1
        task = asyncio.create_task(_inject_once(arena, fault, injections))
        under_way.add(task)
        task.add_done_callback(under_way.discard)
        if scenario.injections is None:
            await asyncio.wait({done}, timeout=fault_every_s)
        else:
            await task
            await asyncio.wait({done}, timeout=AFTER_LAST_FAULT_S)
    await asyncio.gather(*under_way)
    await arena.producers.stop()
    await done


async def _inject_once(arena: Arena, fault: Fault, injections: list[Injection]) -> None:
    began_ms = time.time_ns() // 1_000_000
    try:
        await fault(arena)
    except MET:
        pass  # another fault is active: this one was not injected, or only in part
    else:
        injections.append(Injection(fault.__name__, began_ms, time.time_ns() // 1_000_000, arena.redis.kept_until_ms))


async def _drain(arena: Arena) -> list[str]:
    """Waits until the queue is empty, in bounded time."""
    until = time.monotonic() + DRAIN_S
    left = -1
    while time.monotonic() < until:
        try:
            async with connect(arena.redis.url) as redis:
                left = await redis.zcard(Keys().pending)
            if left == 0:
                return []
        except MET:
            pass  # it is starting
        await asyncio.sleep(0.1)
    return [f"{left} jobs were still queued {DRAIN_S:g} s after the last fault"]
