"""Serves a small site, enqueues two hundred fetches of it, runs a worker, and shows the results.

The site and the worker run in this process, Redis beside it; nothing leaves the machine.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections import Counter
from typing import Final

import msgspec

from fetchq import FetchRequest, FetchResult, FetchStatus, Producer, RetryPolicy
from fetchq.command.exit_status import ExitStatus
from fetchq.command.run import run
from fetchq.command.streams import printable
from fetchq.logs.setup import LogLevel
from fetchq_worker.cli.bulk.in_process import in_process
from fetchq_worker.cli.bulk.summary import Latencies, Summary, latency_of
from fetchq_worker.cli.terminal.logs import configure_worker_logs
from fetchq_worker.cli.terminal.progress import make_progress
from fetchq_worker.cli.terminal.text import latency_text, table_lines
from fetchq_worker.settings import Settings

from .site import SLOW_S, serve

_MAX_BYTES: Final = 1 << 20
_RETRY: Final = RetryPolicy(max_tries=3, base_s=0.1)


class Kind(msgspec.Struct, frozen=True):
    """Fetches of one kind, and their expected outcome."""

    name: str
    path: str
    """A path of the site, or a whole URL."""
    count: int
    ends: FetchStatus
    timeout_s: float = 10.0

    def requests(self, site: str) -> list[FetchRequest]:
        base = "" if "://" in self.path else site
        return [
            FetchRequest(
                url=f"{base}{self.path.format(n=n)}", timeout_s=self.timeout_s, max_bytes=_MAX_BYTES, retry=_RETRY
            )
            for n in range(self.count)
        ]


_CLOSED: Final = "http://127.0.0.2:1024"
"""Its own host: failing connections stop all fetches from their host for a while."""

KINDS: Final = (
    Kind("pages", "/page/{n}", 90, FetchStatus.OK),
    Kind("JSON", "/api/{n}", 40, FetchStatus.OK),
    Kind("three redirects each", "/hop/2/{n}", 16, FetchStatus.OK),
    Kind("gzip", "/gzip/{n}", 20, FetchStatus.OK),
    Kind("slow pages", "/slow/{n}", 6, FetchStatus.OK),
    Kind("503 with Retry-After, then 200", "/flaky/{n}", 10, FetchStatus.OK),
    Kind("slower than their timeout", "/slow/t{n}", 3, FetchStatus.TIMEOUT, timeout_s=SLOW_S / 4),
    Kind("no such page", "/nowhere/{n}", 8, FetchStatus.HTTP_ERROR),
    Kind("bodies over the limit", "/big/{n}", 4, FetchStatus.TOO_LARGE),
    Kind("closed port", f"{_CLOSED}/{{n}}", 2, FetchStatus.CONNECT_ERROR),
    Kind("a private network", "http://10.0.0.{n}/", 3, FetchStatus.BLOCKED),
)


class KindResults:
    """The results of one kind."""

    def __init__(self) -> None:
        self.outcomes: Counter[FetchStatus] = Counter()
        self.tries = 0
        self.latencies: Final = Latencies()
        self.why = ""

    def add(self, result: FetchResult) -> None:
        self.outcomes[result.status] += 1
        self.tries += len(result.attempts)
        if (latency_s := latency_of(result)) is not None:
            self.latencies.add(latency_s)
        if not result.ok:
            self.why = printable(result.error or f"HTTP {result.http_status}")


async def demo() -> ExitStatus:
    configure_worker_logs(LogLevel.ERROR)
    settings = Settings(concurrency=50, allow_net=("127.0.0.1/32", "127.0.0.2/32"))
    async with serve() as site, in_process(settings, embedded=True) as here:
        started_s = time.monotonic()
        results_by_kind = await _fetch_all(here.producer, site)
        elapsed_s = time.monotonic() - started_s
    print(*_table(results_by_kind), "", sep="\n")
    print("What failed, and why:")
    for kind in KINDS:
        if results_by_kind[kind.name].why:
            print(f"  {kind.name}: {results_by_kind[kind.name].why}")
    count = sum(kind.count for kind in KINDS)
    print(f"{count} fetches in {elapsed_s:.1f} s, by one worker, on a private Redis server.")
    unexpected = [kind.name for kind in KINDS if results_by_kind[kind.name].outcomes != {kind.ends: kind.count}]
    if unexpected:
        print(f"Unexpected outcomes: {', '.join(unexpected)}.")
        return ExitStatus.FAILED
    print("All outcomes are as expected, failures included. Next: fetchq fetch --help, and README.md.")
    return ExitStatus.OK


async def _fetch_all(producer: Producer, site: str) -> dict[str, KindResults]:
    requests = [(kind.name, request) for kind in KINDS for request in kind.requests(site)]
    results_by_kind = {kind.name: KindResults() for kind in KINDS}
    summary = Summary()
    progress = make_progress(stdout_is_results=False)

    async def show() -> None:
        while True:
            progress.show(summary, len(requests))
            await asyncio.sleep(progress.interval_s)

    showing = asyncio.create_task(show())
    try:
        jobs = await producer.enqueue_many(request for _, request in requests)
        kind_of = {job.id: name for job, (name, _) in zip(jobs, requests, strict=True)}
        async for result in producer.as_completed(jobs, timeout_s=50):
            summary.add(result)
            results_by_kind[kind_of[result.id]].add(result)
        progress.show(summary, len(requests))
    finally:
        showing.cancel()
        progress.close()
    return results_by_kind


def _table(results_by_kind: dict[str, KindResults]) -> list[str]:
    rows: list[tuple[str, ...]] = [("what was fetched", "jobs", "outcome", "tries", "p50", "p95")]
    for kind in KINDS:
        kind_results = results_by_kind[kind.name]
        outcomes = [
            f"{status}" if count == kind.count else f"{count} {status}"
            for status, count in kind_results.outcomes.items()
        ]
        quantiles = [latency_text(kind_results.latencies.quantile(share)) for share in (0.5, 0.95)]
        rows.append((kind.name, str(kind.count), ", ".join(outcomes), str(kind_results.tries), *quantiles))
    return table_lines(rows, right=(1, 3, 4, 5))


if __name__ == "__main__":
    sys.exit(run(demo))
