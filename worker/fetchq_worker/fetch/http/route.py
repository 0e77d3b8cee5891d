"""The way that a request takes to its server, where that is not the plain one."""

from __future__ import annotations

import ssl

import msgspec

from fetchq_worker.fetch.access.credentials import Proxy


class Route(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """How connections are made for one attempt."""

    name: str = ""
    """Tells ways apart that may show different answers."""
    tls: ssl.SSLContext | None = None
    """In place of the client's own."""
    proxy: Proxy | None = None
