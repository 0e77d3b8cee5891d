"""The one HTTP client of a process: a checked address and a request in, a stream and timings out.

This is the seam behind which another client can stand: `Fetcher.send` is all that an attempt asks of it.
"""

from __future__ import annotations

import random
import socket
import ssl
from collections.abc import Callable
from functools import lru_cache, partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self, cast

import aiohttp
from aiohttp.abc import AbstractResolver
from aiohttp.client_proto import ResponseHandler
from aiohttp.client_reqrep import ClientRequest, ConnectionKey
from aiohttp.connector import Connection
from multidict import CIMultiDict
from yarl import URL

from fetchq.keys import Keys
from fetchq.request import IDEMPOTENT_METHODS

from .credentials import Credentials, read_credentials
from .guard import Guard
from .phases import current_phases
from .protocol import ConnectionProtocol
from .resolver import GuardedResolver
from .robots import Robots
from .robots_rules import product_token
from .shelf import Shelf
from .tls import StampedTLS, TLSContexts

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
_PLAIN: Final[dict[str, Any]] = {}
_NO_AUTO_HEADERS: Final = ("Content-Type",)
"""A body goes out under the type that its request states, or under none."""


class Fetcher:
    """The shared client; made inside a running event loop, closed by `aclose` or `async with`.

    `tls` is the context that verifies servers; the default is Python's own, with the system's certificates and those
    of `tls_ca_file`. `credentials` are what requests can name, and `shelf` is what workers share.
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
        credentials: Credentials | None = None,
        tls_ca_file: str | None = None,
        allow_unverified_tls: bool = False,
    ) -> None:
        self.guard = Guard(allow_net, allow_port)
        self.draw = draw
        self.shelf = shelf
        self.robots = Robots(self, product_token(user_agent), shelf)
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
        self._session = self._open_session(self.resolver, self._open_socket, tls)
        self._proxied: aiohttp.ClientSession | None = None

    def _open_session(
        self, resolver: AbstractResolver, open_socket: Callable[[tuple[Any, ...]], socket.socket], tls: ssl.SSLContext
    ) -> aiohttp.ClientSession:
        connector = _Connector(
            resolver=resolver,
            socket_factory=open_socket,
            ssl=tls,
            ttl_dns_cache=DNS_CACHE_S,
            keepalive_timeout=KEEP_ALIVE_S,
            limit=0,
        )
        session = aiohttp.ClientSession(
            connector=connector,
            headers={name.title(): value for name, value in self.own_headers.items()},
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
        session._retry_connection = False
        return session

    @classmethod
    def from_settings(cls, settings: Settings, *, redis: Any = None, keys: Keys = _DEFAULT_KEYS) -> Self:
        """As `settings` say; with `redis`, what workers can share is shared there. Raises `InvalidSetting`."""
        shelf = None if redis is None else Shelf(redis, keys, settings.cache_max_bytes)
        return cls(
            user_agent=settings.user_agent,
            allow_net=settings.allow_net,
            allow_port=settings.allow_port,
            shelf=shelf,
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
        return self._session.closed

    async def aclose(self) -> None:
        await self.robots.aclose()
        await self._session.close()
        if self._proxied is not None:
            await self._proxied.close()
        await self.resolver.close()

    async def send(
        self, hop: Hop, connect_timeout_s: float, read_timeout_s: float, route: Route | None = None
    ) -> aiohttp.ClientResponse:
        """Connect to where the guard allows, send the request, and wait for the head of its answer.

        The body is left in the response, encoded as it came. Raises what `failure.failure_of` translates.
        """
        phases = current_phases.get()
        session, headers, options = self._session, hop.headers, _PLAIN
        if route is not None:
            session, headers, options = await self._take(route, hop, connect_timeout_s)
        while True:
            try:
                response = await session.request(
                    hop.method,
                    URL(hop.url, encoded=True),
                    headers=CIMultiDict(headers) if headers else None,
                    data=hop.body,
                    allow_redirects=False,
                    **options,
                    timeout=_timeouts(connect_timeout_s, read_timeout_s),
                )
            except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError):
                # The server may close a pooled connection just as it is used again (RFC 9112, section 9.3.1).
                if phases.reused and hop.method in IDEMPOTENT_METHODS:
                    continue
                raise
            phases.answered()
            return response

    async def _take(
        self, route: Route, hop: Hop, connect_timeout_s: float
    ) -> tuple[aiohttp.ClientSession, tuple[tuple[str, str], ...], dict[str, Any]]:
        """The session, the headers and aiohttp's options for one hop along `route`."""
        options: dict[str, Any] = {} if route.tls is None else {"ssl": route.tls}
        if route.proxy is None:
            return self._session, hop.headers, options
        await self.resolver.check_behind_proxy(hop.url, connect_timeout_s)
        if self._proxied is None:
            # From here only proxies are connected to, and the worker's own settings name them: no guard is asked.
            self._proxied = self._open_session(aiohttp.AsyncResolver(), _open_unguarded, self.contexts.context())
        options["proxy"] = route.proxy.url
        login = route.proxy.authorization()
        if login is None:
            return self._proxied, hop.headers, options
        if hop.url.startswith("https:"):
            return self._proxied, hop.headers, {**options, "proxy_headers": {"Proxy-Authorization": login}}
        # aiohttp logs in only with the first request of a connection; without a tunnel each has to.
        return self._proxied, (*hop.headers, ("Proxy-Authorization", login)), options

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


@lru_cache(maxsize=256)
def _timeouts(connect_s: float, read_s: float) -> aiohttp.ClientTimeout:
    """No total: an attempt has its own, redirects included."""
    return aiohttp.ClientTimeout(total=None, connect=connect_s, sock_read=read_s)
