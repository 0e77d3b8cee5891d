"""The one HTTP client of a process: a checked address and a request in, a stream and timings out.

This is the seam behind which another client can stand: `Fetcher.send` is all that an attempt asks of it.
"""

from __future__ import annotations

import random
import socket
import ssl
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

import aiohttp

from fetchq.contract.request import IDEMPOTENT_METHODS
from fetchq.store.keys import Keys
from fetchq_worker.engine.run.timeouts import Timeouts
from fetchq_worker.fetch.access.credentials import Credentials, read_credentials
from fetchq_worker.fetch.cache.shared_cache import SharedCache
from fetchq_worker.fetch.egress.guard import Guard
from fetchq_worker.fetch.egress.resolver import GuardedResolver
from fetchq_worker.fetch.robots.robots import Robots
from fetchq_worker.fetch.robots.rules import product_token

from .connector import Connector, Target
from .phases import current_phases
from .request_head import request_head
from .response import Response
from .tls import StampedTLS, TLSContexts

if TYPE_CHECKING:
    from fetchq_worker.settings import Settings

    from .redirect import Hop
    from .route import Route

MAX_TARGETS: Final = 4096
"""Origins whose targets are remembered: to make one takes as long as a third of a fetch."""

ACCEPT_ENCODING: Final = "gzip, deflate, br, zstd"

_DEFAULT_KEYS: Final = Keys()


class Fetcher:
    """The shared client; made inside a running event loop, closed by `aclose` or `async with`.

    `tls` is the context that verifies servers; the default is Python's own, with the system's certificates and those
    of `tls_ca_file`. `credentials` are what requests can name, and `shared_cache` is what workers share.
    `draw` gives numbers evenly from [0, 1), for the jitter of retries. `nameservers` (`address:port`) are asked
    instead of the system's.
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
        self.guard = Guard(allow_net, allow_port)
        self.draw = draw
        self.shared_cache = shared_cache
        self.robots = Robots(self, product_token(user_agent), shared_cache)
        self.credentials = Credentials() if credentials is None else credentials
        self.allow_unverified_tls = allow_unverified_tls
        self.contexts = TLSContexts(tls_ca_file, self.credentials.credentials)
        if tls is None:
            tls = self.contexts.context()
        tls.sslobject_class = StampedTLS
        self.resolver = GuardedResolver(self.guard, nameservers)
        self.own_headers: Final = {
            "user-agent": user_agent,
            "accept": "*/*",
            "accept-encoding": ACCEPT_ENCODING,
        }
        """What is sent with every request that does not say otherwise."""
        self._own_lines = {name: f"{name.title()}: {value}" for name, value in self.own_headers.items()}
        self._connector = Connector(self.resolver, self._open_socket, tls)
        self._proxied: Connector | None = None
        self.timeouts: Final = Timeouts(self._connector.loop)
        self._target_of = lru_cache(MAX_TARGETS)(self._make_target)

    def _make_target(self, origin: str, route: Route | None) -> Target:
        behind_proxy = route is not None and route.proxy is not None
        return Target(self._connector_to_proxies() if behind_proxy else self._connector, origin, route)

    @classmethod
    def from_settings(cls, settings: Settings, *, redis: Any = None, keys: Keys = _DEFAULT_KEYS) -> Self:
        """As `settings` say; with `redis`, what workers can share is shared there. Raises `InvalidSetting`."""
        shared_cache = None if redis is None else SharedCache(redis, keys, settings.cache_max_bytes)
        return cls(
            user_agent=settings.user_agent,
            allow_net=settings.allow_net,
            allow_port=settings.allow_port,
            shared_cache=shared_cache,
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
        return self._connector.closed

    async def aclose(self) -> None:
        await self.robots.aclose()
        await self._connector.close()
        if self._proxied is not None:
            await self._proxied.close()
        await self.resolver.close()

    async def send(
        self, hop: Hop, connect_timeout_s: float, read_timeout_s: float, route: Route | None = None
    ) -> Response:
        """Connect to where the guard allows, send the request, and wait for the head of its answer.

        The body is left in the answer, encoded as it came. Raises what `failure.failure_of` translates.
        """
        phases = current_phases.get()
        url, method, headers = hop.url, hop.method, hop.headers
        path_at = url.find("/", 8)  # a serialised http URL has a path, and the shortest host ends here
        target = self._target_of(url[:path_at], route)
        connector, key = target.connector, target.key
        if route is not None and route.proxy is not None:
            await self.resolver.check_behind_proxy(url, connect_timeout_s)
            login = route.proxy.authorization()
            if target.prefix and login is not None:
                headers = (*headers, ("Proxy-Authorization", login))
        path = target.prefix + url[path_at:].partition("#")[0]
        head = request_head(method, path, target.host_field, self._own_lines, headers=headers, body=hop.body)
        while True:
            phases.connecting(target.host)
            protocol = connector.take_idle(key)
            if protocol is None:
                protocol = await connector.open(target, connect_timeout_s)
            if phases.before_send is not None and not phases.sent:
                try:
                    await phases.before_send()
                except BaseException:
                    connector.give_back(key, protocol, keep=True)
                    raise
            phases.connected()
            phases.sent = True
            try:
                protocol.ask(head, hop.body, read_timeout_s, bodiless=method == "HEAD")
                answered, content = await protocol.read()
            except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError):
                connector.give_back(key, protocol, keep=False)
                # The server may close a pooled connection just as it is used again (RFC 9112, section 9.3.1).
                if phases.reused and method in IDEMPOTENT_METHODS:
                    continue
                raise
            except BaseException:
                connector.give_back(key, protocol, keep=False)
                raise
            phases.answered()
            return Response(method, answered, content, target, protocol)

    def _connector_to_proxies(self) -> Connector:
        """Only proxies are connected to from there, and the worker's own settings name them: no guard is asked."""
        if self._proxied is None:
            self._proxied = Connector(aiohttp.AsyncResolver(), _open_unguarded, self.contexts.context())
        return self._proxied

    def _open_socket(self, address: tuple[Any, ...]) -> socket.socket:
        """aiohttp's socket factory: the last place before a connection, and the one that every connection passes."""
        family, kind, protocol, _, where = address
        self.guard.check_connection(where[0], where[1])
        current_phases.get().resolved()
        return socket.socket(family, kind, protocol)


def _open_unguarded(address: tuple[Any, ...]) -> socket.socket:
    family, kind, protocol, _, _ = address
    current_phases.get().resolved()
    return socket.socket(family, kind, protocol)
