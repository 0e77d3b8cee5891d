"""How the connections of an attempt are made: through which proxy, and with which TLS settings."""

from __future__ import annotations

import ssl

import msgspec

from fetchq_worker.fetch.access.credentials import Proxy


class Route(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Anything but a direct connection with the client's own TLS context."""

    name: str = ""
    """Differs between routes along which a server may respond differently. Part of the keys of caches."""
    tls: ssl.SSLContext | None = None
    """Replaces the client's own context."""
    proxy: Proxy | None = None
