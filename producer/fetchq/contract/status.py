"""The closed set of outcomes that a fetch can have."""

from enum import StrEnum
from typing import Final


class FetchStatus(StrEnum):
    """What became of a fetch. Nothing else is ever stored, logged or counted as an outcome."""

    OK = "OK"
    NOT_MODIFIED = "NOT_MODIFIED"
    """304: the copy that the caller's own validators named is still good (RFC 9110, section 15.4.5)."""
    HTTP_ERROR = "HTTP_ERROR"
    """A complete answer whose status code is 4xx or 5xx, or a 3xx that cannot be followed."""
    INVALID_URL = "INVALID_URL"
    """The URL, or one that it redirected to, is not an http or https URL."""
    BLOCKED = "BLOCKED"
    """The worker's egress policy forbids the address."""
    ROBOTS_DENIED = "ROBOTS_DENIED"
    """The host's robots.txt forbids the URL (RFC 9309)."""
    DNS_ERROR = "DNS_ERROR"
    CONNECT_ERROR = "CONNECT_ERROR"
    """The connection was refused, could not be made, or broke before the answer began."""
    TLS_ERROR = "TLS_ERROR"
    TIMEOUT = "TIMEOUT"
    TOO_MANY_REDIRECTS = "TOO_MANY_REDIRECTS"
    TOO_LARGE = "TOO_LARGE"
    """The decoded body, or the headers, passed the limit."""
    BAD_RESPONSE = "BAD_RESPONSE"
    """Malformed HTTP, a body cut short, or an encoding that does not decode."""
    CANCELLED = "CANCELLED"
    EXPIRED = "EXPIRED"
    """The deadline passed before the job could run."""
    WORKER_LOST = "WORKER_LOST"
    """The process that ran the job went away, and the job may not be run again."""
    INVALID_JOB = "INVALID_JOB"
    """The job cannot be decoded, or names a function that no worker has."""
    STORE_ERROR = "STORE_ERROR"
    """The answer came, but could not be stored."""
    INTERNAL_ERROR = "INTERNAL_ERROR"
    """A fault of fetchq's own, or an exception out of a user's coroutine."""

    @property
    def retryable(self) -> bool:
        """Whether another try may end otherwise. For HTTP_ERROR it depends on the code: `RetryPolicy.http_statuses`."""
        return self in _RETRYABLE


_RETRYABLE: Final = frozenset(
    {
        FetchStatus.HTTP_ERROR,
        FetchStatus.DNS_ERROR,
        FetchStatus.CONNECT_ERROR,
        FetchStatus.TIMEOUT,
        FetchStatus.BAD_RESPONSE,
        FetchStatus.STORE_ERROR,
    }
)
