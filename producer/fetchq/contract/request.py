"""The request for one fetch.

Strict: neither a caller nor the decoding of a job can make a request that breaks the contract.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, TypedDict, Unpack

import msgspec
from msgspec.structs import force_setattr

from fetchq.errors import InvalidRequest

from .body import FormFields, with_body
from .priority import Priority
from .status import FetchStatus
from .urls import normalise_url
from .validation import (
    check_body,
    check_flag,
    check_limit_key,
    check_moment,
    check_name,
    check_seconds,
    check_unicode,
    check_validator,
    check_whole,
    headers_of,
    method_of,
    tags_of,
)

WIRE_VERSION: Final = 1
"""The latest wire version that this code reads."""

ADDED_IN: Final[dict[str, int]] = {}
"""Fields added after wire version 1, each with the version that added it.

A request that sets one carries that version in `v`; older workers leave the job to newer ones (docs/upgrades.md)."""

MAX_RESULT_BODY_BYTES: Final = 64 << 20
DEFAULT_RESULT_TTL_S: Final = 3600.0
MAX_KEY_CHARS: Final = 256
MAX_TRIES: Final = 100
MAX_TIMEOUT_S: Final = 300.0
MAX_WAIT_S: Final = 366 * 86_400.0

IDEMPOTENT_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS", "PUT", "DELETE"})
"""RFC 9110, section 9.2.2."""
CONDITIONAL_METHODS: Final = frozenset({"GET", "HEAD"})
"""Methods for which 304 is a possible response (RFC 9110, section 13.1.2)."""
CONDITIONAL_HEADERS: Final = frozenset(
    {"if-match", "if-none-match", "if-modified-since", "if-range", "if-unmodified-since"}
)
"""RFC 9110, section 13.1."""

_RETRYABLE_HTTP: Final = (408, 425, 429, 500, 502, 503, 504)


class RetryPolicy(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """Which failed attempts are retried, and after which delay.

    The delay before attempt n+1 is uniform between 0 and min(cap_s, base_s * 2**(n-1)): exponential backoff with full
    jitter (Brooker, "Exponential Backoff And Jitter", 2015). `Retry-After` (RFC 9110, section 10.2.3) raises it, up to
    `max_retry_after_s`.
    """

    max_tries: int = 3
    """Total number of attempts; 1 never retries."""
    base_s: float = 1.0
    cap_s: float = 60.0
    max_retry_after_s: float = 3600.0
    on: tuple[FetchStatus, ...] | None = None
    """The outcomes that are retried; None: those with `FetchStatus.retryable`."""
    http_statuses: tuple[int, ...] = _RETRYABLE_HTTP
    """The status codes for which an HTTP_ERROR is retried."""

    if TYPE_CHECKING:
        # Wider than the fields, since __post_init__ converts.
        def __init__(
            self,
            *,
            max_tries: int = 3,
            base_s: float = 1.0,
            cap_s: float = 60.0,
            max_retry_after_s: float = 3600.0,
            on: Iterable[FetchStatus | str] | None = None,
            http_statuses: Iterable[int] = _RETRYABLE_HTTP,
        ) -> None: ...

    def __post_init__(self) -> None:
        check_whole("retry.max_tries", self.max_tries, 1, MAX_TRIES)
        check_seconds("retry.base_s", self.base_s, 0.0, 86_400.0)
        check_seconds("retry.cap_s", self.cap_s, 0.0, 86_400.0)
        check_seconds("retry.max_retry_after_s", self.max_retry_after_s, 0.0, 7 * 86_400.0)
        if self.on is not None:
            try:
                on = tuple(FetchStatus(status) for status in self.on)
            except (TypeError, ValueError) as problem:
                raise InvalidRequest("retry.on", f"takes outcomes such as TIMEOUT: {problem}") from problem
            force_setattr(self, "on", on)
        if self.http_statuses is not _RETRYABLE_HTTP:
            if not isinstance(self.http_statuses, Iterable):
                raise InvalidRequest("retry.http_statuses", "takes status codes such as (502, 503)")
            codes = tuple(self.http_statuses)
            for code in codes:
                check_whole("retry.http_statuses", code, 100, 599)
            force_setattr(self, "http_statuses", codes)

    def covers(self, status: FetchStatus, http_status: int | None) -> bool:
        """Whether the policy retries this outcome, regardless of the number of attempts."""
        if not (status.retryable if self.on is None else status in self.on):
            return False
        return status is not FetchStatus.HTTP_ERROR or http_status in self.http_statuses


_DEFAULT_RETRY: Final = RetryPolicy()


class FetchRequest(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True, weakref=False
):
    """One fetch. Limits apply to each attempt; times are in seconds, sizes in bytes.

    Raises `InvalidRequest`, which names the field, for a value that breaks the contract.
    """

    url: str
    """http or https, parsed and stored as browsers do (WHATWG URL standard). No user name or password."""
    method: str = "GET"
    headers: tuple[tuple[str, str], ...] = ()
    """Pairs, so that a name can repeat; a mapping is accepted too. Sent in this order."""
    body: bytes | None = None
    timeout_s: float = 30.0
    """For one attempt, including redirects and body."""
    connect_timeout_s: float = 5.0
    """For the DNS lookup and one connection, including TLS."""
    read_timeout_s: float = 15.0
    """The maximum time between two bytes of a response."""
    max_bytes: int = 4 << 20
    """Limit of the decoded body; a larger one ends as TOO_LARGE."""
    max_redirects: int = 10
    """With 0, a redirect is a response like any other."""
    retry: RetryPolicy = _DEFAULT_RETRY
    retry_non_idempotent: bool = False
    """Whether a request with a method that is not idempotent may be sent again after it may have reached the server.
    Each attempt then carries the same Idempotency-Key header: the request's own, else the job id."""
    not_before: datetime | None = None
    """The time at which the job is due, with a time zone; at most 366 days ahead."""
    delay_s: float = 0.0
    """The delay from the enqueue until the job is due, by the clock of Redis."""
    deadline: datetime | None = None
    """With a time zone. A job that has not started by then ends as EXPIRED; no retry starts after it. A deadline
    that has passed, or is before the job is due, is refused when it is enqueued."""
    priority: Priority = Priority.DEFAULT
    """The lane of the job, in the queue and in that of its host. A string such as "high" is accepted."""
    limit_key: str | None = None
    """Groups jobs that share limits, instead of by host; such as a tenant. 1 to 200 printable characters."""
    etag: str | None = None
    """The ETag of a copy that the caller holds, as received: if it is still current, the result is NOT_MODIFIED."""
    last_modified: str | None = None
    """The Last-Modified of that copy, as received. With both, the server uses `etag`."""
    credential: str | None = None
    """The name of a secret in the worker's configuration, which lists its origins; any other origin ends as BLOCKED."""
    cookies: bool = False
    """Whether cookies set by a redirect are sent with the following requests of the attempt (RFC 6265bis)."""
    proxy: str | None = None
    """The name of a proxy in the worker's configuration."""
    verify_tls: bool = True
    """False accepts any certificate; BLOCKED unless the worker allows that."""
    cache: bool = False
    """Whether the HTTP cache that the workers share is used (RFC 9111)."""
    robots: bool = False
    """Whether the robots.txt of each origin is obeyed (RFC 9309); ROBOTS_DENIED where it forbids the URL."""
    key: str | None = None
    """Idempotency key: while the job or its result exists, the same key returns the same job."""
    result_ttl_s: float = DEFAULT_RESULT_TTL_S
    """How long the result is stored; 0 stores none."""
    tags: tuple[str, ...] = ()
    """Labels by which jobs can be found and cancelled."""
    v: int = 1
    """The earliest wire version that has all fields which the request sets; computed. Absent: 1."""

    if TYPE_CHECKING:
        # Wider than the fields, since __post_init__ converts: headers from a mapping, tags from a list.
        def __init__(self, *, url: str, v: int = 1, **fields: Unpack[RequestFields]) -> None: ...

    def __post_init__(self) -> None:
        force_setattr(self, "url", normalise_url(self.url))
        if self.method != "GET":
            force_setattr(self, "method", method_of(self.method))
        if self.headers != ():
            force_setattr(self, "headers", headers_of(self.headers))
        if self.body is not None:
            check_body(self.body, self.method)
        check_seconds("timeout_s", self.timeout_s, 0.001, MAX_TIMEOUT_S)
        check_seconds("connect_timeout_s", self.connect_timeout_s, 0.001, MAX_TIMEOUT_S)
        check_seconds("read_timeout_s", self.read_timeout_s, 0.001, MAX_TIMEOUT_S)
        check_whole("max_bytes", self.max_bytes, 1, MAX_RESULT_BODY_BYTES)
        check_whole("max_redirects", self.max_redirects, 0, 100)
        if type(self.retry) is not RetryPolicy:
            raise InvalidRequest("retry", f"takes a RetryPolicy, not {type(self.retry).__name__}")
        check_seconds("delay_s", self.delay_s, 0.0, MAX_WAIT_S)
        if self.not_before is not None or self.deadline is not None:
            self._check_moments()
        if self.priority is not Priority.DEFAULT or self.limit_key is not None:
            self._check_place()
        if self.etag is not None or self.last_modified is not None:
            self._check_validators()
        self._check_options()
        if self.key is not None:
            self._check_key(self.key)
        check_seconds("result_ttl_s", self.result_ttl_s, 0.0, MAX_WAIT_S)
        if self.tags != ():
            force_setattr(self, "tags", tags_of(self.tags))
        if type(self.v) is not int or self.v != 1 or ADDED_IN:
            self._set_version()

    @staticmethod
    def _check_key(key: object) -> None:
        if not (isinstance(key, str) and 0 < len(key) <= MAX_KEY_CHARS):
            raise InvalidRequest("key", f"takes 1 to {MAX_KEY_CHARS} characters")
        check_unicode("key", key)

    def _check_options(self) -> None:
        if (
            self.retry_non_idempotent is False
            and self.robots is False
            and self.cache is False
            and self.cookies is False
            and self.verify_tls is True
            and self.credential is None
            and self.proxy is None
        ):
            return  # fast path: most requests set none of these
        check_flag("retry_non_idempotent", self.retry_non_idempotent)
        check_flag("robots", self.robots)
        check_flag("cookies", self.cookies)
        check_flag("cache", self.cache)
        if self.cache and self.method not in CONDITIONAL_METHODS:
            raise InvalidRequest("cache", f"goes with GET and HEAD, not with {self.method}")
        if self.cache and (self.etag is not None or self.last_modified is not None):
            raise InvalidRequest("cache", "cannot be combined with etag or last_modified")
        check_flag("verify_tls", self.verify_tls)
        if self.credential is not None:
            check_name("credential", self.credential)
            if any(name.lower() == "authorization" for name, _ in self.headers):
                raise InvalidRequest("credential", "cannot be combined with an Authorization header")
        if self.proxy is not None:
            check_name("proxy", self.proxy)

    def _check_moments(self) -> None:
        if self.not_before is not None:
            check_moment("not_before", self.not_before)
            if self.delay_s:
                raise InvalidRequest("delay_s", "cannot be combined with not_before")
        if self.deadline is not None:
            check_moment("deadline", self.deadline)
            if self.not_before is not None and self.not_before > self.deadline:
                raise InvalidRequest("not_before", "is after the deadline: the job would expire before it is due")

    def _check_place(self) -> None:
        if type(self.priority) is not Priority:
            force_setattr(self, "priority", _priority_of(self.priority))
        if self.limit_key is not None:
            check_limit_key("limit_key", self.limit_key)

    def _check_validators(self) -> None:
        check_validator("etag", self.etag)
        check_validator("last_modified", self.last_modified)
        field = "last_modified" if self.etag is None else "etag"
        if self.method not in CONDITIONAL_METHODS:
            raise InvalidRequest(field, f"goes with GET and HEAD, not with {self.method}")
        if any(name.lower() in CONDITIONAL_HEADERS for name, _ in self.headers):
            raise InvalidRequest(field, "cannot be combined with a conditional header")

    @classmethod
    def of(cls, url: str, **options: Unpack[RequestOptions]) -> FetchRequest:
        """A request from the arguments of `Producer.enqueue`, which has `json` and `form` too."""
        return build_request(url, options)

    def _set_version(self) -> None:
        if type(self.v) is not int or not 1 <= self.v <= WIRE_VERSION:
            raise InvalidRequest("v", f"is a wire version from 1 to {WIRE_VERSION}, not {self.v!r}")
        later = (since for name, since in ADDED_IN.items() if getattr(self, name) != _DEFAULTS[name])
        force_setattr(self, "v", max(later, default=1))

    @property
    def idempotent(self) -> bool:
        """Whether the method is idempotent (RFC 9110, section 9.2.2)."""
        return self.method in IDEMPOTENT_METHODS

    def same_work(self, other: FetchRequest) -> bool:
        """Whether both requests are equal but for the times at which they run: a repeated call computes later ones."""
        return self._timeless() == other._timeless()

    def _timeless(self) -> FetchRequest:
        return msgspec.structs.replace(self, not_before=None, delay_s=0.0, deadline=None, priority=Priority.DEFAULT)


def _priority_of(value: object) -> Priority:
    try:
        return Priority(value)  # type: ignore[arg-type]  # raises for other values
    except ValueError as problem:
        raise InvalidRequest("priority", f"takes {', '.join(Priority)}, not {value!r}") from problem


_DEFAULTS: Final = {field.name: field.default for field in msgspec.structs.fields(FetchRequest)}


class RequestFields(TypedDict, total=False):
    """The fields of `FetchRequest` but `url`, with the types that it accepts."""

    method: str
    headers: Mapping[str, str] | Iterable[tuple[str, str]]
    body: bytes | None
    timeout_s: float
    connect_timeout_s: float
    read_timeout_s: float
    max_bytes: int
    max_redirects: int
    retry: RetryPolicy
    retry_non_idempotent: bool
    not_before: datetime | None
    delay_s: float
    deadline: datetime | None
    priority: Priority | str
    limit_key: str | None
    etag: str | None
    last_modified: str | None
    credential: str | None
    cookies: bool
    proxy: str | None
    verify_tls: bool
    cache: bool
    robots: bool
    key: str | None
    result_ttl_s: float
    tags: Iterable[str]


class RequestOptions(RequestFields, total=False):
    """The keywords of `Producer.enqueue(url, ...)`: the fields of `FetchRequest`, and `json` and `form` for its body.

    `json` is any value that JSON can encode, `form` names and values. Either sets Content-Type unless the headers do,
    and changes the default method from GET to POST.
    """

    json: Any
    form: FormFields | None


_OPTIONS: Final = frozenset(RequestOptions.__annotations__)


def build_request(request: str | FetchRequest, options: Mapping[str, Any]) -> FetchRequest:
    """A request from a URL, or from another request, and keywords. An unknown keyword raises `InvalidRequest`."""
    if options:
        unknown = options.keys() - _OPTIONS
        if unknown:
            raise InvalidRequest(min(unknown), f"no such field; there are {', '.join(sorted(_OPTIONS))}")
    if isinstance(request, FetchRequest):
        if "json" in options or "form" in options:
            options = with_body(options, request.method, request.headers)
        return msgspec.structs.replace(request, **options) if options else request
    if "json" in options or "form" in options:
        options = with_body(options, "GET", ())
    return FetchRequest(url=request, **options)
