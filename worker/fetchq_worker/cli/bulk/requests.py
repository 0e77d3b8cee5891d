"""What is asked for, each once: lines of text to requests."""

from __future__ import annotations

from typing import Final, NamedTuple

from fetchq import FetchRequest, FetchResult, FetchStatus, InvalidRequest, RetryPolicy
from fetchq.contract.urls import normalise_url

from .dedupe import UrlSet

RESULT_TTL_S: Final = 900.0
"""A result is read within moments; this is how long one is kept whose reader has died."""
MAX_RETRY_AFTER_S: Final = 60.0
"""The longest that somebody at a terminal is made to wait for a server that asks for patience."""


class Wanted(NamedTuple):
    """One URL as it was given, and its request; or, where it can be none, the result that says why."""

    url: str
    request: FetchRequest | FetchResult


class FetchLimits(NamedTuple):
    """What a user may set for every fetch."""

    timeout_s: float = 30.0
    max_bytes: int = 4 << 20
    max_tries: int = 3


class FetchManner(NamedTuple):
    """How every fetch is made."""

    robots: bool = True
    credential: str | None = None
    proxy: str | None = None
    cookies: bool = False
    priority: str = "default"


_PLAIN: Final = FetchManner()


class RequestSource:
    """Turns the lines of a list into requests. A URL that was met before, however it was written, is left out."""

    def __init__(self, limits: FetchLimits, manner: FetchManner = _PLAIN) -> None:
        """Raises `InvalidRequest` for limits that the contract does not allow."""
        self._options: dict[str, object] = {
            "timeout_s": limits.timeout_s,
            "max_bytes": limits.max_bytes,
            "retry": RetryPolicy(max_tries=limits.max_tries, max_retry_after_s=MAX_RETRY_AFTER_S),
            **manner._asdict(),
            "result_ttl_s": RESULT_TTL_S,
        }
        self._request("http://localhost/")  # checks the limits before any line is read
        self._seen = UrlSet()
        self._done = UrlSet()
        self.count = 0
        self.duplicates = 0
        self.done_before = 0
        self.failed_before = 0
        """How many of the results of runs before are failures, whether this list names their URLs or not."""

    def skip(self, url: str, *, ok: bool = True) -> None:
        """`url` has its result already, from a run before."""
        self._done.add(_identity(url))
        self.failed_before += not ok

    def parse(self, lines: list[str]) -> list[Wanted]:
        """What is new in `lines`."""
        wanted: list[Wanted] = []
        for line in lines:
            request: FetchRequest | FetchResult
            try:
                request = self._request(line)
            except InvalidRequest as problem:
                request = FetchResult(url=line, status=FetchStatus.INVALID_URL, error=problem.problem)
            if not self._seen.add(request.url):
                self.duplicates += 1
            elif request.url in self._done:
                self.done_before += 1
            else:
                wanted.append(Wanted(line, request))
        self.count += len(wanted)
        return wanted

    def _request(self, url: str) -> FetchRequest:
        return FetchRequest(url=url, **self._options)  # type: ignore[arg-type]  # each by its own name, checked there


def _identity(url: str) -> str:
    """What makes two spellings one URL; text that is none stands for itself."""
    try:
        return normalise_url(url)
    except InvalidRequest:
        return url
