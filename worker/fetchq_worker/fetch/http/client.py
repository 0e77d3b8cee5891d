"""The HTTP client of a process: sends one hop over a pooled or a new connection, and returns the response's head."""

from __future__ import annotations

import socket
import ssl
from functools import lru_cache
from typing import Any, Final, Protocol

import aiohttp

from fetchq.contract.request import IDEMPOTENT_METHODS
from fetchq_worker.fetch.egress.guard import Guard
from fetchq_worker.fetch.egress.resolver import GuardedResolver

from .connector import Connector, Target
from .phases import current_phases
from .redirect import Hop
from .request_head import request_head
from .response import Response
from .route import Route
from .tls import StampedTLS, TLSContexts

MAX_TARGETS: Final = 4096
"""Cached targets, one for each origin and route: making one takes a third of the time of a fetch."""

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
        self.default_headers: Final = {"user-agent": user_agent, "accept": "*/*", "accept-encoding": ACCEPT_ENCODING}
        """Sent with every request that does not set them."""
        self._default_lines = {name: f"{name.title()}: {value}" for name, value in self.default_headers.items()}
        if tls is None:
            tls = tls_contexts.context()
        tls.sslobject_class = StampedTLS
        self._connector = Connector(self.resolver, self._open_socket, tls)
        self._proxy_connector: Connector | None = None
        self._target_of = lru_cache(MAX_TARGETS)(self._make_target)

    @property
    def closed(self) -> bool:
        return self._connector.closed

    async def aclose(self) -> None:
        await self._connector.close()
        if self._proxy_connector is not None:
            await self._proxy_connector.close()
        await self.resolver.close()

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
        connector, key = target.connector, target.key
        if route is not None and route.proxy is not None:
            await self.resolver.check_behind_proxy(url, connect_timeout_s)
            login = route.proxy.authorization()
            if target.prefix and login is not None:
                headers = (*headers, ("Proxy-Authorization", login))
        path = target.prefix + url[path_at:].partition("#")[0]
        head = request_head(method, path, target.host_field, self._default_lines, headers=headers, body=hop.body)
        while True:
            phases.connecting(target.host)
            protocol = connector.take_idle(key)
            if protocol is None:
                protocol = await connector.open(target, connect_timeout_s)
            if phases.before_send is not None and not phases.sent:
                try:
                    await phases.before_send()
                except BaseException:
                    connector.release_connection(key, protocol, keep=True)
                    raise
            phases.connected()
            phases.sent = True
            try:
                protocol.send_request(head, hop.body, read_timeout_s, bodiless=method == "HEAD")
                message, content = await protocol.read()
            except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError):
                connector.release_connection(key, protocol, keep=False)
                # The server may close a pooled connection just as it is reused (RFC 9112, section 9.3.1).
                if phases.reused and method in IDEMPOTENT_METHODS:
                    continue
                raise
            except BaseException:
                connector.release_connection(key, protocol, keep=False)
                raise
            phases.responded()
            return Response(method, message, content, target, protocol)

    def _make_target(self, origin: str, route: Route | None) -> Target:
        behind_proxy = route is not None and route.proxy is not None
        return Target(self._connector_to_proxies() if behind_proxy else self._connector, origin, route)

    def _connector_to_proxies(self) -> Connector:
        """Connects to proxies only. The operator's settings name them, so the guard does not check them."""
        if self._proxy_connector is None:
            self._proxy_connector = Connector(aiohttp.AsyncResolver(), _open_unguarded, self._tls_contexts.context())
        return self._proxy_connector

    def _open_socket(self, address: tuple[Any, ...]) -> socket.socket:
        """aiohttp's socket factory: the last step before a connection, and one that no connection can bypass."""
        family, kind, protocol, _, where = address
        self._guard.check_connection(where[0], where[1])
        current_phases.get().resolved()
        return socket.socket(family, kind, protocol)


def _open_unguarded(address: tuple[Any, ...]) -> socket.socket:
    family, kind, protocol, _, _ = address
    current_phases.get().resolved()
    return socket.socket(family, kind, protocol)
