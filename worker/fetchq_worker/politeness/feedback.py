"""What a fetch tells the frontier of a host: that it wants to be left alone, that it is well, that it is not there."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final, Protocol

from fetchq import FetchRequest, FetchResult, FetchStatus
from fetchq.contract.urls import host_of
from fetchq_worker.fetch.http.phases import Phases
from fetchq_worker.fetch.job.retry import retry_after_s

BUSY_STATUSES: Final = frozenset({429, 503})
"""Those with which a server asks for fewer requests (RFC 6585, section 4; RFC 9110, section 15.6.4)."""
MIN_COOLING_S: Final = 1.0
"""For a server that is busy and asks for no time at all, or for one that has passed."""


class Cools(Protocol):
    """`fetchq_worker.frontier.cooling.Cooling`."""

    async def cool(self, key: str, for_s: float | None) -> None: ...


class KeysOfUrls(Protocol):
    """`fetchq_worker.frontier.limit_by.KeyPolicy`."""

    async def wait_key_of(self, url: str) -> str: ...


class Feedback:
    """Of one worker, for jobs that run under a limit key: whoever fetches in place is told of an answer, and acts."""

    def __init__(self, cooling: Cools, policy: KeysOfUrls, *, breaks: bool = True) -> None:
        """`breaks` says whether failed connections count towards leaving a host alone."""
        self._cooling = cooling
        self._policy = policy
        self._breaks = breaks

    async def heed(self, request: FetchRequest, url: str, status: int, headers: Mapping[str, str]) -> None:
        """Called with the head of each answer that is about to be read: the host in `url` may ask for patience.

        It is the host that answered, behind redirects too, which need not be the one whose limits the job is under.
        """
        if status not in BUSY_STATUSES:
            return
        asked_s = retry_after_s(tuple(headers.items()), datetime.now(UTC))
        for_s = None if asked_s is None else max(asked_s, MIN_COOLING_S)
        key = host_of(url) if request.proxy is not None else await self._policy.wait_key_of(url)
        await self._cooling.cool(key, for_s)

    def note_of(
        self, request: FetchRequest, result: FetchResult, phases: Phases, crawl_delay_s: float | None = None
    ) -> str:
        """What the job's limit key is told with the commit (`frontier.note` in `lua/frontier.lua`)."""
        word = result.status.value
        if result.status is FetchStatus.HTTP_ERROR:
            word = f"{word} {result.http_status}"
        delay = "" if crawl_delay_s is None else f" d={round(crawl_delay_s * 1000)}"
        return f"{self._sign(request, result, phases)}{word}{delay}"

    def _sign(self, request: FetchRequest, result: FetchResult, phases: Phases) -> str:
        """Of the host that the URL names: what comes after it has redirected elsewhere is not its doing."""
        if result.from_cache:
            return "="
        if result.final_url is not None and host_of(result.final_url) != host_of(request.url):
            return "+"
        if result.http_status is not None:
            return "=" if result.http_status in BUSY_STATUSES or result.http_status >= 500 else "+"
        unreached = result.status is FetchStatus.CONNECT_ERROR or (
            result.status is FetchStatus.TIMEOUT and not phases.sent
        )
        # A proxy's failure is not the host's; and one host that is gone is no reason to stop all that share a key.
        own = self._breaks and request.proxy is None and request.limit_key is None
        return "-" if unreached and own else "="
