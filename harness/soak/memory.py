"""Memory and CPU time of each process of a soak run, from /proc and Redis's INFO."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Final

import msgspec
from harness.chaos.fleet.processes import Fleet
from redis.asyncio import Redis

DRIVER: Final = "producer and site"


class Memory(msgspec.Struct, frozen=True):
    """The memory of each process, in bytes."""

    workers: tuple[int, ...]
    redis: int
    driver: int

    def growth_to(self, later: Memory) -> dict[str, float]:
        """The relative growth of each process."""
        names = [*(f"worker {number}" for number in range(len(self.workers))), "Redis", DRIVER]
        pairs = zip((*self.workers, self.redis, self.driver), (*later.workers, later.redis, later.driver), strict=True)
        return {name: after / before - 1 for name, (before, after) in zip(names, pairs, strict=True)}

    def highest(self, other: Memory) -> Memory:
        workers = tuple(map(max, self.workers, other.workers))
        return Memory(workers, max(self.redis, other.redis), max(self.driver, other.driver))

    def lowest(self, other: Memory) -> Memory:
        workers = tuple(map(min, self.workers, other.workers))
        return Memory(workers, min(self.redis, other.redis), min(self.driver, other.driver))


async def read_memory(redis: Redis, fleet: Fleet) -> Memory:
    page = os.sysconf("SC_PAGE_SIZE")
    sizes = [int(_proc(pid, "statm").split()[1]) * page for pid in (*fleet.pids, os.getpid())]
    info = await redis.info("memory")
    of_jobs = info["used_memory"] - info["mem_clients_normal"] - info["used_memory_scripts"]
    return Memory(tuple(sizes[:-1]), of_jobs, sizes[-1])


async def read_cpu_s(redis: Redis, fleet: Fleet) -> dict[str, float]:
    """The CPU time of each process so far."""
    spent = {f"worker {number}": _process_cpu_s(pid) for number, pid in enumerate(fleet.pids)}
    info = await redis.info("cpu")
    return {**spent, "Redis": info["used_cpu_user"] + info["used_cpu_sys"], DRIVER: time.process_time()}


def _process_cpu_s(pid: int) -> float:
    fields = _proc(pid, "stat").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _proc(pid: int, name: str) -> str:
    return Path(f"/proc/{pid}/{name}").read_text(encoding="utf-8")
