"""Opens connections: addresses, TCP, TLS, and tunnels through proxies."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Awaitable, Callable
from typing import Any, Final, Protocol

import aiohappyeyeballs

from fetchq.contract.urls import is_address
from fetchq_worker.fetch.egress.guard import EgressForbidden

from .connection import Connection
from .errors import (
    ConnectFailed,
    ConnectionBroken,
    ConnectTimedOut,
    HandshakeFailed,
    NameUnresolved,
    ProxyRefused,
    ResponseMalformed,
)
from .pool import Pool
from .target import Target

_NEXT_ADDRESS_AFTER_S: Final = 0.25
"""When the next address is tried beside the one before (RFC 8305, section 5)."""

Address = tuple[int, int, int, str, tuple[Any, ...]]
"""Family, kind, protocol, name, and the socket's address, as `socket.getaddrinfo` returns them."""
OpenSocket = Callable[[Address], socket.socket]
"""Makes the socket for an address, or forbids it with an OSError. No connection can be opened without it."""
Resolve = Callable[[str, int], Awaitable[list[str]]]
"""The addresses of a host; an OSError if there are none, or none that may be connected to."""


class Stamps(Protocol):
    """What is told when the phases of connecting begin."""

    def tls_began(self) -> None: ...


class Connector:
    """Opens connections for a pool."""

    def __init__(self, pool: Pool, loop: asyncio.AbstractEventLoop) -> None:
        self._pool = pool
        self._loop = loop

    async def open(
        self, target: Target, resolve: Resolve, open_socket: OpenSocket, timeout_s: float, stamps: Stamps
    ) -> Connection:
        """A new connection to a target, or to its proxy. The timeout covers all steps.

        Raises `NoConnection`, and what what the proxy's response to CONNECT raises, and `EgressForbidden`.
        """
        self._check_open()
        self._pool.make_room()
        try:
            async with asyncio.timeout(timeout_s):
                connection = await self._connect(target, resolve, open_socket, timeout_s, stamps)
        except TimeoutError as problem:
            raise ConnectTimedOut from problem
        if self._pool.is_closed:
            connection.abort()
            self._check_open()
        connection.idle_in = target.idle
        return connection

    def _check_open(self) -> None:
        if self._pool.is_closed:
            raise ConnectionBroken("the client is closed")

    async def _connect(
        self, target: Target, resolve: Resolve, open_socket: OpenSocket, timeout_s: float, stamps: Stamps
    ) -> Connection:
        peer = target if target.proxy is None else target.proxy
        connected = await _connected_socket(peer.host, peer.port, resolve, open_socket)
        if peer.tls is not None:
            stamps.tls_began()
        try:
            _, connection = await self._loop.create_connection(
                lambda: Connection(self._loop, self._pool),
                sock=connected,
                ssl=peer.tls,
                server_hostname=None if peer.tls is None else _tls_name(peer.host),
            )
        except BaseException as problem:
            connected.close()
            raise _as_no_connection(problem) from problem
        if target.is_tunnelled:
            try:
                await self._open_tunnel(connection, target, timeout_s)
                stamps.tls_began()
                await self._begin_tls(connection, target)
            except BaseException:
                connection.abort()
                raise
        return connection

    async def _open_tunnel(self, connection: Connection, target: Target, timeout_s: float) -> None:
        """Asks the proxy for a connection to the target (RFC 9110, section 9.3.6)."""
        where = f"[{target.host}]:{target.port}" if ":" in target.host else f"{target.host}:{target.port}"
        lines = [f"CONNECT {where} HTTP/1.1", f"Host: {where}"]
        if target.proxy is not None and target.proxy.login is not None:
            lines.append(f"Proxy-Authorization: {target.proxy.login}")
        head = "\r\n".join([*lines, "", ""]).encode("latin-1")
        # The timeout of `open` ends first.
        response = await connection.send(head, None, 2 * timeout_s, "CONNECT")
        if response.status // 100 != 2:
            raise ProxyRefused(response.status)
        if not connection.is_usable():
            raise ResponseMalformed("the proxy sent more than a response to CONNECT")

    async def _begin_tls(self, connection: Connection, target: Target) -> None:
        assert target.tls is not None
        try:
            secured = await self._loop.start_tls(
                connection.transport, connection, target.tls, server_hostname=_tls_name(target.host)
            )
        except BaseException as problem:
            raise _as_no_connection(problem) from problem
        if secured is None:
            raise ConnectFailed
        connection.on_secured(secured)


async def _connected_socket(host: str, port: int, resolve: Resolve, open_socket: OpenSocket) -> socket.socket:
    """A socket that is connected to the first address of the host that accepts."""
    addresses = [host] if is_address(host) else await _resolved(host, port, resolve)
    forbidden: list[EgressForbidden] = []

    def open_checked(address: Address) -> socket.socket:
        try:
            opened = open_socket(address)
        except EgressForbidden as problem:
            forbidden.append(problem)
            raise
        opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return opened

    try:
        return await aiohappyeyeballs.start_connection(
            [_socket_address(address, port) for address in addresses],
            happy_eyeballs_delay=_NEXT_ADDRESS_AFTER_S,
            socket_factory=open_checked,
        )
    except (OSError, RuntimeError) as problem:
        if forbidden:
            raise forbidden[0] from None
        raise ConnectFailed from problem


async def _resolved(host: str, port: int, resolve: Resolve) -> list[str]:
    try:
        addresses = await resolve(host, port)
    except EgressForbidden:
        raise
    except OSError as problem:
        raise NameUnresolved from problem
    if not addresses:
        raise NameUnresolved
    return addresses


def _socket_address(address: str, port: int) -> Address:
    if ":" in address:
        return socket.AF_INET6, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (address, port, 0, 0)
    return socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (address, port)


def _tls_name(host: str) -> str:
    """The name for which the server shows its certificate: without a final dot (RFC 6066, section 3)."""
    return host.removesuffix(".")


def _as_no_connection(problem: BaseException) -> BaseException:
    """The exception of ours for one that ended the making of a connection."""
    if isinstance(problem, ssl.SSLError | ValueError):  # ValueError: a host name that cannot be in a certificate
        return HandshakeFailed()
    return ConnectFailed() if isinstance(problem, OSError) else problem
