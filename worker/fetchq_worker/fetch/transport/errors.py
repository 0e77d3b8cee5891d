"""What can go wrong with a connection or a response. `fetch.http.failure` turns these exceptions into outcomes.

InvalidTarget
NoConnection
    NoAddress, ConnectFailed, ConnectTimedOut, HandshakeFailed, ProxyRefused
ConnectionBroken
ReadTimedOut
ResponseMalformed
HeadTooLarge
BodyBroken
"""

from __future__ import annotations


class InvalidTarget(Exception):
    """No request can be made to this URL."""


class NoConnection(Exception):
    """No connection was made, so nothing was sent. The cause is the library's or the system's exception."""


class NoAddress(NoConnection):
    """The name does not resolve. The message is a sentence that says why."""


class ConnectFailed(NoConnection):
    """None of the addresses accepted a connection, or it broke before it was ready."""


class ConnectTimedOut(NoConnection):
    """There was no connection within the timeout. The message is a sentence that says so."""

    def __init__(self, message: str = "no connection within connect_timeout_s") -> None:
        super().__init__(message)


class HandshakeFailed(NoConnection):
    """TLS: the handshake failed, or the certificate is not trusted."""


class ProxyRefused(NoConnection):
    """A proxy did not open a tunnel."""

    def __init__(self, status: int) -> None:
        super().__init__(f"the proxy responded {status} to CONNECT")
        self.status = status


class ConnectionBroken(Exception):
    """The connection ended before the response began."""


class ReadTimedOut(Exception):
    """Nothing was received for the read timeout."""


class ResponseMalformed(Exception):
    """A response that violates HTTP. The message is the error of the result."""


class HeadTooLarge(Exception):
    """The head or the trailer section of a response is larger than the limit."""


class BodyBroken(Exception):
    """The body is truncated, or malformed in its framing."""
