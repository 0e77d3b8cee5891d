"""Lines of text to requests, each URL once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from fetchq import FetchRequest, FetchResult, FetchStatus, InvalidRequest, RetryPolicy
from fetchq.contract.urls import normalise_url

from .dedupe import UrlSet
from .url_hint import hint_for

RESULT_TTL_S: Final = 900.0
"""Lifetime of a result whose reader has died; others are read and removed at once."""
MAX_RETRY_AFTER_S: Final = 60.0
"""Longest Retry-After that is honoured, since a person waits for the run."""


class Wanted(NamedTuple):
    """A URL as given and its request or, if it is invalid, the result that gives the reason."""

    url: str
    request: FetchRequest | FetchResult


class FetchLimits(NamedTuple):
    """Limits of every fetch."""

    timeout_s: float = 30.0
    max_bytes: int = 4 << 20
    max_tries: int = 3


class FetchManner(NamedTuple):
    """Options of every fetch."""

    robots: bool = True
    credential: str | None = None
    proxy: str | None = None
    cookies: bool = False
    priority: str = "default"


_PLAIN: Final = FetchManner()


class RequestSource:
    """Turns the lines of a list into requests. A URL that occurred before, in any spelling, is left out."""

    def __init__(self, limits: FetchLimits, manner: FetchManner = _PLAIN, arguments: Sequence[str] = ()) -> None:
        """`arguments`: lines of the command line, where a file's name is likely.

        Raises `InvalidRequest` for limits outside the contract.
        """
        self._arguments = frozenset(arguments)
        self._options: dict[str, object] = {
            "timeout_s": limits.timeout_s,
            "max_bytes": limits.max_bytes,
            "retry": RetryPolicy(max_tries=limits.max_tries, max_retry_after_s=MAX_RETRY_AFTER_S),
            **manner._asdict(),
            "result_ttl_s": RESULT_TTL_S,
        }
        self._request("http://localhost/")  # checks the limits before any line is read
        self._known = UrlSet()
        self._done = UrlSet()
        self.count = 0
        self.duplicates = 0
        self.done_before = 0
        self.failed_before = 0
        """Failed results of earlier runs, whether this list contains their URLs or not."""

    def skip(self, url: str, *, ok: bool = True) -> None:
        """Leaves out `url`, which has a result from an earlier run."""
        self._done.add(_identity(url))
        self.failed_before += not ok

    def parse(self, lines: list[str]) -> list[Wanted]:
        """The new URLs in `lines`."""
        wanted: list[Wanted] = []
        for line in lines:
            request: FetchRequest | FetchResult
            try:
                request = self._request(line)
            except InvalidRequest as problem:
                hint = hint_for(line, may_be_file=line in self._arguments)
                request = FetchResult(url=line, status=FetchStatus.INVALID_URL, error=f"{problem.problem}{hint}")
            if not self._known.add(request.url):
                self.duplicates += 1
            elif request.url in self._done:
                self.done_before += 1
            else:
                wanted.append(Wanted(line, request))
        self.count += len(wanted)
        return wanted

    def _request(self, url: str) -> FetchRequest:
        return FetchRequest(url=url, **self._options)  # type: ignore[arg-type]  # by name, checked by FetchRequest


def _identity(url: str) -> str:
    """The normal form of a URL; other text is its own."""
    try:
        return normalise_url(url)
    except InvalidRequest:
        return url
