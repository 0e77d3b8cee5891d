"""Every connect() of this process, seen where Python hands it to the system."""

from __future__ import annotations

import sys
from ipaddress import ip_address
from types import TracebackType
from typing import Any, Self

_watching: list[SocketWatch] = []


class SocketWatch:
    """The addresses and ports that were connected to while it watched.

    Seen by the interpreter's own audit event (PEP 578), which asyncio and uvloop pass alike and no argument of ours can
    get around. A connection that would leave this machine is refused there, before a packet goes.
    """

    def __init__(self) -> None:
        self.connects: list[tuple[str, int]] = []

    def __enter__(self) -> Self:
        _watching.append(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        _watching.remove(self)


def _on_audit(event: str, arguments: tuple[Any, ...]) -> None:
    if event != "socket.connect" or not _watching:
        return
    where = arguments[1]
    if not isinstance(where, tuple):  # a unix socket's path
        return
    for watch in _watching:
        watch.connects.append((where[0], where[1]))
    if not ip_address(where[0]).is_loopback:
        raise ConnectionRefusedError(111, "Connection refused")


sys.addaudithook(_on_audit)
