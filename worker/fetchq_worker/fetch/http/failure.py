"""Maps every exception of an attempt to an outcome of the closed set and an error sentence.

No other module translates what the transport, TLS and the operating system raise. A sentence contains no IP address: it
would reveal what a name resolves to inside the worker's network.
"""

from __future__ import annotations

import os
import ssl

from fetchq import FetchStatus, InvalidRequest
from fetchq_worker.fetch.content.errors import BrokenCoding, CodingTooLarge
from fetchq_worker.fetch.egress.guard import EgressForbidden
from fetchq_worker.fetch.transport.errors import (
    BodyBroken,
    ConnectFailed,
    ConnectionBroken,
    ConnectTimedOut,
    HandshakeFailed,
    HeadTooLarge,
    InvalidTarget,
    NoAddress,
    ProxyRefused,
    ReadTimedOut,
    ResponseMalformed,
)

from .errors import BodyTooLarge, RequestRefused, TooManyRedirects

Failure = tuple[FetchStatus, str]


def failure_of(problem: Exception, *, responded: bool) -> Failure | None:  # noqa: PLR0912 - a table
    """The outcome and the error sentence of an exception; None for a bug of the worker.

    `responded` says whether the head of a response had arrived: a connection that breaks before it is a CONNECT_ERROR,
    one that breaks after it is a BAD_RESPONSE with a truncated body.
    """
    match problem:
        case EgressForbidden():
            return FetchStatus.BLOCKED, str(problem)
        case RequestRefused():
            return problem.status, str(problem)
        case InvalidRequest():
            return FetchStatus.INVALID_URL, f"the redirect cannot be followed: {problem}"
        case BodyTooLarge() | CodingTooLarge():
            return FetchStatus.TOO_LARGE, "the body is larger than max_bytes"
        case HeadTooLarge():
            return FetchStatus.TOO_LARGE, "the headers of the response are larger than the limit"
        case TooManyRedirects():
            return FetchStatus.TOO_MANY_REDIRECTS, str(problem)
        case BrokenCoding() | ResponseMalformed():
            return FetchStatus.BAD_RESPONSE, str(problem)
        case ConnectTimedOut():
            return FetchStatus.TIMEOUT, str(problem)
        case ReadTimedOut():
            return FetchStatus.TIMEOUT, "no data was received for read_timeout_s"
        case TimeoutError():
            return FetchStatus.TIMEOUT, "the attempt took longer than timeout_s"
        case NoAddress():
            return FetchStatus.DNS_ERROR, str(problem)
        case HandshakeFailed() | ssl.SSLError():
            return FetchStatus.TLS_ERROR, _tls(problem)
        case ConnectFailed():
            return FetchStatus.CONNECT_ERROR, f"the connection failed{_because(problem.__cause__)}"
        case ProxyRefused():
            return FetchStatus.CONNECT_ERROR, str(problem)
        case InvalidTarget():
            return FetchStatus.INVALID_URL, "the URL cannot be fetched"
        case BodyBroken():
            return FetchStatus.BAD_RESPONSE, "the body is truncated or malformed"
        case ConnectionBroken() | OSError():
            if responded:
                return FetchStatus.BAD_RESPONSE, "the connection broke in the middle of the body"
            return (
                FetchStatus.CONNECT_ERROR,
                f"the connection broke before the response{_because(problem.__cause__ or problem)}",
            )
        case _:
            return None


def _because(problem: BaseException | None) -> str:
    """The operating system's message, which unlike the exception's contains no address."""
    number = problem.errno if isinstance(problem, OSError) else None
    return f": {os.strerror(number).lower()}" if number else ""


def _tls(problem: Exception) -> str:
    cause = problem.__cause__ if problem.__cause__ is not None else problem
    if isinstance(cause, ssl.SSLCertVerificationError):
        return f"the certificate is not trusted: {cause.verify_message}"
    reason = cause.reason if isinstance(cause, ssl.SSLError) else None
    return "the TLS handshake failed" + (f": {reason.replace('_', ' ').lower()}" if reason else "")
