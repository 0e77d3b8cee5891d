"""The sockets on which the gateway listens."""

from __future__ import annotations

import asyncio
import os
import socket
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from fetchq.command.listen_address import ListenAddress
from fetchq.command.settings import InvalidSetting

BACKLOG: Final = 1024


@asynccontextmanager
async def listening(address: ListenAddress) -> AsyncIterator[list[socket.socket]]:
    """Sockets that listen at the address: one for each address of its host. Raises `InvalidSetting` if it cannot.

    The path of a unix socket whose process has ended is taken. At the end the path is removed.
    """
    sockets: list[socket.socket] = []
    try:
        try:
            if address.path:
                sockets.append(_listen_on_path(address.path))
            else:
                await _listen_on_port(address, sockets)
        except OSError as problem:
            why = (problem.strerror or str(problem)).lower()
            raise InvalidSetting.of("listen", f"cannot listen on {address}: {why}") from problem
        yield sockets
    finally:
        for one in sockets:
            one.close()
        if address.path and sockets:
            _remove(address.path)


def _listen_on_path(path: str) -> socket.socket:
    if os.path.lexists(path):
        _take_over(path)
    one = socket.socket(socket.AF_UNIX)
    one.bind(path)
    one.listen(BACKLOG)
    return one


def _take_over(path: str) -> None:
    """Removes the socket of a process that has ended. Raises `OSError` for any other file."""
    if not stat.S_ISSOCK(os.lstat(path).st_mode):
        raise FileExistsError("the file is not a socket")
    with socket.socket(socket.AF_UNIX) as other:
        other.settimeout(1.0)
        try:
            other.connect(path)
        except ConnectionRefusedError:
            _remove(path)
        else:
            raise FileExistsError("another process listens on it")


def _remove(path: str) -> None:
    Path(path).unlink(missing_ok=True)


async def _listen_on_port(address: ListenAddress, sockets: list[socket.socket]) -> None:
    found = await asyncio.get_running_loop().getaddrinfo(
        address.host or None, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )
    port = address.port
    for family, kind, protocol, _, where in dict.fromkeys(found):
        try:
            one = socket.socket(family, kind, protocol)
        except OSError:  # a machine without IPv6 can still have addresses of it in its hosts file
            continue
        sockets.append(one)
        if os.name == "posix":  # on Windows it lets two programs share a port
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        one.bind((where[0], port, *where[2:]))
        one.listen(BACKLOG)
        port = port or one.getsockname()[1]  # with port 0, the same on all addresses
    if not sockets:
        raise OSError("the host has no address here")


def names_of(sockets: list[socket.socket]) -> str:
    """The addresses, for a log line."""
    names = [one.getsockname() for one in sockets]
    return ",".join(name if isinstance(name, str) else str(ListenAddress(name[0], name[1], "")) for name in names)
