"""Opens connections: addresses, TCP, TLS, and tunnels through proxies."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Awaitable, Callable, Sequence
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
    NoAddress,
    ProxyRefused,
    ResponseMalformed,
)
from .pool import Pool
from .target import Proxying, Target

_NEXT_ADDRESS_AFTER_S: Final = 0.25
"""When the next address is tried beside the one before (RFC 8305, section 5)."""

_LONGER_THAN_ANY_S: Final = 86_400.0
"""The read timeout of CONNECT: the timeout for the whole connection is shorter."""

Address = tuple[int, int, int, str, tuple[Any, ...]]
"""Family, kind, protocol, name, and the socket's address, as `socket.getaddrinfo` returns them."""
OpenSocket = Callable[[Address], socket.socket]
"""Makes the socket for an address, or forbids it with an OSError. No connection can be opened without it."""
Resolve = Callable[[str, float], Awaitable[Sequence[str]]]
"""The addresses of a name, within a timeout in seconds: a TimeoutError after it, an OSError if there are none, and
`EgressForbidden` if one of them is."""


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

        Raises `NoConnection`, and what the proxy's response to CONNECT raises, and `EgressForbidden`.
        """
        self._check_open()
        ends_at = self._loop.time() + timeout_s
        peer = target if target.proxy is None else target.proxy
        addresses = [peer.host] if is_address(peer.host) else await _resolved(peer.host, resolve, timeout_s)
        self._pool.make_room()
        try:
            async with asyncio.timeout_at(ends_at):
                connection = await self._connect(peer, addresses, open_socket, stamps)
                if target.is_tunnelled:
                    await self._tunnel(connection, target, stamps)
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
        self, peer: Target | Proxying, addresses: Sequence[str], open_socket: OpenSocket, stamps: Stamps
    ) -> Connection:
        connected = await _connected_socket(addresses, peer.port, open_socket)
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
        return connection

    async def _tunnel(self, connection: Connection, target: Target, stamps: Stamps) -> None:
        """Makes the proxy connect to the target, and begins TLS with the target."""
        try:
            await _open_tunnel(connection, target)
            stamps.tls_began()
            await self._begin_tls(connection, target)
        except BaseException:
            connection.abort()
            raise

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


async def _open_tunnel(connection: Connection, target: Target) -> None:
    """Asks a proxy for a connection to the target (RFC 9110, section 9.3.6)."""
    where = f"[{target.host}]:{target.port}" if ":" in target.host else f"{target.host}:{target.port}"
    lines = [f"CONNECT {where} HTTP/1.1", f"Host: {where}"]
    if target.proxy is not None and target.proxy.login is not None:
        lines.append(f"Proxy-Authorization: {target.proxy.login}")
    head = "\r\n".join([*lines, "", ""]).encode("latin-1")
    response = await connection.send(head, None, _LONGER_THAN_ANY_S, "CONNECT")
    if response.status // 100 != 2:
        raise ProxyRefused(response.status)
    if not connection.is_usable():
        raise ResponseMalformed("the proxy sent more than a response to CONNECT")


async def _connected_socket(addresses: Sequence[str], port: int, open_socket: OpenSocket) -> socket.socket:
    """A socket that is connected to the first address that accepts."""
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


async def _resolved(host: str, resolve: Resolve, timeout_s: float) -> Sequence[str]:
    try:
        addresses = await resolve(host, timeout_s)
    except EgressForbidden:
        raise
    except TimeoutError as problem:
        raise ConnectTimedOut(str(problem)) from problem
    except OSError as problem:
        raise NoAddress(str(problem)) from problem
    if not addresses:
        raise NoAddress("the name does not resolve: it does not exist or has no address")
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
