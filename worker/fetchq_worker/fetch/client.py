"""The one HTTP client of a process: a checked address and a request in, a stream and timings out.

This is the seam behind which another client can stand: `Fetcher.send` is all that an attempt asks of it.
"""

from __future__ import annotations

import random
import socket
import ssl
from collections.abc import Callable
from functools import cache, lru_cache, partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self, cast

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.client_reqrep import ClientRequest, ConnectionKey
from aiohttp.connector import Connection
from multidict import CIMultiDict
from yarl import URL

from fetchq.keys import Keys
from fetchq.request import IDEMPOTENT_METHODS

from .guard import Guard
from .phases import current_phases
from .protocol import ConnectionProtocol
from .resolver import GuardedResolver
from .robots import Robots
from .robots_rules import product_token
from .shelf import Shelf

if TYPE_CHECKING:
    from fetchq_worker.settings import Settings

    from .redirect import Hop
    from .route import Route

DNS_CACHE_S: Final = 10
KEEP_ALIVE_S: Final = 15.0
MAX_IDLE_HOSTS: Final = 512
"""Hosts for which idle connections are kept: a crawl of many hosts must not use up the process's file descriptors."""
MAX_HEADER_LINE_BYTES: Final = 16 << 10
MAX_HEADER_FIELDS: Final = 256

ACCEPT_ENCODING: Final = "gzip, deflate, br, zstd"

_DEFAULT_KEYS: Final = Keys()
_NO_AUTO_HEADERS: Final = ("Content-Type",)
"""A body goes out under the type that its request states, or under none."""


class Fetcher:
    """The shared client; made inside a running event loop, closed by `aclose` or `async with`.

    `tls` is the context that verifies servers; the default is Python's own, with the system's certificates.
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
        shelf: Shelf | None = None,
    ) -> None:
        self.guard = Guard(allow_net, allow_port)
        self.draw = draw
        self.robots = Robots(self, product_token(user_agent), shelf)
        tls = _default_tls() if tls is None else tls
        tls.sslobject_class = _StampedTLS
        self.resolver = GuardedResolver(self.guard, nameservers)
        connector = _Connector(
            resolver=self.resolver,
            socket_factory=self._open_socket,
            ssl=tls,
            ttl_dns_cache=DNS_CACHE_S,
            keepalive_timeout=KEEP_ALIVE_S,
            limit=0,
        )
        self._session = aiohttp.ClientSession(
            connector=connector,
            headers={"User-Agent": user_agent, "Accept": "*/*", "Accept-Encoding": ACCEPT_ENCODING},
            skip_auto_headers=_NO_AUTO_HEADERS,
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            trust_env=False,
            requote_redirect_url=False,
            max_line_size=MAX_HEADER_LINE_BYTES,
            max_field_size=MAX_HEADER_LINE_BYTES,
            max_headers=MAX_HEADER_FIELDS,
        )
        # aiohttp's own way of sending again does so on new connections too, where a failure is an attempt's outcome.
        self._session._retry_connection = False

    @classmethod
    def from_settings(cls, settings: Settings, *, redis: Any = None, keys: Keys = _DEFAULT_KEYS) -> Self:
        """As `settings` say; with `redis`, what workers can share is shared there. Raises `InvalidSetting`."""
        shelf = None if redis is None else Shelf(redis, keys, settings.cache_max_bytes)
        return cls(
            user_agent=settings.user_agent,
            allow_net=settings.allow_net,
            allow_port=settings.allow_port,
            shelf=shelf,
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    @property
    def closed(self) -> bool:
        return self._session.closed

    async def aclose(self) -> None:
        await self.robots.aclose()
        await self._session.close()
        await self.resolver.close()

    async def send(
        self, hop: Hop, connect_timeout_s: float, read_timeout_s: float, route: Route | None = None
    ) -> aiohttp.ClientResponse:
        """Connect to where the guard allows, send the request, and wait for the head of its answer.

        The body is left in the response, encoded as it came. Raises what `failure.failure_of` translates.
        """
        phases = current_phases.get()
        tls = True if route is None or route.tls is None else route.tls
        while True:
            try:
                response = await self._session.request(
                    hop.method,
                    URL(hop.url, encoded=True),
                    headers=CIMultiDict(hop.headers) if hop.headers else None,
                    data=hop.body,
                    allow_redirects=False,
                    ssl=tls,
                    timeout=_timeouts(connect_timeout_s, read_timeout_s),
                )
            except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError):
                # The server may close a pooled connection just as it is used again (RFC 9112, section 9.3.1).
                if phases.reused and hop.method in IDEMPOTENT_METHODS:
                    continue
                raise
            phases.answered()
            return response

    def _open_socket(self, address: tuple[Any, ...]) -> socket.socket:
        """aiohttp's socket factory: the last place before a connection, and the one that every connection passes."""
        family, kind, protocol, _, where = address
        self.guard.check_connection(where[0], where[1])
        current_phases.get().resolved()
        return socket.socket(family, kind, protocol)


class _Connector(aiohttp.TCPConnector):
    """Stamps the phases of the attempt that connects, and bounds idle connections (aiohttp bounds only busy ones)."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._factory = cast(partial[ResponseHandler], partial(ConnectionProtocol, loop=self._loop))

    async def connect(self, req: ClientRequest, traces: list[Any], timeout: aiohttp.ClientTimeout) -> Connection:
        phases = current_phases.get()
        phases.connecting(req.url.raw_host or "")
        connection = await super().connect(req, traces, timeout)
        if phases.before_send is not None and not phases.sent:
            try:
                await phases.before_send()
            except BaseException:
                connection.release()
                raise
        protocol = connection.protocol
        if isinstance(protocol, ConnectionProtocol):
            protocol.unpark()
        phases.connected()
        phases.sent = True
        return connection

    def _release(self, key: ConnectionKey, protocol: ResponseHandler, *, should_close: bool = False) -> None:
        keep = not should_close and len(self._conns) < MAX_IDLE_HOSTS
        if keep and isinstance(protocol, ConnectionProtocol):
            keep = protocol.park()
        super()._release(key, protocol, should_close=not keep)


class _StampedTLS(ssl.SSLObject):
    """A TLS connection that says when its handshake begins."""

    def do_handshake(self) -> None:
        phases = current_phases.get(None)
        if phases is not None:
            phases.tls_began()
        super().do_handshake()


@cache
def _default_tls() -> ssl.SSLContext:
    """Made once: loading the system's certificates takes some 20 ms."""
    context = ssl.create_default_context()
    context.set_alpn_protocols(["http/1.1"])
    return context


@lru_cache(maxsize=256)
def _timeouts(connect_s: float, read_s: float) -> aiohttp.ClientTimeout:
    """No total: an attempt has its own, redirects included."""
    return aiohttp.ClientTimeout(total=None, connect=connect_s, sock_read=read_s)
