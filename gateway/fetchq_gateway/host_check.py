"""Refuses requests for other hosts, on loopback.

A page in a browser of this machine can reach a port of loopback under a name of its own, by changing what the name
resolves to (DNS rebinding). The Host header still has that name.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Collection
from http import HTTPStatus
from typing import Final

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

_HOST: Final = re.compile(r"(\[[0-9a-f:.]+\]|[^\[\]:,\s]*)(?::[0-9]*)?")
"""A name, an IPv4 or a bracketed IPv6 address, and a port (RFC 9110, section 7.2)."""


class HostCheck:
    """Answers 421 (RFC 9110, section 15.5.20) where the Host header is neither of this machine nor in `allowed`."""

    def __init__(self, app: ASGIApp, allowed: Collection[str] = ()) -> None:
        self._app: Final = app
        self._allowed: Final = {"localhost", *(name.lower().rstrip(".") for name in allowed)}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and not self.accepts(Headers(scope=scope).get("host", "")):
            text = "this host is not served here; --allow-host (FETCHQ_ALLOW_HOST) adds one\n"
            answer = PlainTextResponse(text, HTTPStatus.MISDIRECTED_REQUEST)
            await answer(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def accepts(self, header: str) -> bool:
        """Whether requests with this Host header are answered. A client of HTTP/1.0 sends none; browsers do."""
        found = _HOST.fullmatch(header.strip().lower())
        if found is None:
            return False
        name = found[1].rstrip(".")
        if not name or name in self._allowed:
            return True
        try:
            return ipaddress.ip_address(name.strip("[]")).is_loopback
        except ValueError:
            return False
