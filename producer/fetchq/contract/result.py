"""The result of a fetch, and the exceptions for its failures."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

import msgspec

from fetchq.errors import FetchqError

from .status import FetchStatus
from .text.charset import decode_text
from .text.json_text import parse_json, text_of_json


class Attempt(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One attempt: when it began, its outcome and its duration.

    WORKER_LOST: the worker process ended during the attempt, and nothing else is known about it.
    """

    started_at: datetime
    """For a lost run: when the loss was detected."""
    status: FetchStatus
    http_status: int | None = None
    duration_s: float = 0.0
    error: str | None = None


class Redirect(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One redirect: the URL that responded and its status code."""

    url: str
    http_status: int


class Timing(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Seconds spent in each phase of the last attempt, summed over its redirects. None: the phase did not occur."""

    queued_s: float | None = None
    """From the time the job was due to the start of the first attempt."""
    dns_s: float | None = None
    connect_s: float | None = None
    tls_s: float | None = None
    first_byte_s: float | None = None
    """From sending the request to the head of the response."""
    total_s: float | None = None


class FetchResult(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The result of a fetch. A fetch that fails is a result too, not an exception.

    Decoding ignores fields that a later version adds.
    """

    id: str = ""
    """The job id; empty for a fetch without a job."""
    url: str
    final_url: str | None = None
    """The URL after redirects; None without a response."""
    status: FetchStatus
    http_status: int | None = None
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    """After decoding gzip, deflate, br and zstd."""
    body_size: int = 0
    """Of `body`, in bytes."""
    body_sha256: str | None = None
    """Of `body`, in hexadecimal; None without a response."""
    maybe_cut: bool = False
    """Whether the body may lack its end: it lasted until the connection ended, which TLS did not confirm."""
    media_type: str | None = None
    """From Content-Type, lower case, without parameters."""
    charset: str | None = None
    """From Content-Type as sent; if it names no encoding, the one detected in a text body."""
    from_cache: bool = False
    """Whether the response came from the HTTP cache: fresh, revalidated, or stale because the server failed."""
    redirects: tuple[Redirect, ...] = ()
    attempts: tuple[Attempt, ...] = ()
    timing: Timing = Timing()
    error: str | None = None
    """A sentence for people; None for a success."""
    fetched_at: datetime | None = None

    @property
    def ok(self) -> bool:
        """Whether the fetch succeeded: OK or NOT_MODIFIED."""
        return self.status not in FETCH_ERRORS

    @property
    def text(self) -> str:
        """The body as text: by its byte order mark, else by `charset`, else UTF-8. Undecodable bytes become U+FFFD.

        JSON is UTF-8, UTF-16 or UTF-32, whatever `charset` says, unless it is none of them.
        """
        return (text_of_json if self._is_json else decode_text)(self.body, self.charset)

    @property
    def data(self) -> Any:
        """The body, decoded by its media type: JSON as objects, other text as `str`, all else as `bytes`.

        JSON that does not parse is returned as text; `data_error` says why.
        """
        if self._is_json:
            try:
                return parse_json(self.body, self.charset)
            except (ValueError, RecursionError):
                return self.text
        return self.text if self.is_text else self.body

    @property
    def data_error(self) -> str | None:
        """Why a JSON body did not parse, as a sentence for people; None if it did, or is not JSON."""
        if self._is_json:
            try:
                parse_json(self.body, self.charset)
            except ValueError as problem:
                return f"the body is not JSON: {problem}"
            except RecursionError:
                return "the body is not JSON that can be read: it is nested too deep"
        return None

    @property
    def _is_json(self) -> bool:
        """MIME sniffing standard, "JSON MIME type". An empty body is never JSON."""
        media_type = self.media_type or ""
        return bool(self.body) and (media_type in ("application/json", "text/json") or media_type.endswith("+json"))

    @property
    def is_text(self) -> bool:
        """Whether the media type is text: JSON, XML, JavaScript and all of `text/`."""
        media_type = self.media_type or ""
        return media_type.startswith("text/") or media_type.endswith(("+json", "+xml")) or media_type in _TEXT_TYPES

    def raise_for_status(self) -> FetchResult:
        """Returns itself when `ok`; otherwise raises the `FetchError` for its status."""
        if self.ok:
            return self
        raise FETCH_ERRORS[self.status](self)


_TEXT_TYPES = frozenset(
    {
        "application/javascript",
        "application/json",
        "application/x-javascript",
        "application/x-ndjson",
        "application/xml",
    }
)


class FetchError(FetchqError):
    """A fetch that failed. `result` is its complete result."""

    def __init__(self, result: FetchResult) -> None:
        super().__init__(f"{result.status}: {result.error or result.http_status} ({result.url})")
        self.result = result

    def __reduce__(self) -> tuple[type[FetchError], tuple[FetchResult]]:
        return type(self), (self.result,)


class HTTPError(FetchError):
    """The server responded with 4xx or 5xx."""


class InvalidURL(FetchError):
    """Not an http or https URL."""


class Blocked(FetchError):
    """Forbidden by the worker's egress policy."""


class RobotsDenied(FetchError):
    """Forbidden by the host's robots.txt."""


class DNSError(FetchError):
    """The name does not resolve."""


class ConnectError(FetchError):
    """No connection, or one that broke before the response."""


class TLSError(FetchError):
    """The handshake failed, or the certificate is not trusted."""


class FetchTimeout(FetchError):
    """A phase, or the whole attempt, took too long."""


class TooManyRedirects(FetchError):
    """More redirects than `max_redirects`."""


class TooLarge(FetchError):
    """The decoded body exceeded `max_bytes`."""


class BadResponse(FetchError):
    """Malformed HTTP or encoding."""


class Cancelled(FetchError):
    """Cancelled on request."""


class Expired(FetchError):
    """The deadline passed first."""


class WorkerLost(FetchError):
    """The worker process ended, and the job may not run again."""


class InvalidJob(FetchError):
    """A job that no worker could run."""


class InternalError(FetchError):
    """A fault in fetchq."""


FETCH_ERRORS: Final[dict[FetchStatus, type[FetchError]]] = {
    FetchStatus.HTTP_ERROR: HTTPError,
    FetchStatus.INVALID_URL: InvalidURL,
    FetchStatus.BLOCKED: Blocked,
    FetchStatus.ROBOTS_DENIED: RobotsDenied,
    FetchStatus.DNS_ERROR: DNSError,
    FetchStatus.CONNECT_ERROR: ConnectError,
    FetchStatus.TLS_ERROR: TLSError,
    FetchStatus.TIMEOUT: FetchTimeout,
    FetchStatus.TOO_MANY_REDIRECTS: TooManyRedirects,
    FetchStatus.TOO_LARGE: TooLarge,
    FetchStatus.BAD_RESPONSE: BadResponse,
    FetchStatus.CANCELLED: Cancelled,
    FetchStatus.EXPIRED: Expired,
    FetchStatus.WORKER_LOST: WorkerLost,
    FetchStatus.INVALID_JOB: InvalidJob,
    FetchStatus.INTERNAL_ERROR: InternalError,
}
"""The exception of each outcome but the successes, OK and NOT_MODIFIED."""
