"""Records every connect() of this process."""

from __future__ import annotations

import sys
from ipaddress import ip_address
from types import TracebackType
from typing import Any, Self

_watching: list[SocketWatch] = []


class SocketWatch:
    """The addresses and ports of the connections made inside the `with` block.

    Recorded by the interpreter's audit event (PEP 578), which asyncio and uvloop both raise. A connection that would
    leave this machine is refused before a packet is sent.
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
