"""Maps every exception of an attempt to an outcome of the closed set and an error sentence.

No other module translates what aiohttp, TLS and the operating system raise. A sentence contains no IP address: it would
reveal what a name resolves to inside the worker's network.
"""

from __future__ import annotations

import os
import ssl
from typing import Final

import aiohttp
from aiohttp.http_exceptions import HttpProcessingError

from fetchq import FetchStatus, InvalidRequest
from fetchq_worker.fetch.content.errors import BrokenCoding, CodingTooLarge
from fetchq_worker.fetch.egress.guard import EgressForbidden

from .errors import BodyTooLarge, HeadTooLarge, RequestRefused, ResponseMalformed, TooManyRedirects, is_head_too_large

Failure = tuple[FetchStatus, str]

_HEAD_TOO_LARGE: Final = (FetchStatus.TOO_LARGE, "the headers of the response are larger than the limit")


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
            return _HEAD_TOO_LARGE
        case TooManyRedirects():
            return FetchStatus.TOO_MANY_REDIRECTS, str(problem)
        case BrokenCoding() | ResponseMalformed():
            return FetchStatus.BAD_RESPONSE, str(problem)
        case aiohttp.ServerTimeoutError() | TimeoutError():
            return FetchStatus.TIMEOUT, _which_timeout(problem)
        case aiohttp.ClientConnectorDNSError():
            return _resolving(problem)
        case aiohttp.ClientConnectorCertificateError() | aiohttp.ClientSSLError() | ssl.SSLError():
            return FetchStatus.TLS_ERROR, _tls(problem)
        case aiohttp.ClientConnectorError():
            return _connecting(problem)
        case aiohttp.InvalidURL():
            return FetchStatus.INVALID_URL, "the URL cannot be fetched"
        case aiohttp.ClientHttpProxyError():
            return FetchStatus.CONNECT_ERROR, f"the proxy responded {problem.status} to CONNECT"
        case aiohttp.ClientPayloadError():
            return FetchStatus.BAD_RESPONSE, "the body is truncated or malformed"
        case HttpProcessingError():
            return _malformed(problem)
        case aiohttp.ClientResponseError():  # a proxy's response to CONNECT
            return _malformed(problem.__cause__)
        case aiohttp.ClientConnectionError() | OSError():
            if responded:
                return FetchStatus.BAD_RESPONSE, "the connection broke in the middle of the body"
            return FetchStatus.CONNECT_ERROR, f"the connection broke before the response{_because(problem)}"
        case _:
            return None


def _which_timeout(problem: Exception) -> str:
    if isinstance(problem, aiohttp.ConnectionTimeoutError):
        return "no connection within connect_timeout_s"
    if isinstance(problem, aiohttp.SocketTimeoutError):
        return "no data was received for read_timeout_s"
    return "the attempt took longer than timeout_s"


def _resolving(problem: aiohttp.ClientConnectorDNSError) -> Failure:
    if isinstance(problem.os_error, EgressForbidden):
        return FetchStatus.BLOCKED, str(problem.os_error)
    return FetchStatus.DNS_ERROR, str(problem.os_error)


def _connecting(problem: aiohttp.ClientConnectorError) -> Failure:
    if isinstance(problem.os_error, EgressForbidden):
        return FetchStatus.BLOCKED, str(problem.os_error)
    return FetchStatus.CONNECT_ERROR, f"the connection failed{_because(problem.os_error)}"


def _because(problem: BaseException) -> str:
    """The operating system's message, which unlike the exception's contains no address."""
    number = problem.errno if isinstance(problem, OSError) else None
    return f": {os.strerror(number).lower()}" if number else ""


def _tls(problem: Exception) -> str:
    cause = problem.__cause__ if problem.__cause__ is not None else problem
    if isinstance(cause, ssl.SSLCertVerificationError):
        return f"the certificate is not trusted: {cause.verify_message}"
    reason = cause.reason if isinstance(cause, ssl.SSLError) else None
    return "the TLS handshake failed" + (f": {reason.replace('_', ' ').lower()}" if reason else "")


def _malformed(problem: BaseException | None) -> Failure:
    """A failure of aiohttp's parser, whose own exception is the cause."""
    cause = None if problem is None else problem.__cause__
    if cause is not None and is_head_too_large(cause):
        return _HEAD_TOO_LARGE
    return FetchStatus.BAD_RESPONSE, "the response is not well-formed HTTP"
