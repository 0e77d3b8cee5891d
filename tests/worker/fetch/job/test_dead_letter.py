"""Which fetches end as dead letters, and what the letters say."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from tests.support.site import Site, answer

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
def test_by_default_those_are_kept_that_might_end_well_another_time(status: FetchStatus) -> None:
    ours = status in ("WORKER_LOST", "INVALID_JOB", "INTERNAL_ERROR")
    kept = ours or (status.retryable and status is not FetchStatus.HTTP_ERROR)
    assert is_dead_letter(DeadLetterKind.RETRYABLE, PLAIN, ended(status)) == kept
    assert is_dead_letter(DeadLetterKind.RETRYABLE, None, ended(status)) == ours


@pytest.mark.parametrize(("code", "kept"), [(503, True), (429, True), (404, False), (301, False)])
def test_of_http_errors_those_whose_code_is_worth_a_retry(code: int, kept: bool) -> None:
    assert is_dead_letter(DeadLetterKind.RETRYABLE, PLAIN, ended(FetchStatus.HTTP_ERROR, code)) == kept
    assert is_dead_letter(DeadLetterKind.ALL, PLAIN, ended(FetchStatus.HTTP_ERROR, code))


def test_what_is_worth_a_retry_is_the_requests_own_to_say() -> None:
    patient = FetchRequest(url=URL, retry=RetryPolicy(on=(FetchStatus.TLS_ERROR,)))
    assert is_dead_letter(DeadLetterKind.RETRYABLE, patient, ended(FetchStatus.TLS_ERROR))
    assert not is_dead_letter(DeadLetterKind.RETRYABLE, patient, ended(FetchStatus.TIMEOUT))


@pytest.mark.parametrize("status", list(FetchStatus))
def test_all_is_every_failure_but_what_was_cancelled_and_none_is_none(status: FetchStatus) -> None:
    kept = status not in ("OK", "NOT_MODIFIED", "CANCELLED")
    assert is_dead_letter(DeadLetterKind.ALL, PLAIN, ended(status)) == kept
    assert not is_dead_letter(DeadLetterKind.NONE, PLAIN, ended(status))


def test_a_letter_says_all_but_what_a_server_sent() -> None:
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


async def _letter(ctx: dict[str, Any], request: FetchRequest | dict[str, Any]) -> FetchResult | None:
    await fetch_data(ctx, request)
    letter: FetchResult | None = run_context(ctx).dead_letter
    return letter


@pytest.mark.asyncio
async def test_the_last_failed_try_leaves_a_letter_and_a_good_one_none(site: Site, fetcher: Fetcher) -> None:
    run = {"fetcher": fetcher, "job_id": "a", "job_try": 1, "score": 0}
    busy = FetchRequest(url=site.serve("/busy", answer(b"busy", status=503)), retry=ONCE)
    letter = await _letter({**run}, busy)
    assert letter is not None
    assert (letter.http_status, len(letter.attempts), letter.body) == (503, 1, b"")
    missing = FetchRequest(url=site.serve("/missing", answer(b"no", status=404)))
    assert await _letter({**run}, missing) is None
    assert await _letter({**run, "dead_letters": DeadLetterKind.ALL}, missing) is not None
    assert await _letter({**run, "dead_letters": DeadLetterKind.NONE}, busy) is None
    assert await _letter({**run}, FetchRequest(url=site.serve("/", answer(b"hello")))) is None


@pytest.mark.asyncio
async def test_a_request_that_breaks_the_contract_leaves_one(fetcher: Fetcher) -> None:
    letter = await _letter({"fetcher": fetcher, "job_id": "a", "job_try": 1}, {"url": URL, "color": "red"})
    assert letter is not None
    assert letter.status is FetchStatus.INVALID_JOB
    assert await _letter({"fetcher": fetcher, "job_id": "a", "job_try": 1}, {"url": "nonsense"}) is None


@pytest.mark.asyncio
async def test_a_fetch_inside_a_coroutine_of_ones_own_does_not_speak_for_its_job(site: Site, fetcher: Fetcher) -> None:
    ctx: dict[str, Any] = {"fetcher": fetcher, "job_id": "a", "job_try": 1}
    result = await fetch(ctx, FetchRequest(url=site.serve("/busy", answer(b"busy", status=503)), retry=ONCE))
    assert result.http_status == 503
    assert "fetchq" not in ctx
