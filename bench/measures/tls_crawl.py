"""A crawl of many hosts over TLS: the time, and how many connections the hosts were asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from bench.testbed.environments import ensure, python_of
from bench.testbed.failure import BenchFailure
from bench.testbed.peers import BARE, FETCHQ, SCRAPY, Peer
from bench.testbed.site import Tls
from bench.testbed.stage import Stage

from .measure import Measure
from .whole_process import check_lines, run_scrapy, run_timed

CRAWL_S: Final = 180.0
PER_HOST: Final = 8
"""Requests to one host at a time: the default of fetchq and of Scrapy."""


class TlsCrawl(Measure):
    """A file of URLs to a file of results, as whole processes.

    The hosts take turns, so that each connection is used again only after those to all other hosts. Each host is an
    address of loopback with a certificate of its own; nginx counts the connections.
    """

    name = "tls_crawl"
    figures = ("tls_crawl", "tls_crawl_connections")
    most_rounds = 3

    def covers(self, peer: Peer) -> bool:
        return peer.name in (FETCHQ, SCRAPY, BARE)

    async def warm_up(self, stage: Stage, peer: Peer) -> None:
        await ensure(peer.environment, stage.folder)

    async def take(self, stage: Stage, peer: Peer) -> dict[str, float]:
        site = await stage.tls_site()
        assert site.tls is not None
        hosts = stage.options.tls_hosts
        urls, count = _write_urls(stage, site.tls), hosts * stage.options.tls_pages
        out = stage.folder / "crawled-over-tls.jsonl"
        out.unlink(missing_ok=True)
        before = await site.counts()
        elapsed_s = await _crawl_s(stage, peer, urls, out, site.tls.ca)
        after = await site.counts()
        check_lines(out, count)
        if (served := after.requests - before.requests - 1) < count:
            raise BenchFailure(f"of {count} URLs the site answered only {served}")
        return {"tls_crawl": elapsed_s, "tls_crawl_connections": (after.connections - before.connections - 1) / hosts}


async def _crawl_s(stage: Stage, peer: Peer, urls: Path, out: Path, authority: Path) -> float:
    concurrency = str(stage.options.concurrency)
    if peer.name == SCRAPY:
        return await run_scrapy(stage, urls, out, per_host=PER_HOST, timeout_s=CRAWL_S)
    if peer.name == BARE:
        command: list[str | Path] = [python_of(BARE), "-m", "bench.adapters.bare_peer"]
        command += ["crawl", urls, concurrency, authority, out]
    else:
        command = [python_of(FETCHQ).parent / "fetchq", "fetch", "--from", urls, "--out", out, "--no-robots"]
        command += ["--concurrency", concurrency, "--per-host", str(PER_HOST)]
        command += ["--allow-net", "127.0.0.0/8", "--tls-ca-file", authority]
    return (await run_timed(f"{peer.name}-tls-crawl", command, stage.folder, {}, CRAWL_S)).elapsed_s


def _write_urls(stage: Stage, tls: Tls) -> Path:
    path = stage.folder / "urls-over-tls.txt"
    if not path.exists():
        pages = range(stage.options.tls_pages)
        urls = [tls.url(f"2k?page={page}", host) for page in pages for host in stage.tls_addresses()]
        path.write_text("".join(f"{url}\n" for url in urls))
    return path
