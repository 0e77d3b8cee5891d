"""The closed set of outcomes of a fetch."""

from enum import StrEnum
from typing import Final


class FetchStatus(StrEnum):
    """The outcome of a fetch. Any other value is an error, never an outcome."""

    OK = "OK"
    NOT_MODIFIED = "NOT_MODIFIED"
    """304: the copy that the request's `etag` or `last_modified` describes is still current (RFC 9110, section
    15.4.5)."""
    HTTP_ERROR = "HTTP_ERROR"
    """A complete response with a 4xx or 5xx code, or a 3xx code that cannot be followed."""
    INVALID_URL = "INVALID_URL"
    """The URL, or the target of a redirect, is not an http or https URL."""
    BLOCKED = "BLOCKED"
    """The worker's egress policy forbids the address."""
    ROBOTS_DENIED = "ROBOTS_DENIED"
    """The host's robots.txt forbids the URL (RFC 9309)."""
    DNS_ERROR = "DNS_ERROR"
    CONNECT_ERROR = "CONNECT_ERROR"
    """The connection was refused, failed, or broke before the response began."""
    TLS_ERROR = "TLS_ERROR"
    TIMEOUT = "TIMEOUT"
    TOO_MANY_REDIRECTS = "TOO_MANY_REDIRECTS"
    TOO_LARGE = "TOO_LARGE"
    """The decoded body, or the headers, exceeded the limit."""
    BAD_RESPONSE = "BAD_RESPONSE"
    """Malformed HTTP, a truncated body, or an encoding that does not decode."""
    CANCELLED = "CANCELLED"
    EXPIRED = "EXPIRED"
    """The deadline passed before the job could start."""
    WORKER_LOST = "WORKER_LOST"
    """The worker process ended while running the job, and the job may not run again."""
    INVALID_JOB = "INVALID_JOB"
    """The job cannot be decoded, or names a function that no worker has."""
    INTERNAL_ERROR = "INTERNAL_ERROR"
    """A fault in fetchq, or an exception from a user's coroutine."""

    @property
    def retryable(self) -> bool:
        """Whether another attempt may succeed. For HTTP_ERROR the code decides: `RetryPolicy.http_statuses`."""
        return self in _RETRYABLE


_RETRYABLE: Final = frozenset(
    {
        FetchStatus.HTTP_ERROR,
        FetchStatus.DNS_ERROR,
        FetchStatus.CONNECT_ERROR,
        FetchStatus.TIMEOUT,
        FetchStatus.BAD_RESPONSE,
    }
)
