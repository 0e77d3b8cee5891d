"""Canned responses: what a fetch receives in a test, by URL."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from datetime import datetime
from email.message import Message
from typing import Any, Final

import msgspec

from fetchq.contract.request import CONDITIONAL_METHODS, FetchRequest
from fetchq.contract.result import FetchResult
from fetchq.contract.status import FetchStatus
from fetchq.contract.urls import normalise_url
from fetchq.contract.validation import headers_of


class UnexpectedJob(AssertionError):
    """The code under test enqueued a job that the test has not prepared."""


class CannedResponse(msgspec.Struct, frozen=True, kw_only=True):
    """The response to one request."""

    http_status: int = 200
    headers: Mapping[str, str] | Iterable[tuple[str, str]] = ()
    body: bytes = b""
    text: str | None = None
    """Sent as UTF-8, with the media type text/plain unless the headers have one."""
    json: Any = msgspec.UNSET
    """Any value that JSON can encode, with the media type application/json unless the headers have one."""
    final_url: str | None = None
    """The URL after redirects."""
    status: FetchStatus | str | None = None
    """The outcome, such as TIMEOUT; None: by `http_status`. Failures other than HTTP_ERROR have no response."""
    error: str | None = None

    def __post_init__(self) -> None:
        if self.status is not None:
            FetchStatus(self.status)

    def result_for(self, request: FetchRequest, fetched_at: datetime) -> FetchResult:
        """The result of one attempt."""
        status = FetchStatus(self.status) if self.status is not None else self._status_for(request)
        if status not in (FetchStatus.OK, FetchStatus.NOT_MODIFIED, FetchStatus.HTTP_ERROR):
            error = self.error or f"{status} (canned)"
            return FetchResult(url=request.url, status=status, error=error, fetched_at=fetched_at)
        body, default_type = self._content()
        headers = headers_of(self.headers)
        if default_type and not any(name.lower() == "content-type" for name, _ in headers):
            headers = (*headers, ("Content-Type", default_type))
        final_url = request.url if self.final_url is None else normalise_url(self.final_url)
        if len(body) > request.max_bytes:
            error = f"the body is longer than max_bytes, {request.max_bytes}"
            return FetchResult(
                url=request.url, final_url=final_url, status=FetchStatus.TOO_LARGE, error=error, fetched_at=fetched_at
            )
        media_type, charset = _content_type(headers)
        failed = status is FetchStatus.HTTP_ERROR
        return FetchResult(
            url=request.url,
            final_url=final_url,
            status=status,
            http_status=self.http_status,
            headers=headers,
            body=body,
            body_size=len(body),
            body_sha256=hashlib.sha256(body).hexdigest(),
            media_type=media_type,
            charset=charset,
            error=self.error or (f"HTTP {self.http_status}" if failed else None),
            fetched_at=fetched_at,
        )

    def _status_for(self, request: FetchRequest) -> FetchStatus:
        conditional = request.etag is not None or request.last_modified is not None
        if self.http_status == 304 and conditional and request.method in CONDITIONAL_METHODS:
            return FetchStatus.NOT_MODIFIED
        return FetchStatus.OK if self.http_status < 300 else FetchStatus.HTTP_ERROR

    def _content(self) -> tuple[bytes, str]:
        if self.json is not msgspec.UNSET:
            return msgspec.json.encode(self.json), "application/json"
        if self.text is not None:
            return self.text.encode(), "text/plain; charset=utf-8"
        return self.body, ""


Respond = Callable[[FetchRequest], CannedResponse | Awaitable[CannedResponse]]
"""Makes the response to a request, as a function or a coroutine function."""


class _Route(msgspec.Struct):
    method: str | None
    url: str | re.Pattern[str]
    is_prefix: bool
    respond: CannedResponse | Respond
    remaining: int | None
    """How many more requests it responds to; None: no limit."""

    def matches(self, request: FetchRequest) -> bool:
        if self.remaining == 0 or (self.method is not None and self.method != request.method):
            return False
        if isinstance(self.url, re.Pattern):
            return self.url.search(request.url) is not None
        return request.url.startswith(self.url) if self.is_prefix else request.url == self.url

    @property
    def rank(self) -> tuple[int, int]:
        """Exact URLs come first, then prefixes, longer ones before shorter ones, then patterns."""
        if isinstance(self.url, re.Pattern):
            return 2, 0
        return (1, -len(self.url)) if self.is_prefix else (0, 0)

    def __str__(self) -> str:
        url = self.url.pattern if isinstance(self.url, re.Pattern) else self.url
        spent = " (used up)" if self.remaining == 0 else ""
        return f"{self.method or 'any method'} {url}{'*' if self.is_prefix else ''}{spent}"


class CannedResponses:
    """The responses that a test has prepared."""

    def __init__(self) -> None:
        self._routes: Final[list[_Route]] = []

    def add(
        self, url: str | re.Pattern[str], respond: CannedResponse | Respond, *, method: str | None, times: int | None
    ) -> None:
        """`url` is a URL, a prefix that ends with `*`, or a pattern that is searched for in the serialised URL.

        Several for one URL are used in the order in which they were added, each `times` times.
        """
        is_prefix = isinstance(url, str) and url.endswith("*")
        if isinstance(url, str) and not is_prefix:
            url = normalise_url(url)
        elif isinstance(url, str):
            url = url[:-1]
        self._routes.append(_Route(None if method is None else method.upper(), url, is_prefix, respond, times))
        self._routes.sort(key=lambda route: route.rank)

    def clear(self) -> None:
        """Removes all of them."""
        self._routes.clear()

    async def respond_to(self, request: FetchRequest) -> CannedResponse:
        """Raises `UnexpectedJob` where nothing was prepared for the request."""
        for route in self._routes:
            if route.matches(request):
                if route.remaining is not None:
                    route.remaining -= 1
                if isinstance(route.respond, CannedResponse):
                    return route.respond
                made = route.respond(request)
                return made if isinstance(made, CannedResponse) else await made
        known = "; ".join(map(str, self._routes)) or "none"
        raise UnexpectedJob(f"no canned response for {request.method} {request.url}. Canned responses: {known}")


def _content_type(headers: Iterable[tuple[str, str]]) -> tuple[str | None, str | None]:
    for name, value in headers:
        if name.lower() == "content-type":
            parsed = Message()
            parsed["Content-Type"] = value
            charset = parsed.get_param("charset")
            return parsed.get_content_type(), charset if isinstance(charset, str) else None
    return None, None
