"""`make hostile`: ten thousand broken responses, after which memory, descriptors and tasks must not have grown.

The responses are those of `broken_responses`, and valid ones damaged at random, by a seed.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import gzip
import os
import random
import time
import zlib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import uvloop
from tests.support.web.broken_responses import TABLES
from tests.support.web.site import Handler, Site, Visit, http_response

from fetchq import FetchRequest, RetryPolicy
from fetchq_worker.fetch import Fetcher, fetch

AT_ONCE: Final = 32
WARM_UP: Final = 3000
MAX_RSS_GROWTH_BYTES: Final = 8 << 20
MAX_DESCRIPTOR_GROWTH: Final = 4 * AT_ONCE
"""Tolerance for both ends of pooled connections, whose number varies."""

_ONCE: Final = RetryPolicy(max_tries=1)
_BOMB: Final = http_response(gzip.compress(bytes(4 << 20)), headers={"Content-Encoding": "gzip"})
_CASES: Final = [(case.handler(), case.method) for cases in TABLES.values() for case in cases]


@dataclass(frozen=True)
class Footprint:
    """The resources that a process holds."""

    rss_bytes: int
    descriptors: int
    tasks: int

    @classmethod
    def now(cls) -> Footprint:
        gc.collect()
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
        descriptors = sum(1 for _ in Path("/proc/self/fd").iterdir())
        return cls(pages * os.sysconf("SC_PAGE_SIZE"), descriptors, len(asyncio.all_tasks()))

    def __str__(self) -> str:
        return f"{self.rss_bytes / 1e6:7.1f} MB   {self.descriptors:4} descriptors   {self.tasks:4} tasks"


def _damaged(draw: random.Random) -> Handler:
    """A valid response with some bytes changed, cut off or added; or random bytes."""
    data = bytearray(draw.choice((http_response(b"x" * 500), http_response(zlib.compress(b"x" * 900)), _BOMB)))
    match draw.randrange(4):
        case 0:
            for _ in range(draw.randrange(1, 20)):
                data[draw.randrange(len(data))] = draw.randrange(256)
        case 1:
            del data[draw.randrange(len(data)) :]
        case 2:
            data[draw.randrange(60) : 0] = draw.randbytes(draw.randrange(1, 200))
        case _:
            data = bytearray(draw.randbytes(draw.randrange(1, 2000)))
    ends = draw.random() < 0.9

    async def send(visit: Visit) -> None:
        try:
            await visit.send(bytes(data))
        finally:
            if ends:
                visit.writer.close()

    return send


async def _visit_all(site: Site, fetcher: Fetcher, draw: random.Random, number: int) -> Counter[str]:
    outcomes: Counter[str] = Counter()
    left = iter(range(number))

    async def visit(lane: int) -> None:
        for _ in left:
            handler, method = draw.choice(_CASES) if draw.random() < 0.5 else (_damaged(draw), "GET")
            url = site.serve(f"/{lane}", handler)
            request = FetchRequest(
                url=url, method=method, read_timeout_s=0.1, timeout_s=1, max_bytes=1 << 20, retry=_ONCE
            )
            outcomes[(await fetch({"fetcher": fetcher}, request)).status] += 1
            site.visits.clear()  # else the server's own records grow

    await asyncio.gather(*(visit(lane) for lane in range(AT_ONCE)))
    return outcomes


async def _settled(site: Site) -> None:
    """The server's side of a closed connection ends a moment after the client's."""
    async with asyncio.timeout(10):
        while site.open_connections > AT_ONCE:
            await asyncio.sleep(0.02)


async def _run(number: int, seed: int) -> int:
    draw = random.Random(seed)
    site = Site()
    await site.start()
    async with Fetcher(user_agent="fetchq-hostile/1", allow_net=("127.0.0.0/8",)) as fetcher:
        await _visit_all(site, fetcher, draw, WARM_UP)
        await _settled(site)
        before = Footprint.now()
        began = time.monotonic()
        outcomes = await _visit_all(site, fetcher, draw, number)
        took_s = time.monotonic() - began
        await _settled(site)
        after = Footprint.now()
        good = await fetch({"fetcher": fetcher}, FetchRequest(url=site.serve("/good", http_response(b"good"))))
    await site.stop()
    print(f"{number} hostile answers in {took_s:.1f} s, seed {seed}: ", end="")
    print(", ".join(f"{count} {status}" for status, count in outcomes.most_common()))
    print(f"before {before}\nafter  {after}")
    problems = []
    if after.rss_bytes - before.rss_bytes > MAX_RSS_GROWTH_BYTES:
        problems.append("memory grew")
    if after.descriptors - before.descriptors > MAX_DESCRIPTOR_GROWTH:
        problems.append("descriptors are left open")
    if after.tasks - before.tasks > 2 * AT_ONCE:
        problems.append("tasks are left over")
    if outcomes["INTERNAL_ERROR"]:
        problems.append("some ended as a fault of ours")
    if sum(outcomes.values()) != number or good.body != b"good":
        problems.append("not all were answered, or the client is of no use any more")
    print("PASS" if not problems else f"FAIL: {', '.join(problems)}")
    return 1 if problems else 0


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m harness.http.hostile", description="Broken answers.")
    parser.add_argument("--number", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    return uvloop.run(_run(options.number, options.seed))


if __name__ == "__main__":
    raise SystemExit(main())
