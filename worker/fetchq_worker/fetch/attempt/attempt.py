"""One attempt of a fetch, from a request to an outcome."""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from hashlib import sha256
from http import HTTPStatus
from typing import TYPE_CHECKING, cast

from fetchq import Attempt, FetchRequest, FetchResult, FetchStatus, Redirect
from fetchq_worker.fetch.cache.http_cache import CachedHead
from fetchq_worker.fetch.content.charset import charset_of
from fetchq_worker.fetch.content.content_type import content_type_of
from fetchq_worker.fetch.http.body import read_body
from fetchq_worker.fetch.http.failure import RedirectsExhausted, ResponseMalformed, failure_of
from fetchq_worker.fetch.http.phases import Phases, current_phases
from fetchq_worker.fetch.http.redirect import REDIRECT_STATUSES, Hop, next_hop
from fetchq_worker.fetch.job.history import HistoryUnavailable

from .plan import plan_of

if TYPE_CHECKING:
    from fetchq_worker.fetch.http.client import Fetcher
    from fetchq_worker.fetch.http.response import Response

logger = logging.getLogger("fetchq.fetch")

Outcome = tuple[FetchStatus, str | None]
"""And, where it is a failure, the sentence for a person."""


class AttemptState:
    """How far an attempt has come: what is known when it ends, however it ends."""

    __slots__ = ("body", "head", "hop", "redirects", "started_at")

    def __init__(self, hop: Hop) -> None:
        self.started_at = datetime.now(UTC)
        self.hop = hop
        self.redirects: list[Redirect] = []
        self.head: Response | CachedHead | None = None
        """That of the answer to `hop`."""
        self.body = b""


async def run_attempt(
    fetcher: Fetcher, request: FetchRequest, phases: Phases, *, job_id: str = "", queued_s: float | None = None
) -> FetchResult:
    """One attempt: parse, guard, connect, follow, read, judge. Whatever fails becomes an outcome.

    Raises only what `phases.before_send` raises (`HistoryUnavailable`), and `asyncio.CancelledError`.
    """
    trail = AttemptState(parse(request))
    context = current_phases.set(phases)
    try:
        plan = plan_of(fetcher, request)
        with fetcher.timeouts.limit(request.timeout_s):
            while True:
                fetcher.guard.check_url(trail.hop.url)
                if plan is None:
                    trail.head = await fetcher.send(trail.hop, request.connect_timeout_s, request.read_timeout_s)
                else:
                    trail.head = await plan.send(trail.hop)
                try:
                    if phases.heed is not None and not isinstance(trail.head, CachedHead):
                        await phases.heed(trail.hop.url, trail.head.status, trail.head.headers)
                    following = follow(trail, trail.head, request.max_redirects)
                    if following is None:
                        trail.body = await (
                            read_body(cast("Response", trail.head), request.max_bytes)
                            if plan is None
                            else plan.read(trail.head)
                        )
                        break
                finally:
                    trail.head.release()  # back to the pool if it was read to its end, and closed otherwise
                trail.redirects.append(Redirect(url=trail.hop.url, http_status=trail.head.status))
                trail.hop, trail.head = following, None
        outcome = judge(request, trail.head)
    except HistoryUnavailable:
        raise
    except Exception as problem:  # noqa: BLE001 - the boundary at which every failure becomes an outcome
        outcome = failure_of(problem, answered=trail.head is not None) or _fault(problem, request, job_id)
    finally:
        current_phases.reset(context)
    return _result(request, trail, phases, outcome, job_id=job_id, queued_s=queued_s)


def parse(request: FetchRequest) -> Hop:
    """The first hop. The URL was parsed when the request was made, and only its serialised form has been kept."""
    headers = request.headers
    if request.etag is not None:
        headers = (*headers, ("If-None-Match", request.etag))
    if request.last_modified is not None:
        headers = (*headers, ("If-Modified-Since", request.last_modified))
    return Hop(request.url, request.method, headers, request.body)


def follow(trail: AttemptState, head: Response | CachedHead, max_redirects: int) -> Hop | None:
    """The hop that this answer sends us to; None: it is the answer.

    A redirect without a Location, and any redirect where `max_redirects` is 0, is an answer like any other. Raises
    `RedirectsExhausted`, `ResponseMalformed`, and `InvalidRequest` for a Location that leads to no http or https URL.
    """
    if head.status not in REDIRECT_STATUSES or max_redirects == 0:
        return None
    locations = head.headers.getall("Location", ())
    if not locations:
        return None
    if any(location != locations[0] for location in locations):
        raise ResponseMalformed("the answer redirects to several places at once")
    if len(trail.redirects) >= max_redirects:
        raise RedirectsExhausted
    return next_hop(trail.hop, head.status, locations[0])


def judge(request: FetchRequest, head: Response | CachedHead) -> Outcome:
    """What a complete answer amounts to."""
    status = head.status
    if 200 <= status < 300:
        return FetchStatus.OK, None
    if status < 200:
        return FetchStatus.BAD_RESPONSE, f"the server answered {status}, which was not asked for"
    if status == HTTPStatus.NOT_MODIFIED and _is_conditional(request):
        return FetchStatus.NOT_MODIFIED, None
    return FetchStatus.HTTP_ERROR, f"the server answered {status}{_phrase(status)}"


def _is_conditional(request: FetchRequest) -> bool:
    """Whether the request named a copy (RFC 9110, section 13.1); without, a 304 has nothing to be about."""
    if request.etag is not None or request.last_modified is not None:
        return True
    return any(name.lower() in ("if-none-match", "if-modified-since") for name, _ in request.headers)


def _phrase(status: int) -> str:
    """The registered reason phrase; the server's own is anybody's text."""
    try:
        return f" {HTTPStatus(status).phrase}"
    except ValueError:
        return ""


def _fault(problem: Exception, request: FetchRequest, job_id: str) -> Outcome:
    logger.error("fetch.crashed job=%s url=%s", job_id, request.url, exc_info=problem)
    return FetchStatus.INTERNAL_ERROR, f"a fault of the fetch worker: {type(problem).__name__}"


def _result(
    request: FetchRequest, trail: AttemptState, phases: Phases, outcome: Outcome, *, job_id: str, queued_s: float | None
) -> FetchResult:
    status, error = outcome
    total_s = phases.elapsed_s()
    head = trail.head
    attempt = Attempt(
        started_at=trail.started_at,
        status=status,
        http_status=None if head is None else head.status,
        duration_s=total_s,
        error=error,
    )
    redirects = tuple(trail.redirects)
    timing = phases.timing(queued_s, total_s)
    if head is None:
        return FetchResult(
            id=job_id,
            url=request.url,
            final_url=trail.hop.url if redirects else None,
            status=status,
            redirects=redirects,
            attempts=(attempt,),
            timing=timing,
            error=error,
            fetched_at=datetime.now(UTC),
        )
    media_type, charset = content_type_of(head.headers.get("Content-Type"))
    return FetchResult(
        id=job_id,
        url=request.url,
        final_url=trail.hop.url,
        status=status,
        http_status=head.status,
        headers=tuple([(name.decode("latin-1"), value.decode("latin-1")) for name, value in head.raw_headers]),
        body=trail.body,
        body_size=len(trail.body),
        body_sha256=sha256(trail.body).hexdigest(),
        media_type=media_type,
        charset=charset_of(media_type, charset, trail.body),
        from_cache=isinstance(head, CachedHead),
        redirects=redirects,
        attempts=(attempt,),
        timing=timing,
        error=error,
        fetched_at=datetime.now(UTC),
    )
