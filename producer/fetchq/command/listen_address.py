"""Where a program listens for HTTP. Imports little of the standard library: `fetchq worker --check` must be cheap."""

from __future__ import annotations

import os
from typing import Final, NamedTuple

MAX_PATH_BYTES: Final = 103
"""The address of a unix socket has room for 103 bytes on macOS, and for 107 on Linux."""


class ListenAddress(NamedTuple):
    """The address of a listener: a unix socket where `path` is not empty, else a host and port."""

    host: str
    port: int
    path: str

    def to_ask(self) -> ListenAddress:
        """The address at which a listener on all interfaces is asked."""
        loopback = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - nothing is bound here
        return self._replace(host=loopback.get(self.host, self.host))

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return self.path or f"{host}:{self.port}"


def parse_address(text: str) -> ListenAddress:
    """`HOST:PORT`, `[IPV6]:PORT`, `:PORT` for all interfaces, or the path of a unix socket. Raises `ValueError`."""
    path = text.removeprefix("unix:")
    if path.startswith("/"):
        path = f"/{path.lstrip('/')}"
        if len(os.fsencode(path)) > MAX_PATH_BYTES:
            raise ValueError(f"the path of a unix socket has at most {MAX_PATH_BYTES} bytes")
        return ListenAddress("", 0, path)
    host, colon, port = text.rpartition(":")
    is_number = port.isascii() and port.isdigit() and int(port) < 65_536
    host, is_bracketed = (host[1:-1], True) if host.startswith("[") and host.endswith("]") else (host, False)
    if not colon or not is_number or (":" in host) != is_bracketed or not host.isprintable() or " " in host:
        raise ValueError(f"takes HOST:PORT or the absolute path of a unix socket, not {text!r}")
    return ListenAddress(host, int(port), "")
