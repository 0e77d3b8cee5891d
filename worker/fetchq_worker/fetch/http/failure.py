"""What went wrong, as one of the closed set of outcomes and a sentence for a person.

All that aiohttp, TLS and the system can raise is translated here, and only here. A sentence names no address: to say
which one a name resolves to is to answer questions about the inside of a network.
"""

from __future__ import annotations

import os
import ssl
from typing import Final

import aiohttp
from aiohttp.http_exceptions import HttpProcessingError, LineTooLong

from fetchq import FetchStatus, InvalidRequest
from fetchq_worker.fetch.content.encoding import BrokenCoding, CodingTooLarge
from fetchq_worker.fetch.egress.guard import EgressForbidden

Failure = tuple[FetchStatus, str]

_HEAD_TOO_LARGE: Final = (FetchStatus.TOO_LARGE, "the headers of the answer are larger than is accepted")


class BodyTooLarge(Exception):
    """The decoded body passed `max_bytes`. It never leaves this package."""


class Refused(Exception):
    """A request that is not to be sent, with the outcome that says so. It never leaves this package."""

    def __init__(self, status: FetchStatus, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status


class RedirectsExhausted(Exception):
    """The answer redirects once more than `max_redirects`. It never leaves this package."""


class HeadTooLarge(Exception):
    """The header or trailer fields of an answer passed the limit. It never leaves this package."""


class ResponseMalformed(Exception):
    """An answer that breaks HTTP's rules; the message is the sentence. It never leaves this package."""


def failure_of(problem: Exception, *, answered: bool) -> Failure | None:  # noqa: PLR0912 - a table, one line a kind
    """The outcome that an exception of an attempt stands for; None: it is a fault of our own.

    `answered` says whether the head of an answer had come: a connection that breaks before it is a CONNECT_ERROR, one
    that breaks after it is a body cut short.
    """
    match problem:
        case EgressForbidden():
            return FetchStatus.BLOCKED, str(problem)
        case Refused():
            return problem.status, str(problem)
        case InvalidRequest():
            return FetchStatus.INVALID_URL, f"the redirect cannot be followed: {problem}"
        case BodyTooLarge() | CodingTooLarge():
            return FetchStatus.TOO_LARGE, "the body is larger than max_bytes"
        case HeadTooLarge():
            return _HEAD_TOO_LARGE
        case RedirectsExhausted():
            return FetchStatus.TOO_MANY_REDIRECTS, "there are more redirects than max_redirects"
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
            return FetchStatus.CONNECT_ERROR, f"the proxy answered {problem.status} when asked for a connection"
        case aiohttp.ClientPayloadError():
            return FetchStatus.BAD_RESPONSE, "the body was cut short or is malformed"
        case HttpProcessingError():
            return _malformed(problem)
        case aiohttp.ClientResponseError():  # a proxy's answer to CONNECT
            return _malformed(problem.__cause__)
        case aiohttp.ClientConnectionError() | OSError():
            if answered:
                return FetchStatus.BAD_RESPONSE, "the connection broke in the middle of the body"
            return FetchStatus.CONNECT_ERROR, f"the connection broke before the answer{_because(problem)}"
        case _:
            return None


def _which_timeout(problem: Exception) -> str:
    if isinstance(problem, aiohttp.ConnectionTimeoutError):
        return "no connection within connect_timeout_s"
    if isinstance(problem, aiohttp.SocketTimeoutError):
        return "nothing was received for read_timeout_s"
    return "the attempt took longer than timeout_s"


def _resolving(problem: aiohttp.ClientConnectorDNSError) -> Failure:
    if isinstance(problem.os_error, EgressForbidden):
        return FetchStatus.BLOCKED, str(problem.os_error)
    return FetchStatus.DNS_ERROR, "the name does not resolve"


def _connecting(problem: aiohttp.ClientConnectorError) -> Failure:
    if isinstance(problem.os_error, EgressForbidden):
        return FetchStatus.BLOCKED, str(problem.os_error)
    return FetchStatus.CONNECT_ERROR, f"no connection could be made{_because(problem.os_error)}"


def _because(problem: BaseException) -> str:
    """The system's own words for it, which unlike the exception's hold no address."""
    number = problem.errno if isinstance(problem, OSError) else None
    return f": {os.strerror(number).lower()}" if number else ""


def _tls(problem: Exception) -> str:
    cause = problem.__cause__ if problem.__cause__ is not None else problem
    if isinstance(cause, ssl.SSLCertVerificationError):
        return f"the certificate is not to be trusted: {cause.verify_message}"
    reason = cause.reason if isinstance(cause, ssl.SSLError) else None
    return "the TLS handshake failed" + (f": {reason.replace('_', ' ').lower()}" if reason else "")


def _malformed(problem: BaseException | None) -> Failure:
    """aiohttp's parser: the cause is the parser's own exception."""
    cause = None if problem is None else problem.__cause__
    if cause is not None and is_head_too_large(cause):
        return _HEAD_TOO_LARGE
    return FetchStatus.BAD_RESPONSE, "the answer is not well-formed HTTP"


def is_head_too_large(problem: BaseException) -> bool:
    """Whether aiohttp's parser gave up for the number or the length of header fields."""
    return isinstance(problem, LineTooLong) or "Too many headers" in str(problem)
