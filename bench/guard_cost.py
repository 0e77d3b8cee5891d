"""`python -m bench.guard_cost`: the cost of the egress guard for a fetch.

The time of each check of the guard, compared with the CPU time of a 2 KB fetch over a pooled and over a new connection.
The difference between fetches with and without a guard is below the noise, so it is not measured. Each number is the
minimum of several rounds, since disturbances only add.
"""

from __future__ import annotations

import asyncio
import itertools
import sys
import tempfile
import timeit
from collections.abc import Callable
from pathlib import Path
from time import process_time
from typing import Final

import uvloop

from bench.testbed.failure import BenchFailure
from bench.testbed.site import nginx_site
from fetchq import FetchRequest
from fetchq_worker.fetch import Fetcher, fetch
from fetchq_worker.fetch.egress.guard import Guard

CALLS: Final = 20_000
ROUNDS: Final = 15
FETCHES: Final = 1_000
CONCURRENCY: Final = 50
MOST_SHARE: Final = 0.05


def measure_questions() -> tuple[float, float]:
    """Microseconds of the guard in a fetch over a pooled connection, and in one to a new host."""
    guard = Guard(allow_net=("10.0.0.0/8",))
    new_v4 = (f"8.{n >> 16 & 255}.{n >> 8 & 255}.{n & 255}" for n in itertools.count())
    new_v6 = (f"2606:4700::{n >> 16:x}:{n & 0xFFFF:x}" for n in itertools.count())
    new_names = (f"n{n}.example" for n in itertools.count())
    known_url = _least_us("a URL of a host seen before", lambda: guard.check_url("http://host.example/path?query"))
    new_url = _least_us("a URL of a new host", lambda: guard.check_url(f"http://{next(new_names)}/path"))
    name = _least_us("a name to look up", lambda: guard.check_name("www.host.example"))
    answers = _least_us("a new IPv4 address", lambda: guard.check_address(next(new_v4)))
    answers += _least_us("a new IPv6 address", lambda: guard.check_address(next(new_v6)))
    at_socket = _least_us("the socket", lambda: guard.check_connection("93.184.215.14", 443))
    return known_url, new_url + name + answers + at_socket


def _least_us(what: str, question: Callable[[], object]) -> float:
    took_us = min(timeit.repeat(question, number=CALLS, repeat=ROUNDS)) / CALLS * 1e6
    print(f"{took_us:8.2f} us  {what}")
    return took_us


async def measure_fetches() -> tuple[float, float]:
    """Microseconds of CPU time of a fetch over a pooled connection, and of one over a new connection."""
    with tempfile.TemporaryDirectory() as folder:
        async with (
            nginx_site(Path(folder)) as site,
            Fetcher(user_agent="fetchq-bench/1", allow_net=("127.0.0.1/32",)) as fetcher,
        ):
            request = FetchRequest(url=site.url("2k"))
            pooled = min([await _spend(fetcher, request) for _ in range(ROUNDS)])
        async with (
            nginx_site(Path(folder, "own"), keep_alive=False) as site,
            Fetcher(user_agent="fetchq-bench/1", allow_net=("127.0.0.1/32",)) as fetcher,
        ):
            request = FetchRequest(url=site.url("2k"))
            own = min([await _spend(fetcher, request) for _ in range(ROUNDS)])
    return pooled, own


async def _spend(fetcher: Fetcher, request: FetchRequest) -> float:
    """Microseconds of CPU time for one of `FETCHES` fetches."""
    context = {"fetcher": fetcher}

    async def run() -> None:
        for _ in range(FETCHES // CONCURRENCY):
            result = await fetch(context, request)
            if not result.ok:
                raise BenchFailure(f"a fetch ended as {result.status}: {result.error}")

    began = process_time()
    await asyncio.gather(*(run() for _ in range(CONCURRENCY)))
    return (process_time() - began) / FETCHES * 1e6


def main() -> int:
    asked = measure_questions()
    try:
        fetches = uvloop.run(measure_fetches())
    except BenchFailure as problem:
        print(problem, file=sys.stderr)
        return 1
    shares = [guard_us / fetch_us for guard_us, fetch_us in zip(asked, fetches, strict=True)]
    for what, guard_us, fetch_us, share in zip(
        ("over a pooled connection", "of a new host"), asked, fetches, shares, strict=True
    ):
        print(f"{share:8.1%}     of a fetch {what}: {guard_us:.2f} of {fetch_us:.0f} us (at most {MOST_SHARE:.0%})")
    return 0 if max(shares) <= MOST_SHARE else 1


if __name__ == "__main__":
    sys.exit(main())
