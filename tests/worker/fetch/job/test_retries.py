"""Whether and when another attempt follows: the decision as a pure function, and retries in place."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

import pytest
from tests.support.web.site import Site, Visit, http_response

from fetchq import FetchRequest, FetchResult, FetchStatus, RetryPolicy
from fetchq_worker.fetch import Fetcher, fetch
from fetchq_worker.fetch.http.errors import RobotsUnavailable
from fetchq_worker.fetch.job.retry import MAX_ROBOTS_WAIT_S, ROBOTS_JITTER_S, next_delay_s, robots_wait_s

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
URL = "http://example.org/"


def _delay(
    request: FetchRequest,
    *,
    status: FetchStatus = FetchStatus.TIMEOUT,
    http_status: int | None = None,
    retry_after: str | None = None,
    made: int = 1,
    sent: bool = True,
    draw: float = 0.5,
) -> float | None:
    headers = (("Retry-After", retry_after),) if retry_after is not None else ()
    attempt = FetchResult(url=URL, status=status, http_status=http_status, headers=headers)
    return next_delay_s(request, attempt, made=made, sent=sent, now=NOW, draw=draw)


def _request(method: str = "GET", retry_non_idempotent: bool = False, deadline_s: float | None = None) -> FetchRequest:
    deadline = None if deadline_s is None else NOW + timedelta(seconds=deadline_s)
    policy = RetryPolicy(max_tries=10, base_s=2, cap_s=30, max_retry_after_s=100)
    return FetchRequest(
        url=URL, method=method, retry_non_idempotent=retry_non_idempotent, deadline=deadline, retry=policy
    )


def test_the_delay_is_drawn_from_a_range_that_doubles_up_to_its_cap() -> None:
    assert [_delay(_request(), made=made) for made in range(1, 8)] == [1, 2, 4, 8, 15, 15, 15]
    assert _delay(_request(), made=3, draw=0.0) == 0


def test_no_attempt_follows_the_last_try() -> None:
    assert _delay(_request(), made=9) is not None
    assert _delay(_request(), made=10) is None


@pytest.mark.parametrize("status", list(FetchStatus))
def test_only_retryable_outcomes_are_retried(status: FetchStatus) -> None:
    delay = _delay(_request(), status=status, http_status=503)

    assert (delay is not None) is status.retryable


@pytest.mark.parametrize(("code", "again"), [(404, False), (501, False), (429, True), (503, True), (304, False)])
def test_only_http_errors_of_the_policy_are_retried(code: int, again: bool) -> None:
    assert (_delay(_request(), status=FetchStatus.HTTP_ERROR, http_status=code) is not None) is again


@pytest.mark.parametrize(
    ("method", "sent", "retry_non_idempotent", "again"),
    [
        ("GET", True, False, True),
        ("PUT", True, False, True),
        ("POST", True, False, False),
        ("POST", False, False, True),
        ("POST", True, True, True),
        ("PATCH", True, False, False),
    ],
)
def test_a_non_idempotent_request_that_may_have_arrived_is_not_retried_by_default(
    method: str, sent: bool, retry_non_idempotent: bool, again: bool
) -> None:
    assert (_delay(_request(method, retry_non_idempotent), sent=sent) is not None) is again


def test_retry_after_is_a_lower_bound_up_to_its_cap() -> None:
    asked = {"status": FetchStatus.HTTP_ERROR, "http_status": 503}

    assert _delay(_request(), retry_after="7", **asked) == 7  # type: ignore[arg-type]
    assert _delay(_request(), retry_after="7", made=5, **asked) == 15  # type: ignore[arg-type]
    assert _delay(_request(), retry_after="5000", **asked) == 100  # type: ignore[arg-type]
    assert _delay(_request(), retry_after="9" * 5000, **asked) == 100  # type: ignore[arg-type]


def test_no_retry_starts_after_the_deadline() -> None:
    assert _delay(_request(deadline_s=1)) == 1
    assert _delay(_request(deadline_s=0.9)) is None


def _robots_wait(
    request: FetchRequest,
    *,
    status: FetchStatus = FetchStatus.HTTP_ERROR,
    lasts_s: float = 0.0,
    again_in_s: float = 20.0,
    sent: bool = False,
    draw: float = 0.0,
) -> float | None:
    unavailable = RobotsUnavailable(status, "", 503, lasts_s=lasts_s, again_in_s=again_in_s)
    return robots_wait_s(request, unavailable, sent=sent, now=NOW, draw=draw)


def test_a_job_waits_until_robots_txt_is_requested_again_but_no_longer_than_it_would_for_a_retry_after() -> None:
    assert _robots_wait(_request()) == 20
    assert _robots_wait(_request(), draw=0.5) == 20 + 0.5 * ROBOTS_JITTER_S
    assert _robots_wait(_request(), again_in_s=3600) == 100
    assert 0 < (_robots_wait(_request(), again_in_s=0) or 0) < 1


def test_a_job_waits_for_a_robots_txt_for_a_bounded_time() -> None:
    patient = FetchRequest(url=URL)
    assert _robots_wait(patient, lasts_s=MAX_ROBOTS_WAIT_S - 1) is not None
    assert _robots_wait(patient, lasts_s=MAX_ROBOTS_WAIT_S) is None
    assert _robots_wait(_request(), lasts_s=99) is not None
    assert _robots_wait(_request(), lasts_s=100) is None
    assert _robots_wait(FetchRequest(url=URL, retry=RetryPolicy(max_retry_after_s=0))) is None


def test_a_job_does_not_wait_past_its_deadline_or_for_a_failure_that_stays() -> None:
    assert _robots_wait(_request(deadline_s=19)) is None
    assert _robots_wait(_request(deadline_s=21)) == 20
    assert _robots_wait(_request(), status=FetchStatus.BLOCKED) is None


def test_only_a_request_that_may_be_repeated_waits_once_it_was_sent() -> None:
    assert _robots_wait(_request("POST"), sent=True) is None
    assert _robots_wait(_request("POST"), sent=False) == 20
    assert _robots_wait(_request("POST", retry_non_idempotent=True), sent=True) == 20
    assert _robots_wait(_request(), sent=True) == 20


@pytest.mark.asyncio
async def test_a_flaky_page_is_fetched_and_the_result_lists_every_attempt(site: Site, fetcher: Fetcher) -> None:
    async def hang_up(visit: Visit) -> None:
        visit.writer.close()

    closing = http_response(status=503, headers={"Connection": "close"})
    url = site.serve("/", closing, hang_up, http_response(b"at last"))

    result = await fetch({"fetcher": fetcher}, FetchRequest(url=url, method="PUT", body=b"x"))

    assert (result.status, result.body) == (FetchStatus.OK, b"at last")
    assert [(attempt.status, attempt.http_status) for attempt in result.attempts] == [
        (FetchStatus.HTTP_ERROR, 503),
        (FetchStatus.CONNECT_ERROR, None),
        (FetchStatus.OK, 200),
    ]
    assert [visit.body for visit in site.visits] == [b"x"] * 3


@pytest.mark.asyncio
async def test_a_pooled_connection_that_the_server_closed_costs_no_try(site: Site, fetcher: Fetcher) -> None:
    async def hang_up(visit: Visit) -> None:
        visit.writer.close()

    url = site.serve("/", http_response(b"first"), hang_up, http_response(b"again"))

    await fetch({"fetcher": fetcher}, FetchRequest(url=url))
    result = await fetch({"fetcher": fetcher}, FetchRequest(url=url))

    assert (result.body, len(result.attempts)) == (b"again", 1)


@pytest.mark.asyncio
async def test_fetch_in_place_waits_for_retry_after(site: Site, fetcher: Fetcher) -> None:
    url = site.serve("/", http_response(status=429, headers={"Retry-After": "1"}), http_response(b"now"))

    began = time.monotonic()
    result = await fetch({"fetcher": fetcher}, FetchRequest(url=url))

    assert result.body == b"now"
    assert time.monotonic() - began >= 1


@pytest.mark.asyncio
async def test_when_all_tries_fail_the_last_outcome_is_the_result(site: Site, fetcher: Fetcher) -> None:
    url = site.serve("/", http_response(b"busy", status=503))

    result = await fetch({"fetcher": fetcher}, FetchRequest(url=url, retry=RetryPolicy(max_tries=4)))

    assert (result.status, result.http_status, result.body) == (FetchStatus.HTTP_ERROR, 503, b"busy")
    assert len(result.attempts) == len(site.visits) == 4


@pytest.mark.asyncio
async def test_a_non_idempotent_request_is_sent_once_whatever_the_response(site: Site, fetcher: Fetcher) -> None:
    url = site.serve("/", http_response(status=503))

    result = await fetch({"fetcher": fetcher}, FetchRequest(url=url, method="POST", body=b"x"))

    assert result.http_status == 503
    assert len(site.visits) == 1


@pytest.mark.asyncio
async def test_a_repeatable_non_idempotent_request_has_an_idempotency_key(site: Site, fetcher: Fetcher) -> None:
    url = site.serve("/", http_response(status=503), http_response())

    await fetch({"fetcher": fetcher}, FetchRequest(url=url, method="POST", body=b"x", retry_non_idempotent=True))
    await fetch(
        {"fetcher": fetcher},
        FetchRequest(url=url, method="POST", retry_non_idempotent=True, headers=(("idempotency-key", "mine"),)),
    )

    keys = [visit.header("Idempotency-Key") for visit in site.visits]
    assert keys[0] == keys[1]
    assert keys[0]
    assert keys[2] == "mine"
