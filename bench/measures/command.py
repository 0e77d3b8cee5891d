"""The command line: a list of URLs to a file compared with Scrapy, memory, start-up time, and import time."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Final

from bench.testbed.environments import ensure, python_of
from bench.testbed.peers import FETCHQ, SCRAPY, Peer
from bench.testbed.processes import run
from bench.testbed.stage import Stage

from .measure import Measure
from .whole_process import Ran, check_lines, run_scrapy, run_timed

CRAWL_S: Final = 180.0


def _write_urls(stage: Stage, count: int) -> Path:
    path = stage.folder / f"urls-{count}.txt"
    if not path.exists():
        url = stage.site.url("2k")
        path.write_text("".join(f"{url}?page={number}\n" for number in range(count)))
    return path


async def _fetchq_fetch(stage: Stage, count: int, *, redis: bool) -> Ran:
    """All URLs have one host: its limit is the whole concurrency, as for Scrapy."""
    urls = _write_urls(stage, count)
    out = stage.folder / "fetched.jsonl"
    out.unlink(missing_ok=True)
    fetchq, concurrency = python_of(FETCHQ).parent / "fetchq", str(stage.options.concurrency)
    command: list[str | Path] = [fetchq, "fetch", "--from", urls, "--out", out]
    command += ["--concurrency", concurrency, "--allow-net", "127.0.0.1/32"]
    if redis:
        await stage.server.empty()
        there = ("--redis", f"redis://127.0.0.1:{stage.server.port}")
        limit: list[str | Path] = [fetchq, "limits", "set", "*", "--concurrency", concurrency, *there]
        await run("fetchq-limits", limit, stage.folder, timeout_s=30.0, env={})
        command += there
    else:
        command += ["--per-host", concurrency]
    ran = await run_timed("fetchq-fetch", command, stage.folder, {}, CRAWL_S * max(1, count / 10_000))
    check_lines(out, count)
    return ran


class Crawl(Measure):
    """A file of URLs to a file of results: `fetchq fetch`, embedded and over Redis, and Scrapy. Whole processes."""

    name = "crawl"
    figures = ("crawl_embedded", "crawl_redis")
    most_rounds = 3

    def covers(self, peer: Peer) -> bool:
        return peer.name in (FETCHQ, SCRAPY)

    def figures_of(self, peer: Peer) -> tuple[str, ...]:
        return self.figures if peer.name == FETCHQ else ("crawl_embedded",)

    async def warm_up(self, stage: Stage, peer: Peer) -> None:
        await ensure(peer.environment, stage.folder)

    async def take(self, stage: Stage, peer: Peer) -> dict[str, float]:
        count = stage.options.crawl_urls
        if peer.name == FETCHQ:
            embedded = await _fetchq_fetch(stage, count, redis=False)
            over_redis = await _fetchq_fetch(stage, count, redis=True)
            return {"crawl_embedded": embedded.elapsed_s, "crawl_redis": over_redis.elapsed_s}
        urls, out = _write_urls(stage, count), stage.folder / "crawled.jsonl"
        elapsed_s = await run_scrapy(stage, urls, out, per_host=stage.options.concurrency, timeout_s=CRAWL_S)
        check_lines(out, count)
        return {"crawl_embedded": elapsed_s}


class Peak(Measure):
    """Peak memory for a list and for one of ten times the size."""

    name = "peak"
    figures = ("peak_10k", "peak_100k")
    most_rounds = 1

    def covers(self, peer: Peer) -> bool:
        return peer.name == FETCHQ

    async def take(self, stage: Stage, peer: Peer) -> dict[str, float]:
        few = await _fetchq_fetch(stage, stage.options.peak_urls // 10, redis=False)
        many = await _fetchq_fetch(stage, stage.options.peak_urls, redis=False)
        return {"peak_10k": few.peak_mb, "peak_100k": many.peak_mb}


class Startup(Measure):
    """New interpreters, with byte code cached."""

    name = "startup"
    figures = ("import_added", "help")

    IMPORTS: Final = 5

    def covers(self, peer: Peer) -> bool:
        return peer.name == FETCHQ

    async def warm_up(self, stage: Stage, peer: Peer) -> None:
        await self.take(stage, peer)

    async def take(self, stage: Stage, peer: Peer) -> dict[str, float]:
        shown = await run_timed("fetchq-help", [python_of(FETCHQ).parent / "fetchq", "--help"], stage.folder, {}, 30.0)
        whole_ms, redis_ms = [], []
        for _ in range(self.IMPORTS):
            whole_ms.append(await self._import_ms(stage, "fetchq"))
            redis_ms.append(await self._import_ms(stage, "redis.asyncio"))
        added_ms = statistics.median(whole_ms) - statistics.median(redis_ms)
        return {"import_added": added_ms, "help": shown.elapsed_s}

    async def _import_ms(self, stage: Stage, module: str) -> float:
        """Measured by the clock of the new interpreter."""
        code = f"import time; started = time.perf_counter(); import {module}; print(time.perf_counter() - started)"
        command: list[str | Path] = [python_of(FETCHQ), "-c", code]
        return float(await run("import", command, stage.folder, timeout_s=30.0, env={})) * 1e3
