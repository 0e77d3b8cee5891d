"""Which fetches become dead letters, and what is stored of them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from tests.support.web.site import Site, http_response

from fetchq import Attempt, FetchRequest, FetchResult, FetchStatus, Redirect, RetryPolicy
from fetchq_worker.engine.run.context import run_context
from fetchq_worker.fetch import Fetcher, fetch, fetch_data
from fetchq_worker.fetch.job.dead_letter import dead_letter_of, is_dead_letter
from fetchq_worker.settings import DeadLetterKind

URL = "http://a.test/"
ONCE = RetryPolicy(max_tries=1)
PLAIN = FetchRequest(url=URL)


def ended(status: FetchStatus, http_status: int | None = None) -> FetchResult:
    return FetchResult(url=URL, status=status, http_status=http_status)


@pytest.mark.parametrize("status", list(FetchStatus))
def test_by_default_failures_that_may_succeed_later_become_dead_letters(status: FetchStatus) -> None:
    ours = status in ("WORKER_LOST", "INVALID_JOB", "INTERNAL_ERROR")
    kept = ours or (status.retryable and status is not FetchStatus.HTTP_ERROR)
    assert is_dead_letter(DeadLetterKind.RETRYABLE, PLAIN, ended(status)) == kept
    assert is_dead_letter(DeadLetterKind.RETRYABLE, None, ended(status)) == ours


@pytest.mark.parametrize(("code", "kept"), [(503, True), (429, True), (404, False), (301, False)])
def test_http_errors_with_a_retryable_code_become_dead_letters(code: int, kept: bool) -> None:
    assert is_dead_letter(DeadLetterKind.RETRYABLE, PLAIN, ended(FetchStatus.HTTP_ERROR, code)) == kept
    assert is_dead_letter(DeadLetterKind.ALL, PLAIN, ended(FetchStatus.HTTP_ERROR, code))


def test_the_retry_policy_of_the_request_decides() -> None:
    patient = FetchRequest(url=URL, retry=RetryPolicy(on=(FetchStatus.TLS_ERROR,)))
    assert is_dead_letter(DeadLetterKind.RETRYABLE, patient, ended(FetchStatus.TLS_ERROR))
    assert not is_dead_letter(DeadLetterKind.RETRYABLE, patient, ended(FetchStatus.TIMEOUT))


@pytest.mark.parametrize("status", list(FetchStatus))
def test_all_means_every_failure_but_cancelled_and_none_means_none(status: FetchStatus) -> None:
    kept = status not in ("OK", "NOT_MODIFIED", "CANCELLED")
    assert is_dead_letter(DeadLetterKind.ALL, PLAIN, ended(status)) == kept
    assert not is_dead_letter(DeadLetterKind.NONE, PLAIN, ended(status))


def test_a_dead_letter_omits_what_the_server_sent() -> None:
    attempt = Attempt(started_at=datetime.now(UTC), status=FetchStatus.HTTP_ERROR, http_status=503)
    result = FetchResult(
        url=URL,
        status=FetchStatus.HTTP_ERROR,
        http_status=503,
        headers=(("Set-Cookie", "a=b"),),
        body=b"x" * 1000,
        redirects=(Redirect(url=URL, http_status=302),) * 10,
        attempts=(attempt,),
        error="busy",
    )
    letter = dead_letter_of(result)
    assert (letter.headers, letter.body, letter.redirects) == ((), b"", ())
    assert (letter.status, letter.http_status, letter.error, letter.attempts) == (
        FetchStatus.HTTP_ERROR,
        503,
        "busy",
        (attempt,),
    )


async def _dead_letter(ctx: dict[str, Any], request: FetchRequest | dict[str, Any]) -> FetchResult | None:
    await fetch_data(ctx, request)
    dead_letter: FetchResult | None = run_context(ctx).dead_letter
    return dead_letter


@pytest.mark.asyncio
async def test_a_job_that_failed_for_good_leaves_a_dead_letter(site: Site, fetcher: Fetcher) -> None:
    run = {"fetcher": fetcher, "job_id": "a", "job_try": 1, "score": 0}
    busy = FetchRequest(url=site.serve("/busy", http_response(b"busy", status=503)), retry=ONCE)
    letter = await _dead_letter({**run}, busy)
    assert letter is not None
    assert (letter.http_status, len(letter.attempts), letter.body) == (503, 1, b"")
    missing = FetchRequest(url=site.serve("/missing", http_response(b"no", status=404)))
    assert await _dead_letter({**run}, missing) is None
    assert await _dead_letter({**run, "dead_letters": DeadLetterKind.ALL}, missing) is not None
    assert await _dead_letter({**run, "dead_letters": DeadLetterKind.NONE}, busy) is None
    assert await _dead_letter({**run}, FetchRequest(url=site.serve("/", http_response(b"hello")))) is None


@pytest.mark.asyncio
async def test_an_invalid_request_leaves_a_dead_letter(fetcher: Fetcher) -> None:
    letter = await _dead_letter({"fetcher": fetcher, "job_id": "a", "job_try": 1}, {"url": URL, "color": "red"})
    assert letter is not None
    assert letter.status is FetchStatus.INVALID_JOB
    assert await _dead_letter({"fetcher": fetcher, "job_id": "a", "job_try": 1}, {"url": "nonsense"}) is None


@pytest.mark.asyncio
async def test_a_fetch_inside_a_users_coroutine_leaves_no_dead_letter(site: Site, fetcher: Fetcher) -> None:
    ctx: dict[str, Any] = {"fetcher": fetcher, "job_id": "a", "job_try": 1}
    result = await fetch(ctx, FetchRequest(url=site.serve("/busy", http_response(b"busy", status=503)), retry=ONCE))
    assert result.http_status == 503
    assert "fetchq" not in ctx
