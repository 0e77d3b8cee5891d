"""Connections: those that wait for another request, and new ones, which the guard has seen.

aiohttp's connector looks names up, races addresses, shakes hands and pools. Its session, request and response are not
used: they were half of what a fetch cost (`python -m bench.fetch_cost`). Of its private names these are relied on, at
the version that is pinned: `_factory`, `_create_connection`, `_conns`, `_acquired`, `_closed`, `_loop`, `_release`.
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
"""Hosts for which idle connections are kept: a crawl of many hosts must not use up the process's file descriptors."""

_UNTIMED: Final = aiohttp.ClientTimeout(total=None)
"""The connector's own limits are off: `Connector.open` has one for all that it does."""

SocketFactory = Callable[[tuple[Any, ...]], socket.socket]


class Connector(aiohttp.TCPConnector):
    """aiohttp's, with an entrance for a caller that needs no session, and a bound on idle connections."""

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
        """A connection that waits for another request. It is the caller's until he gives it back."""
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
        """A new connection. It is the caller's until he gives it back.

        Raises aiohttp's errors, and `ConnectionTimeoutError` after `timeout_s`.
        """
        self._check_open()
        try:
            async with asyncio.timeout(timeout_s):
                protocol = await self._create_connection(target.request, [], _UNTIMED)
        except TimeoutError as problem:
            raise aiohttp.ConnectionTimeoutError("no connection in time") from problem
        try:
            self._check_open()  # it may have been closed meanwhile
        except aiohttp.ClientConnectionError:
            protocol.close()
            raise
        self._acquired.add(protocol)
        return cast(ConnectionProtocol, protocol)

    def _check_open(self) -> None:
        if self._closed:
            raise aiohttp.ClientConnectionError("the client is closed")

    def give_back(self, key: ConnectionKey, protocol: ConnectionProtocol, *, keep: bool) -> None:
        """The caller is done with it. With `keep`, it waits for another request if it is fit for one."""
        transport = protocol.transport
        if transport is not None and transport.get_write_buffer_size():
            protocol.abort()  # closing would wait until what was written has gone, and the server may never take it
        if keep and protocol.transport is not None and len(self._conns) < MAX_IDLE_HOSTS and protocol.park():
            self._release(key, protocol)
        else:
            self._release(key, protocol, should_close=True)


class Target:
    """Where the requests to one origin go, along one route."""

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
        """What stands before the path in a request line: the origin, where a proxy without a tunnel is asked."""
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
        """Never sent: it tells the connector where to."""
        self.key: Final[ConnectionKey] = self.request.connection_key
        """What tells connections apart that may not stand in for each other."""

    def __repr__(self) -> str:
        return f"<Target {self.key.host}:{self.key.port}>"
