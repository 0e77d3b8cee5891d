"""The contents of the frozen files of a wire version.

`python -m tests.support.wire_cases` writes a version's folder once. Files of a released version never change; a later
version adds a folder.
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import msgspec

from fetchq import Attempt, FetchRequest, FetchResult, FetchStatus, Redirect, RetryPolicy, Timing
from fetchq.contract import wire
from fetchq.contract.request import WIRE_VERSION
from fetchq_worker.fetch.job.history import AttemptHistory

URL: Final = "http://10.0.0.1/"
"""Forbidden to a worker, so that its job ends without a network."""
THEN: Final = datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)
THEN_MS: Final = 1_700_000_000_000

REQUESTS: Final = {
    "job-smallest": FetchRequest(url=URL),
    "job-with-its-version": FetchRequest(url=URL),
    "job-by-stock-arq": FetchRequest(url=URL),
    "job-cached": FetchRequest(url=URL, cache=True),
    "job-conditional": FetchRequest(url=URL, etag='"x"', last_modified="Tue, 14 Nov 2023 22:13:20 GMT", delay_s=1.0),
    "job-limited": FetchRequest(url=URL, priority="high", limit_key="tenant"),
    "job-full": FetchRequest(
        url=f"{URL}hook?x=1",
        method="POST",
        headers=(("Content-Type", "application/json"), ("X-A", "1"), ("X-A", "2")),
        body=b"{}",
        timeout_s=2.5,
        connect_timeout_s=1.5,
        read_timeout_s=2.0,
        max_bytes=1000,
        max_redirects=3,
        retry=RetryPolicy(
            max_tries=2,
            base_s=0.5,
            cap_s=9.0,
            max_retry_after_s=7.0,
            on=(FetchStatus.TIMEOUT,),
            http_statuses=(503,),
        ),
        retry_non_idempotent=True,
        not_before=THEN,
        deadline=datetime(2100, 1, 1, tzinfo=UTC),
        credential="c",
        cookies=True,
        proxy="p",
        verify_tls=False,
        robots=True,
        key="k",
        result_ttl_s=60.0,
        tags=("a", "b"),
    ),
}
ATTEMPTS: Final = (
    Attempt(started_at=THEN, status=FetchStatus.HTTP_ERROR, http_status=503, duration_s=0.5, error="HTTP 503"),
    Attempt(started_at=THEN, status=FetchStatus.OK, http_status=200, duration_s=0.25),
)
RESULTS: Final = {
    "result-ok": FetchResult(
        id="j",
        url=URL,
        final_url=f"{URL}2",
        status=FetchStatus.OK,
        http_status=200,
        headers=(("Content-Type", "text/plain"),),
        body=b"well",
        body_size=4,
        body_sha256="ab" * 32,
        media_type="text/plain",
        charset="utf-8",
        from_cache=True,
        redirects=(Redirect(url=URL, http_status=302),),
        attempts=ATTEMPTS,
        timing=Timing(queued_s=1.0, dns_s=0.1, connect_s=0.2, tls_s=0.3, first_byte_s=0.4, total_s=1.5),
        fetched_at=THEN,
    ),
    "result-failed": FetchResult(
        id="j", url=URL, status=FetchStatus.DNS_ERROR, error="the name does not resolve", fetched_at=THEN
    ),
    "result-cancelled": FetchResult(id="j", url=URL, status=FetchStatus.CANCELLED, error="cancelled on request"),
}
HISTORIES: Final = {
    "attempts-one": AttemptHistory(attempts=ATTEMPTS[:1], queued_s=1.0),
    "attempts-sending": AttemptHistory(attempts=ATTEMPTS[:1], sending=True),
}
CALLS: Final = (
    "job-of-a-coroutine",
    "job-of-a-coroutine-limited",
    "result-of-a-coroutine",
    "result-of-a-coroutine-that-raised",
)


def folder_of(version: int) -> Path:
    return Path(__file__).parents[1] / "upgrades" / f"wire_{version}"


def _job(request: object) -> bytes:
    return wire.encode_job(wire.FETCH_FUNCTION, (request,), {}, THEN_MS)


def _result(function: str, value: Any, args: Any = ({"url": URL},), *, success: bool = True) -> bytes:
    return wire.encode_finished(
        wire.FinishedJob(1, function, args, {}, THEN_MS, success, value, THEN_MS + 1, THEN_MS + 2, "arq:queue", "j")
    )


def encoded() -> dict[str, bytes]:
    """Every file as this version writes it."""
    special = {
        "job-with-its-version": _job({"url": URL, "v": 1}),
        "job-by-stock-arq": msgspec.msgpack.encode(
            {"t": None, "f": wire.FETCH_FUNCTION, "a": [{"url": URL}], "k": {}, "et": THEN_MS}
        ),
        "job-of-a-coroutine": wire.encode_job("page_title", (URL, 5, b"x", [1.5]), {"deep": {"a": None}}, THEN_MS),
        "job-of-a-coroutine-limited": wire.encode_job(
            "page_title", (URL,), {}, THEN_MS, 2, limit_key="tenant", priority="high"
        ),
        "result-cancelled": _result(wire.FETCH_FUNCTION, asyncio.CancelledError(), success=False),
        "result-of-a-coroutine": _result("page_title", {"title": "x", "n": [1, 2.5, None]}, (URL,)),
        "result-of-a-coroutine-that-raised": _result(
            "page_title", ZeroDivisionError("division by zero"), (URL,), success=False
        ),
    }
    return {
        **{name: _job(request) for name, request in REQUESTS.items()},
        **{name: _result(wire.FETCH_FUNCTION, result) for name, result in RESULTS.items()},
        **{name: msgspec.msgpack.encode(history) for name, history in HISTORIES.items()},
        **special,
    }


if __name__ == "__main__":
    folder = folder_of(WIRE_VERSION)
    folder.mkdir()  # fails if it exists: what was released does not change
    for name, data in encoded().items():
        (folder / f"{name}.msgpack").write_bytes(data)
