"""`python -m bench.frontier_sim`: the schedule of hosts under a simulated clock, with up to a million hosts.

The scripts are the real ones on a private Redis; only their clock is simulated. The sizes of hosts are heavy-tailed
(most have one job, few have thousands), all with the same limit of one at a time and one a second. A fleet with a fixed
number of slots fetches from them, and all fetches take equally long. So the best possible schedule is known:

    min(slots * time / fetch time, sum over hosts of min(its jobs, starts that its rate permits))

Each start is checked against the host's limits, and that a host's jobs start in their order of arrival. Each sample
checks that no host with remaining jobs is ahead of another by more than `MOST_AHEAD` starts while slots are short.
Exits with status 1 if a check fails, or if the throughput is under `LEAST_SHARE` of the best possible.
"""

from __future__ import annotations

import argparse
import asyncio
import heapq
import random
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import msgspec
from redis.asyncio import Redis

from bench.testbed.failure import BenchFailure, Unavailable
from bench.testbed.processes import stop_on_signals
from bench.testbed.redis_server import redis_server
from fetchq.store.commands import AdmitJob, CommitGroup, JobCommands, NewJob
from fetchq.store.keys import Keys
from fetchq.store.runner import PackedRunner
from fetchq_worker.process.embedded import EmbeddedRedis

T0_MS: Final = 1_800_000_000_000
FETCH_MS: Final = 200
INTERVAL_MS: Final = 1_000
PACE: Final = 1.03
TOLERANCE_MS: Final = 21
HOSTS_A_SLOT: Final = 100
TAIL: Final = 1.5
"""The exponent of the Pareto distribution of sizes: the mean is 2.6 jobs."""
BATCH: Final = 1_000
CLAIM: Final = 500
LEASE_MS: Final = 10_000_000
MAX_BYTES: Final = 1 << 24
LIFE_MS: Final = 86_400_000
TICK_MS: Final = 20
MOST_AHEAD: Final = 2
LEAST_SHARE: Final = 0.9
LOOKS: Final = 12


class Fleet:
    """The state of all hosts and slots."""

    def __init__(self, sizes: list[int], slots: int) -> None:
        self.sizes = sizes
        self.slots = slots
        self.started = [0] * len(sizes)
        self.started_at_ms = [-(10**9)] * len(sizes)
        self.running = bytearray(len(sizes))
        self.ends: list[tuple[int, str, str]] = []
        """For each run: its end, id and token."""
        self.done = 0
        self.broken: list[str] = []

    @property
    def total(self) -> int:
        return sum(self.sizes)

    def start(self, job_id: str, token: str, now_ms: int) -> None:
        """Records a start, and checks it against the rules."""
        host, number = (int(part, 16) for part in job_id.split("."))
        if self.running[host]:
            self.broken.append(f"{job_id} started while another of its host ran")
        elif now_ms - self.started_at_ms[host] < INTERVAL_MS * PACE - TOLERANCE_MS:
            self.broken.append(f"{job_id} started {now_ms - self.started_at_ms[host]} ms after the one before")
        elif number != self.started[host]:
            self.broken.append(f"{job_id} started out of turn: {self.started[host]} is next")
        self.running[host] = 1
        self.started[host] += 1
        self.started_at_ms[host] = now_ms
        heapq.heappush(self.ends, (now_ms + FETCH_MS, job_id, token))

    def ended(self, now_ms: int) -> list[tuple[str, str]]:
        """Removes the runs that have ended by now."""
        over = []
        while self.ends and self.ends[0][0] <= now_ms:
            _, job_id, token = heapq.heappop(self.ends)
            self.running[int(job_id.split(".")[0], 16)] = 0
            over.append((job_id, token))
        self.done += len(over)
        return over

    def best(self, elapsed_ms: int) -> int:
        """How many jobs any schedule could have finished by now."""
        if elapsed_ms < FETCH_MS:
            return 0
        starts = 1 + int((elapsed_ms - FETCH_MS) / INTERVAL_MS)
        return min(self.slots * (elapsed_ms // FETCH_MS), sum(min(size, starts) for size in self.sizes))

    def ahead(self) -> int:
        """By how many starts the first of the hosts with remaining jobs is ahead of the last."""
        counts = {started for started, size in zip(self.started, self.sizes, strict=True) if started < size}
        return max(counts) - min(counts) if counts else 0


class Simulation:
    """Calls the scripts as a fleet of workers does."""

    def __init__(self, redis: Redis, fleet: Fleet) -> None:
        self._runner = PackedRunner(redis, timeout_s=60)
        self._commands = JobCommands(Keys())
        self._fleet = fleet
        self._calls = 0
        self.now_ms = T0_MS
        self.calls_s = 0.0
        """Elapsed seconds of claim, admission and commit."""

    async def fill(self) -> None:
        """Enqueues all jobs, in an order in which large hosts delay only themselves."""
        batch: list[NewJob] = []
        for job_id in _ids(self._fleet.sizes):
            batch.append(NewJob(job_id, b"payload", "", _host_of(job_id), ""))
            if len(batch) == BATCH:
                await self._add(batch)
                batch = []
        if batch:
            await self._add(batch)

    async def _add(self, batch: list[NewJob]) -> None:
        await self._commands.enqueue(self._runner, batch, now_ms=self.now_ms)

    async def run_until(self, until_ms: int) -> None:
        """Moves the clock from one event to the next."""
        fleet = self._fleet
        while self.now_ms < until_ms and fleet.done < fleet.total:
            over = fleet.ended(self.now_ms)
            for start in range(0, len(over), CLAIM):
                await self._timed(self._commit(over[start : start + CLAIM]))
            wait_ms = await self._timed(self._claim_all())
            next_end_ms = fleet.ends[0][0] if fleet.ends else until_ms
            turn_ms = self.now_ms + wait_ms if wait_ms >= 0 and len(fleet.ends) < fleet.slots else until_ms
            self.now_ms = min(until_ms, max(self.now_ms + TICK_MS, min(next_end_ms, turn_ms)))

    async def _timed(self, call: Any) -> Any:
        began = time.perf_counter()
        answer = await call
        self.calls_s += time.perf_counter() - began
        return answer

    async def _claim_all(self) -> int:
        """Fills the free slots. Returns the ms until the next job is due; -1 for none."""
        fleet = self._fleet
        while (free := fleet.slots - len(fleet.ends)) > 0:
            self._calls += 1
            token = f"s.{self._calls:x}"
            claim = await self._commands.claim(
                self._runner,
                token=token,
                lease_ms=LEASE_MS,
                count=min(CLAIM, free),
                max_bytes=MAX_BYTES,
                default_payload_ttl_ms=LIFE_MS,
                check_aborts=False,
                now_ms=self.now_ms,
            )
            if not claim.ids:
                if claim.wait_ms == 0:
                    continue  # as a worker does: a claim processes a bounded number of due hosts, and more are due
                return -1 if claim.wait_ms is None else claim.wait_ms
            ids = [job_id.decode() for job_id in claim.ids]
            jobs = (AdmitJob(job_id, token, _host_of(job_id), "", "") for job_id in ids)
            admission = await self._commands.admit(self._runner, jobs, now_ms=self.now_ms)
            refused = {job_id.decode() for job_id in admission.refused}
            for job_id in ids:
                if job_id not in refused:
                    fleet.start(job_id, token, self.now_ms)
            waits = [ms for ms in (claim.wait_ms, admission.next_due_ms) if ms is not None and ms >= 0]
            next_ms = min(waits, default=-1)
            if not claim.more and next_ms != 0:
                return next_ms
        return -1

    async def _commit(self, over: list[tuple[str, str]]) -> None:
        groups = (
            CommitGroup(token, "finish", 0, None, "+OK", b"", "fetch:OK", (job_id, b"")) for job_id, token in over
        )
        reply = await self._commands.commit(
            self._runner, groups, dead_letter_ttl_ms=0, max_dead_letters=0, now_ms=self.now_ms
        )
        if reply.lost:
            raise BenchFailure(f"{len(reply.lost)} commits found no lease, {reply.lost[0]!r} first")


class Look(msgspec.Struct, frozen=True):
    """One line of the output."""

    elapsed_ms: int
    done: int
    best: int
    ahead: int

    def __str__(self) -> str:
        return (
            f"{self.elapsed_ms / 1000:8.1f} s {self.done:10,} done {self.best:10,} at best "
            f"{self.done / self.best:6.1%} {self.ahead:6} ahead"
        )


def _host_of(job_id: str) -> str:
    return f"h{job_id.split('.', maxsplit=1)[0]}.example"


def _ids(sizes: list[int]) -> Iterator[str]:
    """Every host's first job, then every host's second, and so on: as if all had been found at once."""
    left = list(range(len(sizes)))
    number = 0
    while left:
        for host in left:
            yield f"{host:x}.{number:05x}"  # jobs of the same ms are sorted by id
        number += 1
        left = [host for host in left if sizes[host] > number]


async def simulate(redis: Redis, hosts: int, slots: int, seed: int) -> bool:
    """Prints the results. Returns whether all checks passed."""
    draw = random.Random(seed)
    fleet = Fleet([min(int(draw.paretovariate(TAIL)), 100_000) for _ in range(hosts)], slots)
    keys = Keys()
    pipe = redis.pipeline(transaction=False)
    pipe.execute_command("HSET", keys.limits, "*", f"c=1 r={INTERVAL_MS * 1000}")
    await pipe.execute()
    simulation = Simulation(redis, fleet)
    began = time.monotonic()
    await simulation.fill()
    print(
        f"{fleet.total:,} jobs of {hosts:,} hosts, the largest of {max(fleet.sizes):,}; {slots:,} slots; "
        f"enqueued in {time.monotonic() - began:.0f} s"
    )
    # Until the slots could have finished all jobs; the rest are jobs of large hosts, at their own rates.
    horizon_ms = int(1.2 * fleet.total / slots * FETCH_MS) + INTERVAL_MS
    looks = []
    for number in range(1, LOOKS + 1):
        await simulation.run_until(T0_MS + horizon_ms * number // LOOKS)
        elapsed_ms = simulation.now_ms - T0_MS
        looks.append(Look(elapsed_ms, fleet.done, fleet.best(elapsed_ms), fleet.ahead()))
        print(looks[-1], flush=True)
        if fleet.done == fleet.total:
            break
    for broken in fleet.broken[:10]:
        print(broken)
    saturated = [look for look in looks if look.best == slots * (look.elapsed_ms // FETCH_MS)]
    most_ahead = max((look.ahead for look in saturated), default=0)
    # In between, when the slots suffice, fairness costs throughput, since the largest host was not served first.
    worst = min(look.done / look.best for look in (*saturated, looks[-1]))
    print(
        f"limits and order: {len(fleet.broken)} faults in {sum(fleet.started):,} starts; hosts ahead of others while "
        f"slots were short: {most_ahead} starts (at most {MOST_AHEAD}); throughput "
        f"{looks[-1].done / looks[-1].best:.1%} of the best possible, {worst:.1%} at the worst look while slots were "
        f"short (at least {LEAST_SHARE:.0%}); {simulation.calls_s / fleet.done * 1e6:.0f} us a job for claim, "
        "admission, commit"
    )
    return not fleet.broken and most_ahead <= MOST_AHEAD and worst >= LEAST_SHARE


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m bench.frontier_sim", description="The frontier's schedule, under a simulated clock."
    )
    parser.add_argument("--hosts", type=int, default=20_000, help="20,000 take half a minute")
    parser.add_argument("--slots", type=int, help=f"of the whole fleet; by default one for {HOSTS_A_SLOT} hosts")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--embedded", action="store_true", help="the embedded Redis: slow, and nothing to install")
    given = parser.parse_args()
    slots = given.slots or max(1, given.hosts // HOSTS_A_SLOT)
    try:
        return 0 if asyncio.run(_run(given.hosts, slots, given.seed, embedded=given.embedded)) else 1
    except (KeyboardInterrupt, asyncio.CancelledError):
        print("stopped", file=sys.stderr)
        return 130
    except (BenchFailure, Unavailable) as problem:
        print(f"bench.frontier_sim: {problem}", file=sys.stderr)
        return 1


async def _run(hosts: int, slots: int, seed: int, *, embedded: bool) -> bool:
    stop_on_signals()
    if embedded:
        return await simulate(EmbeddedRedis().client(), hosts, slots, seed)
    with tempfile.TemporaryDirectory(prefix="fetchq-frontier-sim-") as name:
        async with redis_server(Path(name)) as server:
            return await simulate(server.client, hosts, slots, seed)


if __name__ == "__main__":
    sys.exit(main())
