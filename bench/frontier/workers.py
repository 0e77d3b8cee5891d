"""The workers of these measures: real processes, with default limits or without a gate."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

from bench.testbed.processes import Child
from bench.testbed.redis_server import RedisServer

CONCURRENCY: Final = 100
LOOPBACK: Final = "127.0.0.0/8"


@contextlib.asynccontextmanager
async def fetchq_worker(server: RedisServer, folder: Path, name: str, *, processes: int = 1) -> AsyncIterator[Child]:
    """`fetchq worker`, as an operator starts it."""
    command: list[str | Path] = [
        Path(sys.executable).parent / "fetchq",
        "worker",
        "--redis",
        f"redis://127.0.0.1:{server.port}",
    ]
    command += ["--allow-net", LOOPBACK, "--grace", "0.5", "--processes", str(processes)]
    async with Child(name, [*command, "--concurrency", str(CONCURRENCY)], folder) as child:
        yield child


@contextlib.asynccontextmanager
async def bare_worker(server: RedisServer, folder: Path, name: str, *, gate: bool) -> AsyncIterator[Child]:
    """One process, made in the same way with and without the gate."""
    env = {
        "FETCHQ_REDIS_URL": f"redis://127.0.0.1:{server.port}",
        "FETCHQ_ALLOW_NET": LOOPBACK,
        "FETCHQ_GRACE": "0.5",
    }
    env |= {"FETCHQ_CONCURRENCY": str(CONCURRENCY)}
    command: list[str | Path] = [sys.executable, "-m", "bench.frontier.workers", "gate" if gate else "no-gate"]
    async with Child(name, command, folder, env=env) as child:
        yield child


def cpu_s(pid: int) -> float:
    """User and system time of a process so far (proc(5), fields 14 and 15 of stat)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def work(gate: bool) -> None:
    import asyncio

    import uvloop
    from arq.connections import ArqRedis

    from fetchq.store.connection import connect
    from fetchq_worker.process.arq_settings import worker_settings
    from fetchq_worker.process.gc_tuning import tune_gc
    from fetchq_worker.process.make_worker import make_worker
    from fetchq_worker.settings import Settings

    settings = Settings.from_env()
    options: dict[str, Any] = {} if gate else {"gate": None}
    asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
    asyncio.set_event_loop(asyncio.new_event_loop())
    redis = connect(settings.redis_url, redis_class=ArqRedis)
    worker = make_worker(worker_settings(settings=settings), redis, **options)
    tune_gc()  # as `fetchq worker` does
    worker.run()


if __name__ == "__main__":
    work(sys.argv[1] == "gate")
