"""What a caller asks for: one fetch, and how patiently.

Strict: a request that breaks the contract cannot be made, neither by a caller nor out of the bytes of a job.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, Final, TypedDict, Unpack

import msgspec
from msgspec.structs import force_setattr

from fetchq.errors import InvalidRequest

from .body import FormFields, with_body
from .priority import Priority
from .status import FetchStatus
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
    normalise_url,
    tags_of,
)

WIRE_VERSION: Final = 1
"""The latest wire version that this code reads."""
ADDED_IN: Final[dict[str, int]] = {}
"""Fields that came after wire version 1, each with the version that it came with. A request that sets one says so in
`v`, and is left by the workers that do not know it yet (docs/upgrades.md)."""

MAX_RESULT_BODY_BYTES: Final = 64 << 20
DEFAULT_RESULT_TTL_S: Final = 3600.0
MAX_KEY_CHARS: Final = 256
MAX_TRIES: Final = 100
MAX_TIMEOUT_S: Final = 300.0
MAX_WAIT_S: Final = 366 * 86_400.0

IDEMPOTENT_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS", "PUT", "DELETE"})
"""RFC 9110, section 9.2.2."""
CONDITIONAL_METHODS: Final = frozenset({"GET", "HEAD"})
"""Those to which 304 can be the answer (RFC 9110, section 13.1.2)."""
CONDITIONAL_HEADERS: Final = frozenset(
    {"if-match", "if-none-match", "if-modified-since", "if-range", "if-unmodified-since"}
)
"""RFC 9110, section 13.1."""

_RETRYABLE_HTTP: Final = (408, 425, 429, 500, 502, 503, 504)


class RetryPolicy(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """When a failed attempt is followed by another, and after how long.

    The wait before try n+1 is drawn evenly from 0 to min(cap_s, base_s * 2**(n-1)): exponential backoff with full
    jitter (Brooker, "Exponential Backoff And Jitter", 2015). A `Retry-After` (RFC 9110, section 10.2.3) raises it to
    what the server asks, up to `max_retry_after_s`.
    """

    max_tries: int = 3
    """Attempts in all; 1 never retries."""
    base_s: float = 1.0
    cap_s: float = 60.0
    max_retry_after_s: float = 3600.0
    on: tuple[FetchStatus, ...] | None = None
    """The outcomes that are tried again; None: those that say so themselves (`FetchStatus.retryable`)."""
    http_statuses: tuple[int, ...] = _RETRYABLE_HTTP
    """Which status codes of an HTTP_ERROR are tried again."""

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
        """Whether this outcome is one to try again, tries left or not."""
        if not (status.retryable if self.on is None else status in self.on):
            return False
        return status is not FetchStatus.HTTP_ERROR or http_status in self.http_statuses


_DEFAULT_RETRY: Final = RetryPolicy()


class FetchRequest(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True, weakref=False
):
    """One fetch. Every limit holds for each attempt; times are in seconds, sizes in bytes.

    Raises `InvalidRequest`, which names the field, for whatever breaks the contract.
    """

    url: str
    """http or https, parsed as browsers do (WHATWG URL); only its serialised form is kept. No user name or password."""
    method: str = "GET"
    headers: tuple[tuple[str, str], ...] = ()
    """Pairs, so that a name can repeat; a mapping is taken too. Sent in this order."""
    body: bytes | None = None
    timeout_s: float = 30.0
    """The whole of one attempt, redirects and body included."""
    connect_timeout_s: float = 5.0
    """To look up the name and open one connection, TLS included."""
    read_timeout_s: float = 15.0
    """The longest silence between two bytes of an answer."""
    max_bytes: int = 4 << 20
    """Of the body, decoded; more ends as TOO_LARGE."""
    max_redirects: int = 10
    """How many are followed; with 0 a redirect is an answer like any other."""
    retry: RetryPolicy = _DEFAULT_RETRY
    retry_non_idempotent: bool = False
    """Whether a request whose method is not idempotent may be sent again after it may have arrived. Each try then
    carries the same Idempotency-Key header: the job's id, unless the request brings its own."""
    not_before: datetime | None = None
    """When the job is due, with a time zone; at most 366 days ahead when it is enqueued."""
    delay_s: float = 0.0
    """How long after the enqueue the job is due, by Redis's clock."""
    deadline: datetime | None = None
    """With a time zone. A job that could not start before it ends as EXPIRED; no retry starts after it. One that has
    passed, or that comes before the job is due, is refused when it is enqueued."""
    priority: Priority = Priority.DEFAULT
    """The lane in which the job waits, in its host's queue too. A plain string such as "high" is taken."""
    limit_key: str | None = None
    """What the job's limits belong to in place of its host, such as a tenant: 1 to 200 printable characters."""
    etag: str | None = None
    """The ETag of a copy at hand, as it came: if it still holds, the fetch ends as NOT_MODIFIED, without a body."""
    last_modified: str | None = None
    """The Last-Modified of a copy at hand, as it came. Where both are given, the server goes by `etag`."""
    credential: str | None = None
    """The name of a secret that the worker holds. It is sent to the origins it is for; any other ends as BLOCKED."""
    cookies: bool = False
    """Whether cookies that a redirect sets are sent with the hops that follow (RFC 6265)."""
    proxy: str | None = None
    """The name of a proxy that the worker knows."""
    verify_tls: bool = True
    """False trusts any certificate; BLOCKED unless the worker allows that."""
    cache: bool = False
    """Whether the answer may come from the HTTP cache that the workers share, and go into it (RFC 9111)."""
    robots: bool = False
    """Whether the robots.txt of each origin on the way is asked first (RFC 9309); ROBOTS_DENIED where it forbids."""
    key: str | None = None
    """Idempotency key: while the job or its result exists, the same key gives the same job."""
    result_ttl_s: float = DEFAULT_RESULT_TTL_S
    """How long the result is kept; 0 keeps none."""
    tags: tuple[str, ...] = ()
    """Names by which jobs can be found and cancelled together."""
    v: int = 1
    """Wire version: the earliest that knows all that the request asks for. Follows from the fields; absent, it is 1."""

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
        self._check_manner()
        if self.key is not None:
            self._check_key(self.key)
        check_seconds("result_ttl_s", self.result_ttl_s, 0.0, MAX_WAIT_S)
        if self.tags != ():
            force_setattr(self, "tags", tags_of(self.tags))
        if type(self.v) is not int or self.v != 1 or ADDED_IN:
            self._settle_version()

    @staticmethod
    def _check_key(key: object) -> None:
        if not (isinstance(key, str) and 0 < len(key) <= MAX_KEY_CHARS):
            raise InvalidRequest("key", f"takes 1 to {MAX_KEY_CHARS} characters")
        check_unicode("key", key)

    def _check_manner(self) -> None:
        if (
            self.retry_non_idempotent is False
            and self.robots is False
            and self.cache is False
            and self.cookies is False
            and self.verify_tls is True
            and self.credential is None
            and self.proxy is None
        ):
            return  # as nearly every request is, and enqueue_many makes many
        check_flag("retry_non_idempotent", self.retry_non_idempotent)
        check_flag("robots", self.robots)
        check_flag("cookies", self.cookies)
        check_flag("cache", self.cache)
        if self.cache and self.method not in CONDITIONAL_METHODS:
            raise InvalidRequest("cache", f"goes with GET and HEAD, not with {self.method}")
        if self.cache and (self.etag is not None or self.last_modified is not None):
            raise InvalidRequest("cache", "goes with etag and last_modified only one at a time")
        check_flag("verify_tls", self.verify_tls)
        if self.credential is not None:
            check_name("credential", self.credential)
            if any(name.lower() == "authorization" for name, _ in self.headers):
                raise InvalidRequest("credential", "goes with an Authorization header only one at a time")
        if self.proxy is not None:
            check_name("proxy", self.proxy)

    def _check_moments(self) -> None:
        if self.not_before is not None:
            check_moment("not_before", self.not_before)
            if self.delay_s:
                raise InvalidRequest("delay_s", "goes with not_before only one at a time")
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
            raise InvalidRequest(field, "the headers hold a condition of their own")

    @classmethod
    def of(cls, url: str, **options: Unpack[RequestOptions]) -> FetchRequest:
        """A request from what `Producer.enqueue` takes: headers as a mapping too, and `json` or `form` for a body."""
        return build_request(url, options)

    def _settle_version(self) -> None:
        if type(self.v) is not int or not 1 <= self.v <= WIRE_VERSION:
            raise InvalidRequest("v", f"is a wire version from 1 to {WIRE_VERSION}, not {self.v!r}")
        later = (since for name, since in ADDED_IN.items() if getattr(self, name) != _DEFAULTS[name])
        force_setattr(self, "v", max(later, default=1))

    @property
    def idempotent(self) -> bool:
        """Whether sending it twice has the effect of sending it once (RFC 9110, section 9.2.2)."""
        return self.method in IDEMPOTENT_METHODS

    def same_work(self, other: FetchRequest) -> bool:
        """Whether both ask for the same thing. When it is to run does not count: a repeated call has a later clock."""
        return self._timeless() == other._timeless()

    def _timeless(self) -> FetchRequest:
        return msgspec.structs.replace(self, not_before=None, delay_s=0.0, deadline=None, priority=Priority.DEFAULT)


def _priority_of(value: object) -> Priority:
    try:
        return Priority(value)  # type: ignore[arg-type]  # what is none raises
    except ValueError as problem:
        raise InvalidRequest("priority", f"takes {', '.join(Priority)}, not {value!r}") from problem


_DEFAULTS: Final = {field.name: field.default for field in msgspec.structs.fields(FetchRequest)}


class RequestOptions(TypedDict, total=False):
    """The keywords that `Producer.enqueue(url, ...)` takes: the fields of `FetchRequest`, and two more ways to a body.

    `json` is any value that JSON can hold, `form` names and values; either sets Content-Type unless the headers do, and
    makes a POST of what would be a GET.
    """

    method: str
    headers: Mapping[str, str] | Iterable[tuple[str, str]]
    body: bytes | None
    json: Any
    form: FormFields | None
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


_OPTIONS: Final = frozenset(RequestOptions.__annotations__)


def build_request(request: str | FetchRequest, options: Mapping[str, Any]) -> FetchRequest:
    """A request from a URL and keywords, or the request itself; an unknown keyword is an `InvalidRequest`."""
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
