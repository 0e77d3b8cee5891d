"""The phases of one attempt: how long each took, and whether anything was sent.

The client, its connector and the socket factory stamp them.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from time import monotonic
from typing import Final

from fetchq import Timing
from fetchq.contract.urls import is_address
from fetchq_worker.fetch.transport.headers import Headers

from .errors import RobotsUnavailable

BeforeSend = Callable[[], Awaitable[None]]
"""Awaited once, after the first connection is made and before the first byte of the request is written."""

OnResponse = Callable[[str, int, Headers], Awaitable[None]]
"""Awaited with URL, status and headers of each response, before its body is read."""


class Phases:
    """Seconds per phase, summed over the hops of one attempt."""

    __slots__ = (
        "_began",
        "_head_wait_began",
        "_hop_began",
        "_host",
        "_socket_at",
        "_tls_at",
        "before_send",
        "connect_s",
        "dns_s",
        "first_byte_s",
        "on_response",
        "reused",
        "robots_unavailable",
        "sent",
        "tls_s",
    )

    def __init__(self, before_send: BeforeSend | None = None, on_response: OnResponse | None = None) -> None:
        self._began = self._hop_began = self._head_wait_began = monotonic()
        self._socket_at = self._tls_at = 0.0
        self._host = ""
        self.before_send = before_send
        self.on_response = on_response
        self.dns_s: float | None = None
        self.connect_s: float | None = None
        self.tls_s: float | None = None
        self.first_byte_s: float | None = None
        self.reused = False
        """Whether the current connection served a request before."""
        self.sent = False
        """Whether a byte of the request may have been sent: a server may have acted on it."""
        self.robots_unavailable: RobotsUnavailable | None = None
        """Why the attempt ended, if it was for a robots.txt that could not be had."""

    def connecting(self, host: str) -> None:
        """A pooled or new connection to `host` is requested."""
        self._host = host
        self._hop_began = monotonic()
        self._socket_at = self._tls_at = 0.0
        self.reused = False

    def resolved(self) -> None:
        """The name is resolved, and a socket is about to be opened. Only the first socket of a hop counts."""
        if not self._socket_at:
            self._socket_at = monotonic()
            if not is_address(self._host):
                self.dns_s = (self.dns_s or 0.0) + self._socket_at - self._hop_began

    def tls_began(self) -> None:
        """The handshake is about to begin. Only the first one of a hop counts."""
        if not self._tls_at:
            self._tls_at = monotonic()

    def connected(self) -> None:
        """The connection is ready; the request is sent next."""
        now = monotonic()
        self.reused = not self._socket_at
        if not self.reused:
            tcp_ended = self._tls_at or now
            self.connect_s = (self.connect_s or 0.0) + tcp_ended - self._socket_at
            if self._tls_at:
                self.tls_s = (self.tls_s or 0.0) + now - self._tls_at
        self._head_wait_began = now

    def responded(self) -> None:
        """The head of a response has arrived."""
        self.first_byte_s = (self.first_byte_s or 0.0) + monotonic() - self._head_wait_began

    def elapsed_s(self) -> float:
        return monotonic() - self._began

    def timing(self, queued_s: float | None, total_s: float) -> Timing:
        return Timing(
            queued_s=queued_s,
            dns_s=self.dns_s,
            connect_s=self.connect_s,
            tls_s=self.tls_s,
            first_byte_s=self.first_byte_s,
            total_s=total_s,
        )


current_phases: Final[ContextVar[Phases]] = ContextVar("fetchq_phases")
"""The phases of the attempt in this context, inherited by the tasks that it starts."""
