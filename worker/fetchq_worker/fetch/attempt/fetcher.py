"""What the fetches of a process share: HTTP client, guard, robots.txt, cache and credentials."""

from __future__ import annotations

import asyncio
import random
import ssl
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from fetchq.store.keys import Keys
from fetchq_worker.engine.run.timeouts import Timeouts
from fetchq_worker.fetch.access.credentials import Credentials, read_credentials
from fetchq_worker.fetch.cache.shared_cache import SharedCache
from fetchq_worker.fetch.egress.guard import Guard
from fetchq_worker.fetch.http.client import HttpClient, Send
from fetchq_worker.fetch.http.tls import TLSContexts
from fetchq_worker.fetch.robots.robots import Robots
from fetchq_worker.fetch.robots.rules import product_token
from fetchq_worker.settings import Settings

_DEFAULT_KEYS: Final = Keys()


class Fetcher:
    """Made inside a running event loop, closed by `aclose` or `async with`.

    `send` is the only use of the HTTP client, so that another client can replace it.
    """

    def __init__(
        self,
        *,
        user_agent: str,
        allow_net: tuple[str, ...] = (),
        allow_port: tuple[int, ...] = (),
        nameservers: tuple[str, ...] = (),
        tls: ssl.SSLContext | None = None,
        draw: Callable[[], float] = random.random,
        shared_cache: SharedCache | None = None,
        credentials: Credentials | None = None,
        tls_ca_file: str | None = None,
        allow_unverified_tls: bool = False,
    ) -> None:
        """`tls` is the context that verifies servers; by default Python's own, with the certificates of the system and
        of `tls_ca_file`. `nameservers` (`address:port`) replace the system's. `draw` returns numbers uniform in [0, 1)
        for the jitter of retries.
        """
        self.guard = Guard(allow_net, allow_port)
        self.draw = draw
        self.shared_cache = shared_cache
        self.credentials = Credentials() if credentials is None else credentials
        self.allow_unverified_tls = allow_unverified_tls
        self.tls_contexts = TLSContexts(tls_ca_file, self.credentials.credentials)
        self.client = HttpClient(self.guard, self.tls_contexts, user_agent=user_agent, nameservers=nameservers, tls=tls)
        self.send: Send = self.client.send
        self.robots = Robots(self.send, self.guard, product_token(user_agent), shared_cache)
        self.timeouts: Final = Timeouts(asyncio.get_running_loop())

    @classmethod
    def from_settings(cls, settings: Settings, *, redis: Any = None, keys: Keys = _DEFAULT_KEYS) -> Self:
        """A fetcher with these settings; with `redis`, the HTTP cache and robots.txt are shared there.

        Raises `InvalidSetting`.
        """
        return cls(
            user_agent=settings.user_agent,
            allow_net=settings.allow_net,
            allow_port=settings.allow_port,
            shared_cache=None if redis is None else SharedCache(redis, keys, settings.cache_max_bytes),
            credentials=read_credentials(Path(settings.credentials_file)) if settings.credentials_file else None,
            tls_ca_file=settings.tls_ca_file or None,
            allow_unverified_tls=settings.allow_unverified_tls,
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    @property
    def closed(self) -> bool:
        return self.client.closed

    async def aclose(self) -> None:
        await self.robots.aclose()
        await self.client.aclose()
