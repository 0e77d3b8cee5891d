"""The HTTP client of a process: sends one hop over a pooled or a new connection, and returns the response's head."""

from __future__ import annotations

import asyncio
import socket
import ssl
from functools import lru_cache, partial
from typing import Final, Protocol

from fetchq.contract.request import IDEMPOTENT_METHODS
from fetchq_worker.fetch.egress.guard import Guard
from fetchq_worker.fetch.egress.lookup import Lookups, NameServersSilent
from fetchq_worker.fetch.egress.resolver import GuardedResolver
from fetchq_worker.fetch.transport.connection import Connection
from fetchq_worker.fetch.transport.connector import Address, Connector
from fetchq_worker.fetch.transport.errors import ConnectionBroken
from fetchq_worker.fetch.transport.pool import Pool
from fetchq_worker.fetch.transport.response import Response
from fetchq_worker.fetch.transport.target import Proxying, Target

from .phases import Phases, current_phases
from .redirect import Hop
from .request_head import plain_head, plain_tail, request_head
from .route import Route
from .tls import TLSContexts

MAX_TARGETS: Final = 8192
"""Cached targets, one for each origin and route; more than there can be open connections."""

ACCEPT_ENCODING: Final = "gzip, deflate, br, zstd"


class Send(Protocol):
    """The only part of an HTTP client that an attempt uses, so that another client can replace this one."""

    async def __call__(
        self, hop: Hop, connect_timeout_s: float, read_timeout_s: float, route: Route | None = None
    ) -> Response:
        """As `HttpClient.send`."""


class HttpClient:
    """Made inside a running event loop, closed by `aclose`."""

    def __init__(
        self,
        guard: Guard,
        tls_contexts: TLSContexts,
        *,
        user_agent: str,
        nameservers: tuple[str, ...] = (),
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """`tls` replaces the default context; `nameservers` (`address:port`) replace the system's."""
        self._guard = guard
        self._tls_contexts = tls_contexts
        self.resolver = GuardedResolver(guard, nameservers)
        self._proxy_lookups = Lookups()
        self.default_headers: Final = {"user-agent": user_agent, "accept": "*/*", "accept-encoding": ACCEPT_ENCODING}
        """Sent with every request that does not set them."""
        self._default_lines = {name: f"{name.title()}: {value}" for name, value in self.default_headers.items()}
        self._tls = tls_contexts.context() if tls is None else tls
        loop = asyncio.get_running_loop()
        self.pool = Pool(loop)
        self._connector = Connector(self.pool, loop)
        self._target_of = lru_cache(MAX_TARGETS)(self._make_target)

    @property
    def closed(self) -> bool:
        return self.pool.is_closed

    async def aclose(self) -> None:
        self.pool.close()
        await self.resolver.close()
        await self._proxy_lookups.aclose()

    async def send(
        self, hop: Hop, connect_timeout_s: float, read_timeout_s: float, route: Route | None = None
    ) -> Response:
        """Connects to an address that the guard allows, sends the request, and waits for the head of the response.

        The body is not read, and not decoded. Raises what `failure.failure_of` translates, and `SendingAborted`.
        """
        phases = current_phases.get()
        url, method, headers = hop.url, hop.method, hop.headers
        path_at = url.find("/", 8)  # a serialised http URL has a path, and the shortest host ends here
        target = self._target_of(url[:path_at], route)
        if target.proxy is not None:
            await self.resolver.check_behind_proxy(url, connect_timeout_s)
            if target.prefix and target.proxy.login is not None:
                headers = (*headers, ("Proxy-Authorization", target.proxy.login))
        path = target.prefix + url[path_at:].partition("#")[0]
        if method == "GET" and not headers and hop.body is None:
            head = plain_head(path, target.plain_tail)
        else:
            head = request_head(method, path, target.host_field, self._default_lines, headers=headers, body=hop.body)
        while True:
            phases.connecting(target.host)
            connection = self.pool.take(target.idle)
            if connection is None:
                connection = await self._open(target, connect_timeout_s, phases)
            if phases.before_send is not None and not phases.sent:
                await self._before_send(connection, phases)
            phases.connected()
            phases.sent = True
            waiter = connection.send(head, hop.body, read_timeout_s, method)
            try:
                response = await waiter
            except ConnectionBroken:
                # The server may close a pooled connection just as it is reused (RFC 9112, section 9.3.1).
                if phases.reused and method in IDEMPOTENT_METHODS:
                    continue
                raise
            except BaseException:
                connection.give_up(waiter)
                raise
            phases.responded()
            return response

    async def _before_send(self, connection: Connection, phases: Phases) -> None:
        assert phases.before_send is not None
        try:
            await phases.before_send()
        except BaseException:
            connection.park()
            raise

    async def _open(self, target: Target, timeout_s: float, phases: Phases) -> Connection:
        if target.proxy is None:
            open_socket = partial(self._open_socket, phases)
            return await self._connector.open(target, self.resolver.addresses, open_socket, timeout_s, phases)
        open_socket = partial(_open_unguarded, phases)
        return await self._connector.open(target, self._proxy_addresses, open_socket, timeout_s, phases)

    def _make_target(self, origin: str, route: Route | None) -> Target:
        proxying, tls = None, self._tls
        if route is not None:
            proxy, tls = route.proxy, route.tls or tls
            if proxy is not None:
                proxying = Proxying(proxy.url, self._tls_contexts.context(), proxy.authorization())
        target = Target(origin, tls, proxying)
        target.plain_tail = plain_tail(target.host_field, self._default_lines)
        return target

    def _open_socket(self, phases: Phases, address: Address) -> socket.socket:
        """The last step before a connection, and one that no connection can bypass."""
        family, kind, protocol, _, where = address
        self._guard.check_connection(where[0], where[1])
        phases.resolved()
        return socket.socket(family, kind, protocol)

    async def _proxy_addresses(self, host: str, timeout_s: float) -> tuple[str, ...]:
        try:
            async with asyncio.timeout(timeout_s):
                return await self._proxy_lookups.resolve(host)
        except TimeoutError as problem:
            raise NameServersSilent from problem


def _open_unguarded(phases: Phases, address: Address) -> socket.socket:
    """For proxies. The operator's settings name them, so the guard does not check them."""
    family, kind, protocol, _, _ = address
    phases.resolved()
    return socket.socket(family, kind, protocol)
