"""`make profile`: the CPU time of one fetch job, by part.

A worker drains a queue of 2 KB fetches while py-spy samples its stacks, C extensions included, and the CPU time of the
worker and of Redis is read from the system. A sample belongs to the innermost frame whose owner is known: a socket
write belongs to its caller, and the event loop has only what no owner called.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import re
import sys
import tempfile
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import msgspec

from bench.adapters.settings import Settings
from bench.report import page
from bench.report.machine import this_machine
from bench.report.results import Machine
from bench.testbed.environments import ENVIRONMENTS, ensure
from bench.testbed.failure import BenchFailure
from bench.testbed.peers import FETCHQ, QUEUES
from bench.testbed.processes import Child, stop_on_signals
from bench.testbed.redis_server import redis_server
from bench.testbed.site import nginx_site

from .testbed import adapter_process as talk

OWNERS: Final[tuple[tuple[str, str], ...]] = (
    ("garbage collection, of all parts", r"^gc_collect"),
    ("client: HTTP and its connections", r"(fetchq_worker/fetch/(http|transport)|aiohappyeyeballs|aiodns|pycares)"),
    ("client: the fetch coroutine and its guard", r"fetchq_worker/(fetch|politeness|process)"),
    ("decode and encode: the contract, msgspec, ada", r"(fetchq/contract|msgspec|ada_url)"),
    ("Redis client: redis-py and hiredis", r"(/redis/|redis/asyncio|hiredis)"),
    ("engine: claim, lease, commit, run", r"(fetchq_worker/engine|arq/)"),
)
"""The owner of a frame, by its file; the first match counts."""

LOOP: Final = "event loop: uvloop, reading sockets, waking"

RATE_HZ: Final = 200
FIRST_JOB_S: Final = 30.0
MOST_JOBS_PER_S: Final = 12_000
"""More jobs than one process can finish while it is sampled."""

_LOOP_FRAME: Final = ";uv_run "
"""Frames below this one in the stack only started the loop."""

_OWNERS: Final = tuple((name, re.compile(pattern)) for name, pattern in OWNERS)


class Spent(msgspec.Struct, frozen=True):
    """The costs of the jobs while they were sampled."""

    jobs: int
    elapsed_s: float
    cpu_s: float
    redis_s: float


class Share(msgspec.Struct, frozen=True):
    name: str
    us_per_job: float


class Profile(msgspec.Struct, frozen=True, kw_only=True):
    """One profile. Times are CPU microseconds per job."""

    taken_at: str
    machine: Machine
    jobs: int
    jobs_per_s: float
    samples: int
    worker_us: float
    redis_us: float
    owners: list[Share]
    hottest: list[Share]
    """The frames in which most samples ended."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="make profile", description="Where the microseconds of one fetch job go.")
    parser.add_argument("--seconds", type=float, default=8.0, help="how long to sample")
    parser.add_argument("--out", type=Path, help="folder for profile.json; by default the page is written too")
    given = parser.parse_args()
    try:
        profile = asyncio.run(_profile(given.seconds))
        _write(profile, given.out)
    except (KeyboardInterrupt, asyncio.CancelledError):
        print("stopped; nothing was written", file=sys.stderr)
        return 130
    except BenchFailure as problem:
        print(f"profile: {problem}", file=sys.stderr)
        return 1
    return 0


async def _profile(seconds: float) -> Profile:
    stop_on_signals()
    peer = next(queue for queue in QUEUES if queue.name == FETCHQ)
    machine = this_machine()
    with tempfile.TemporaryDirectory(prefix="fetchq-profile-") as name:
        folder = Path(name)
        await ensure("profile", folder)
        async with redis_server(folder) as server, nginx_site(folder) as site:
            settings = Settings(redis_port=server.port)
            count = int((seconds + 2) * MOST_JOBS_PER_S)
            async with talk.producer(peer, settings, folder) as producer:
                args = [site.url("2k")]
                await producer.ask("enqueue_many", job="fetch", args=args, count=count, timeout_s=120.0)
                backlog = await talk.Backlog.of(server, producer.hello, count)
            async with talk.worker(peer, settings, folder) as worker:
                await _wait_first(backlog, worker)
                stacks = folder / "stacks"
                pid = worker.process.pid
                jobs, cpu_s, redis_s = await backlog.finished(), _cpu_s(pid), (await server.usage()).cpu_s
                started = asyncio.get_running_loop().time()
                await _sample(pid, seconds, stacks, folder)
                elapsed_s = asyncio.get_running_loop().time() - started
                jobs = await backlog.finished() - jobs
                cpu_s, redis_s = _cpu_s(pid) - cpu_s, (await server.usage()).cpu_s - redis_s
                worker.check()
            if jobs <= 0:
                raise BenchFailure("no job finished while it was sampled")
            return _made(Spent(jobs, elapsed_s, cpu_s, redis_s), machine, stacks.read_text())


async def _wait_first(backlog: talk.Backlog, worker: Child) -> None:
    async with asyncio.timeout(FIRST_JOB_S):
        while not await backlog.finished():
            worker.check()
            await asyncio.sleep(0.02)  # Redis tells a watcher of a sorted set's size only when asked


async def _sample(pid: int, seconds: float, stacks: Path, folder: Path) -> None:
    spy = ENVIRONMENTS / "profile" / "bin" / "py-spy"
    command: list[str | Path] = [spy, "record", "--native", "--pid", str(pid), "--format", "raw", "--output", stacks]
    command += ["--rate", str(RATE_HZ), "--duration", str(max(1, round(seconds)))]
    async with Child("py-spy", command, folder, talks=True) as child:
        await child.communicate(None, seconds + 60.0)


def _cpu_s(pid: int) -> float:
    """User and system time of a process so far (proc(5), fields 14 and 15 of stat)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _made(spent: Spent, machine: Machine, stacks: str) -> Profile:
    owners, leaves = attribute(stacks)
    samples = owners.total()
    if not samples:
        raise BenchFailure("py-spy took no sample")
    us = spent.cpu_s * 1e6 / spent.jobs / samples
    names = [*(name for name, _ in OWNERS), LOOP]
    return Profile(
        taken_at=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        machine=machine,
        jobs=spent.jobs,
        jobs_per_s=round(spent.jobs / spent.elapsed_s, 1),
        samples=samples,
        worker_us=round(spent.cpu_s * 1e6 / spent.jobs, 1),
        redis_us=round(spent.redis_s * 1e6 / spent.jobs, 1),
        owners=[Share(name, round(owners[name] * us, 1)) for name in names],
        hottest=[Share(name, round(count * us, 1)) for name, count in leaves.most_common(15)],
    )


def attribute(stacks: str) -> tuple[Counter[str], Counter[str]]:
    """Samples by owner and by innermost frame, from py-spy's raw lines: `frame;frame;... count`."""
    owners: Counter[str] = Counter()
    leaves: Counter[str] = Counter()
    for line in stacks.splitlines():
        stack, _, count = line.rpartition(" ")
        _, in_loop, inner = stack.partition(_LOOP_FRAME)
        if not in_loop:  # another thread: with --native, py-spy takes one that sleeps in C for a busy one
            continue
        frames = inner.split(";")
        owners[_owner(frames)] += int(count)
        leaves[re.sub(r":\d+\)$", ")", frames[-1])] += int(count)
    return owners, leaves


def _owner(frames: list[str]) -> str:
    for frame in reversed(frames):
        for name, pattern in _OWNERS:
            if pattern.search(frame):
                return name
    return LOOP


def _write(profile: Profile, out: Path | None) -> None:
    table = tabulate(profile)
    print(f"\n{table}")
    folder = out or page.PAGES
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "profile.json").write_bytes(msgspec.json.format(msgspec.json.encode(profile)) + b"\n")
    if out is None:
        page.put("profile", table)


def tabulate(profile: Profile) -> str:
    """As Markdown."""
    machine = profile.machine
    head = (
        f"Taken {profile.taken_at} on {machine.cores} cores of an {machine.processor}: {profile.jobs:,} jobs at "
        f"{profile.jobs_per_s:,.0f}/s while sampled, {profile.samples:,} samples. CPU time of the worker process "
        f"{profile.worker_us:,.0f} us a job; of Redis, in its own process, {profile.redis_us:,.0f} us.\n\n"
    )
    owners = "".join(
        f"| {share.name} | {share.us_per_job:,.1f} | {share.us_per_job / profile.worker_us:.0%} |\n"
        for share in profile.owners
    )
    leaves = "".join(f"| `{share.name.replace('|', '')}` | {share.us_per_job:,.1f} |\n" for share in profile.hottest)
    return (
        f"{head}| part | us a job | of the worker's |\n| --- | ---: | ---: |\n{owners}"
        f"| Redis server, in its own process | {profile.redis_us:,.1f} | |\n\n"
        f"The frames in which most samples ended:\n\n| frame | us a job |\n| --- | ---: |\n{leaves}"
    )


if __name__ == "__main__":
    sys.exit(main())
