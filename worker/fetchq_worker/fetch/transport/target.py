"""The destination of requests."""

from __future__ import annotations

import ssl
from typing import Final

from .connection import Connection
from .errors import InvalidTarget

_DEFAULT_PORTS: Final = {"http": 80, "https": 443}


class Proxying:
    """The proxy of a target."""

    __slots__ = ("host", "login", "port", "tls")

    def __init__(self, url: str, tls: ssl.SSLContext, login: str | None) -> None:
        """`login` is the value of a Proxy-Authorization field; `tls` is used if the URL is https."""
        scheme, self.host, self.port, _ = split_origin(url.rstrip("/"))
        self.tls = tls if scheme == "https" else None
        self.login = login


class Target:
    """An origin, and how to connect to it."""

    __slots__ = ("host", "host_field", "idle", "origin", "plain_tail", "port", "prefix", "proxy", "tls")

    def __init__(self, origin: str, tls: ssl.SSLContext, proxy: Proxying | None = None) -> None:
        """`origin` is a serialised URL up to its path. Raises `InvalidTarget`."""
        scheme, self.host, self.port, authority = split_origin(origin)
        self.origin = origin
        self.tls = tls if scheme == "https" else None
        self.proxy = proxy
        self.host_field = authority
        """The value of a Host field."""
        self.prefix = origin if proxy is not None and self.tls is None else ""
        """Before the path in a request line: a proxy that opens no tunnel reads the whole URL there."""
        self.plain_tail = b""
        """The head of a plain request from the end of its path on; set by the client."""
        self.idle: list[Connection] = []
        """Idle connections, which the pool adds and takes."""

    def __repr__(self) -> str:
        return f"<Target {self.origin}>"

    @property
    def is_tunnelled(self) -> bool:
        """Whether the proxy only passes bytes on."""
        return self.proxy is not None and self.tls is not None


def split_origin(origin: str) -> tuple[str, str, int, str]:
    """Scheme, host without brackets, port, and authority without the final dot of a name; raises `InvalidTarget`."""
    scheme, mark, authority = origin.partition("://")
    port: int | None = _DEFAULT_PORTS.get(scheme)
    host, digits = authority, ""
    if not authority.endswith("]"):
        host, colon, digits = authority.rpartition(":")
        if not colon:
            host, digits = authority, ""
    if not mark or port is None or not host.strip("[].") or "@" in host or (digits and not digits.isdigit()):
        raise InvalidTarget(origin)
    if digits:
        port = int(digits)
    name = host.rstrip(".")
    return scheme, host.strip("[]"), port, f"{name}:{digits}" if digits else name
