"""Whole processes: how long one runs, how much memory it takes, and whether a crawl's output is complete."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from typing import Final

import msgspec

from bench.testbed.environments import python_of
from bench.testbed.failure import BenchFailure
from bench.testbed.peers import SCRAPY
from bench.testbed.processes import Argv, Child
from bench.testbed.stage import Stage

_POLL_S: Final = 0.02


class Ran(msgspec.Struct, frozen=True):
    elapsed_s: float
    peak_mb: float
    """The maximum resident memory (VmHWM), up to the last sample before the end."""


async def run_timed(name: str, argv: Argv, folder: Path, env: dict[str, str], timeout_s: float) -> Ran:
    peak_kb = 0
    started = time.monotonic()
    async with Child(name, argv, folder, env=env) as child:
        ended = asyncio.create_task(child.process.wait())
        while not ended.done():
            peak_kb = max(peak_kb, _high_water_kb(child.process.pid))
            if time.monotonic() > started + timeout_s:
                ended.cancel()
                raise BenchFailure(f"{name} took longer than {timeout_s:g} s")
            await asyncio.wait([ended], timeout=_POLL_S)
        elapsed_s = time.monotonic() - started
        if child.process.returncode != 0:
            raise BenchFailure(f"{name} ended with status {child.process.returncode}: {child.last_words()}")
    return Ran(elapsed_s, peak_kb / 1024)


def _high_water_kb(pid: int) -> int:
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):  # it has just ended
        return 0
    return next((int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM:")), 0)


def check_lines(out: Path, count: int) -> None:
    """Checks that every URL has a line, and every line a page."""
    lines = good = 0
    with out.open() as file:
        for line in file:
            lines += 1
            good += json.loads(line)["http_status"] == 200
    if (lines, good) != (count, count):
        raise BenchFailure(f"of {count} URLs {lines} have a line and {good} a page")


async def run_scrapy(stage: Stage, urls: Path, out: Path, *, per_host: int, timeout_s: float) -> float:
    """Scrapy's crawl of a file of URLs; the seconds that its process runs."""
    given = {"urls": str(urls), "out": str(out), "concurrency": stage.options.concurrency, "per_host": per_host}
    spider = Path(__file__).parent.parent / "adapters" / "scrapy_spider.py"
    command: list[str | Path] = [python_of(SCRAPY), "-m", "scrapy", "runspider", spider]
    env = {"FETCHQ_BENCH_CRAWL": json.dumps(given)}
    return (await run_timed(SCRAPY, command, stage.folder, env, timeout_s)).elapsed_s
