"""The connection pool: idle connections, and new ones by aiohttp's connector.

aiohttp's connector resolves names, races addresses (RFC 8305), does the TLS handshake and pools. Its session, request
and response are not used: they were half of the cost of a fetch (`python -m bench.fetch_cost`). These private names of
aiohttp are used, at the pinned version: `_factory`, `_create_connection`, `_conns`, `_acquired`, `_closed`, `_loop`,
`_release`.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable
from functools import partial
from time import monotonic
from typing import Any, Final, cast

import aiohttp
from aiohttp.abc import AbstractResolver
from aiohttp.client_proto import ResponseHandler
from aiohttp.client_reqrep import ConnectionKey
from yarl import URL

from .protocol import ConnectionProtocol
from .route import Route

DNS_CACHE_S: Final = 10
KEEP_ALIVE_S: Final = 15.0
MAX_IDLE_HOSTS: Final = 512
"""Hosts with idle connections: a crawl of many hosts must not use up the process's file descriptors."""

_UNTIMED: Final = aiohttp.ClientTimeout(total=None)
"""aiohttp's own timeouts are off: `Connector.open` applies one to all steps."""

SocketFactory = Callable[[tuple[Any, ...]], socket.socket]


class Connector(aiohttp.TCPConnector):
    """aiohttp's connector without a session, and with a limit on idle connections."""

    def __init__(self, resolver: AbstractResolver, open_socket: SocketFactory, tls: ssl.SSLContext) -> None:
        super().__init__(
            resolver=resolver,
            socket_factory=open_socket,
            ssl=tls,
            ttl_dns_cache=DNS_CACHE_S,
            keepalive_timeout=KEEP_ALIVE_S,
            limit=0,
        )
        self._factory = cast(partial[ResponseHandler], partial(ConnectionProtocol, loop=self._loop))

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        return self._loop

    def take_idle(self, key: ConnectionKey) -> ConnectionProtocol | None:
        """An idle connection, or None. The caller owns it until `release_connection`."""
        idle = self._conns.get(key)
        if idle is None:
            return None
        oldest = monotonic() - KEEP_ALIVE_S
        while idle:
            protocol, since = idle.popleft()
            if since >= oldest and protocol.is_connected():
                if not idle:
                    del self._conns[key]
                self._acquired.add(protocol)
                return cast(ConnectionProtocol, protocol)
            protocol.close()
        del self._conns[key]
        return None

    async def open(self, target: Target, timeout_s: float) -> ConnectionProtocol:
        """A new connection. The caller owns it until `release_connection`.

        Raises aiohttp's errors, and `ConnectionTimeoutError` after `timeout_s`.
        """
        self._check_open()
        try:
            async with asyncio.timeout(timeout_s):
                protocol = await self._create_connection(target.request, [], _UNTIMED)
        except TimeoutError as problem:
            raise aiohttp.ConnectionTimeoutError("no connection within the timeout") from problem
        try:
            self._check_open()  # the client may have been closed in the meantime
        except aiohttp.ClientConnectionError:
            protocol.close()
            raise
        self._acquired.add(protocol)
        return cast(ConnectionProtocol, protocol)

    def _check_open(self) -> None:
        if self._closed:
            raise aiohttp.ClientConnectionError("the client is closed")

    def release_connection(self, key: ConnectionKey, protocol: ConnectionProtocol, *, keep: bool) -> None:
        """Puts a connection into the pool if `keep` is set and it is reusable; closes it otherwise."""
        transport = protocol.transport
        if transport is not None and transport.get_write_buffer_size():
            protocol.abort()  # `close` would wait until the server has read what was written, perhaps without end
        if keep and protocol.transport is not None and len(self._conns) < MAX_IDLE_HOSTS and protocol.park():
            self._release(key, protocol)
        else:
            self._release(key, protocol, should_close=True)


class Target:
    """The destination of the requests to one origin, along one route."""

    __slots__ = ("connector", "host", "host_field", "key", "prefix", "request")

    def __init__(self, connector: Connector, origin: str, route: Route | None) -> None:
        """Raises `InvalidURL` for an origin that yarl, which the connector needs, does not parse."""
        try:
            url = URL(f"{origin}/", encoded=True)
            host, host_field = url.raw_host, url.host_port_subcomponent
        except ValueError as problem:
            raise aiohttp.InvalidURL(origin) from problem
        if not host or not host_field:
            raise aiohttp.InvalidURL(origin)
        options: dict[str, Any] = {} if route is None or route.tls is None else {"ssl": route.tls}
        self.prefix = ""
        """Before the path in a request line: the origin, for a proxy that is asked without a tunnel."""
        if route is not None and route.proxy is not None:
            options["proxy"] = URL(route.proxy.url)
            login = route.proxy.authorization()
            if url.scheme == "http":
                self.prefix = origin
            elif login is not None:
                options["proxy_headers"] = {"Proxy-Authorization": login}
        self.connector = connector
        self.host = host
        self.host_field = host_field
        self.request: Final = aiohttp.ClientRequest("GET", url, loop=connector.loop, **options)
        """Never sent: the argument that aiohttp's connector takes."""
        self.key: Final[ConnectionKey] = self.request.connection_key
        """The key of the pool: connections with different keys are not interchangeable."""

    def __repr__(self) -> str:
        return f"<Target {self.key.host}:{self.key.port}>"
