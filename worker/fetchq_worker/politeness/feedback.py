"""Reports from fetches about their hosts: throttled, healthy or unreachable."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Final, Protocol

from fetchq import FetchRequest, FetchResult, FetchStatus
from fetchq.contract.urls import host_of
from fetchq_worker.telemetry.publisher import Publisher

from .cooldown import Cooldowns
from .limit_by import KeyPolicy
from .retry_after import retry_after_s

THROTTLE_STATUSES: Final = frozenset({429, 503})
"""Responses that ask for fewer requests (RFC 6585, section 4; RFC 9110, section 15.6.4)."""
MIN_COOLDOWN_S: Final = 1.0
"""For a `Retry-After` of 0, or one with a date in the past."""


class Headers(Protocol):
    """The header fields of a response."""

    def items(self) -> Iterable[tuple[str, str]]: ...


class Feedback:
    """The reports of one worker's jobs. Fetches that are awaited outside a job report nothing."""

    def __init__(
        self, cooldowns: Cooldowns, policy: KeyPolicy, events: Publisher, *, circuit_breaker: bool = True
    ) -> None:
        """`circuit_breaker` says whether failed connections count as failures of the host."""
        self._cooldowns = cooldowns
        self._policy = policy
        self._events = events
        self._circuit_breaker = circuit_breaker

    async def on_response(self, request: FetchRequest, url: str, status: int, headers: Headers) -> None:
        """Called with the head of each response, before its body is read. A 429 or 503 starts a cooldown.

        `url` is the hop that responded; after a redirect, its host can differ from the one under which the job is
        counted.
        """
        if status not in THROTTLE_STATUSES:
            return
        asked_s = retry_after_s(headers.items(), datetime.now(UTC))
        for_s = None if asked_s is None else max(asked_s, MIN_COOLDOWN_S)
        key = host_of(url) if request.proxy is not None else await self._policy.wait_key_of(url)
        cooldown = await self._cooldowns.start(key, for_s)
        if cooldown is not None:
            self._events.publish(cooldown)

    def host_outcome_of(
        self, request: FetchRequest, result: FetchResult, *, sent: bool, crawl_delay_s: float | None = None
    ) -> str:
        """The outcome for the record of the job's limit key: sign, status and crawl delay in ms.

        The sign is `+` for a healthy host, `-` for one that was not reached, `=` for neither. `sent` says whether any
        of the request may have reached a server.
        """
        word = result.status.value
        if result.status is FetchStatus.HTTP_ERROR:
            word = f"{word} {result.http_status}"
        delay = "" if crawl_delay_s is None else f" d={round(crawl_delay_s * 1000)}"
        return f"{self._sign(request, result, sent)}{word}{delay}"

    def _sign(self, request: FetchRequest, result: FetchResult, sent: bool) -> str:
        """The sign for the host of the request's URL. It ignores failures after a redirect to another host."""
        if result.from_cache:
            return "="
        if result.final_url is not None and host_of(result.final_url) != host_of(request.url):
            return "+"
        if result.http_status is not None:
            return "=" if result.http_status in THROTTLE_STATUSES or result.http_status >= 500 else "+"
        unreached = result.status is FetchStatus.CONNECT_ERROR or (result.status is FetchStatus.TIMEOUT and not sent)
        # A proxy's failure is not the host's. One unreachable host must not stop all hosts that share a `limit_key`.
        counts = self._circuit_breaker and request.proxy is None and request.limit_key is None
        return "-" if unreached and counts else "="
