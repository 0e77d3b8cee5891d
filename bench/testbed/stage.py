"""The common parts of a run: the folder, Redis, the site and the peers' producers, each opened once."""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path

import msgspec

from bench.adapters.settings import Settings

from . import adapter_process as talk
from .environments import ensure
from .peers import Peer
from .redis_server import RedisServer
from .site import Site, nginx_site


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """Durations and sizes of a run."""

    rounds: int = 5
    concurrency: int = 100
    window_s: float = 2.0
    """How long a throughput is measured in each round."""
    deep_jobs: int = 1_000_000
    half_load: bool = True
    """Whether latency is measured at half load too."""
    crawl_urls: int = 10_000
    tls_hosts: int = 1_000
    tls_pages: int = 10
    """URLs of each host in the crawl over TLS."""
    peak_urls: int = 100_000
    fill_s: float = 60.0
    """The maximum time to fill a long queue; a peer that would need longer is not measured there."""


class Stage:
    """Passed to every measure."""

    def __init__(self, folder: Path, server: RedisServer, site: Site, options: Options, stack: AsyncExitStack) -> None:
        self.folder = folder
        self.server = server
        self.site = site
        self.options = options
        self.versions: dict[str, dict[str, str]] = {}
        self.capacity: dict[tuple[str, str], float] = {}
        """The last measured jobs per second by peer and job, from which the next measure is sized."""
        self._stack = stack
        self._producers: dict[str, talk.Producer] = {}
        self._tls_site: Site | None = None

    def tls_addresses(self) -> list[str]:
        """The hosts of the crawl over TLS."""
        return [f"127.1.{number // 250}.{number % 250 + 1}" for number in range(self.options.tls_hosts)]

    async def tls_site(self) -> Site:
        """A second site, which serves each of those hosts over TLS too."""
        if self._tls_site is None:
            opened = nginx_site(self.folder / "tls", tls_hosts=self.tls_addresses())
            self._tls_site = await self._stack.enter_async_context(opened)
        return self._tls_site

    def settings(self, peer: Peer, *, server: RedisServer | None = None, concurrency: int | None = None) -> Settings:
        return Settings(
            redis_port=(server or self.server).port,
            concurrency=concurrency or self.options.concurrency,
            tuned=peer.tuned,
        )

    async def producer(self, peer: Peer) -> talk.Producer:
        """The peer's producer on the common Redis; a new one if the last has exited."""
        held = self._producers.get(peer.name)
        if held is None or not held.alive:
            await ensure(peer.environment, self.folder)
            opened = talk.producer(peer, self.settings(peer), self.folder)
            held = self._producers[peer.name] = await self._stack.enter_async_context(opened)
            self.versions[peer.name] = held.hello.versions
        return held

    async def clean_producer(self, peer: Peer) -> talk.Producer:
        """The same, on an emptied Redis."""
        held = await self.producer(peer)
        await self.server.empty()
        await held.ask("reset")
        return held
