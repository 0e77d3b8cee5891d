"""What a fetch reports about its host: throttled, healthy or unreachable."""

from __future__ import annotations

from typing import Any

import pytest

from fetchq import FetchRequest, FetchResult, FetchStatus
from fetchq_worker.politeness.cooldown import Cooldowns
from fetchq_worker.politeness.feedback import Feedback
from fetchq_worker.politeness.limit_by import ByHost
from fetchq_worker.telemetry.publisher import Publisher

URL = "http://a.example/"


class _RecordedCooldowns(Cooldowns):
    """Records the cooldowns that are started, without a Redis."""

    def __init__(self) -> None:
        self.started: list[tuple[str, float | None]] = []

    async def start(self, key: str, for_s: float | None) -> None:
        self.started.append((key, for_s))


def _note(request: dict[str, Any], result: dict[str, Any], *, sent: bool = True, circuit_breaker: bool = True) -> str:
    feedback = Feedback(_RecordedCooldowns(), ByHost(), Publisher(), circuit_breaker=circuit_breaker)
    return feedback.host_outcome_of(FetchRequest(url=URL, **request), FetchResult(url=URL, **result), sent=sent)


@pytest.mark.parametrize(
    ("result", "note"),
    [
        ({"status": FetchStatus.OK, "http_status": 200}, "+OK"),
        ({"status": FetchStatus.NOT_MODIFIED, "http_status": 304}, "+NOT_MODIFIED"),
        ({"status": FetchStatus.HTTP_ERROR, "http_status": 404}, "+HTTP_ERROR 404"),
        ({"status": FetchStatus.HTTP_ERROR, "http_status": 500}, "=HTTP_ERROR 500"),
        ({"status": FetchStatus.HTTP_ERROR, "http_status": 429}, "=HTTP_ERROR 429"),
        ({"status": FetchStatus.HTTP_ERROR, "http_status": 503}, "=HTTP_ERROR 503"),
        ({"status": FetchStatus.TOO_LARGE, "http_status": 200}, "+TOO_LARGE"),
        ({"status": FetchStatus.TIMEOUT}, "=TIMEOUT"),
        ({"status": FetchStatus.CONNECT_ERROR}, "-CONNECT_ERROR"),
        ({"status": FetchStatus.CONNECT_ERROR, "final_url": "http://a.example/next"}, "-CONNECT_ERROR"),
        ({"status": FetchStatus.CONNECT_ERROR, "final_url": "http://b.example/"}, "+CONNECT_ERROR"),
        ({"status": FetchStatus.HTTP_ERROR, "http_status": 503, "final_url": "http://b.example/"}, "+HTTP_ERROR 503"),
        ({"status": FetchStatus.OK, "http_status": 200, "from_cache": True}, "=OK"),
        ({"status": FetchStatus.DNS_ERROR}, "=DNS_ERROR"),
        ({"status": FetchStatus.TLS_ERROR}, "=TLS_ERROR"),
        ({"status": FetchStatus.ROBOTS_DENIED}, "=ROBOTS_DENIED"),
        ({"status": FetchStatus.BLOCKED}, "=BLOCKED"),
    ],
)
def test_a_response_counts_for_its_host_and_a_failed_connection_against_it(result: dict[str, Any], note: str) -> None:
    assert _note({}, result) == note


def test_a_timeout_before_anything_was_sent_is_a_failed_connection() -> None:
    assert _note({}, {"status": FetchStatus.TIMEOUT}, sent=False) == "-TIMEOUT"


@pytest.mark.parametrize("request_", [{"proxy": "out"}, {"limit_key": "tenant"}])
def test_a_failure_of_a_proxy_or_under_a_limit_key_does_not_count(
    request_: dict[str, Any],
) -> None:
    assert _note(request_, {"status": FetchStatus.CONNECT_ERROR}) == "=CONNECT_ERROR"


def test_without_the_circuit_breaker_no_failure_counts() -> None:
    assert _note({}, {"status": FetchStatus.CONNECT_ERROR}, circuit_breaker=False) == "=CONNECT_ERROR"


def test_the_note_holds_the_crawl_delay_in_ms() -> None:
    result = FetchResult(url=URL, status=FetchStatus.OK, http_status=200)
    feedback = Feedback(_RecordedCooldowns(), ByHost(), Publisher())
    assert feedback.host_outcome_of(FetchRequest(url=URL), result, sent=True, crawl_delay_s=1.5) == "+OK d=1500"


@pytest.mark.asyncio
async def test_a_429_starts_a_cooldown_as_long_as_the_host_asks() -> None:
    cooldowns = _RecordedCooldowns()
    feedback = Feedback(cooldowns, ByHost(), Publisher())
    request = FetchRequest(url=URL)
    await feedback.on_response(request, "http://b.example:81/x", 200, {"Retry-After": "9"})
    await feedback.on_response(request, "http://b.example:81/x", 500, {"Retry-After": "9"})
    assert cooldowns.started == []
    date = {"Date": "Thu, 01 Jan 2026 00:00:00 GMT", "Retry-After": "Thu, 01 Jan 2026 00:00:30 GMT"}
    for headers in ({"Retry-After": "9"}, {"Retry-After": "0"}, {"Retry-After": "-9"}, {}, date):
        await feedback.on_response(request, "http://b.example:81/x", 429, headers)
    assert cooldowns.started == [("b.example", seconds) for seconds in (9.0, 1.0, None, None, 30.0)]
