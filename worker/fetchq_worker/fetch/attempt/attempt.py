"""One attempt of a fetch, from a request to an outcome."""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from hashlib import sha256
from http import HTTPStatus
from typing import cast

from fetchq import Attempt, FetchRequest, FetchResult, FetchStatus, Redirect
from fetchq.logs.text import one_line
from fetchq_worker.fetch.cache.http_cache import CachedHead
from fetchq_worker.fetch.content.charset import charset_of
from fetchq_worker.fetch.content.content_type import content_type_of
from fetchq_worker.fetch.http.body import read_arrived, read_body
from fetchq_worker.fetch.http.errors import SendingAborted, TooManyRedirects
from fetchq_worker.fetch.http.failure import failure_of
from fetchq_worker.fetch.http.phases import Phases, current_phases
from fetchq_worker.fetch.http.redirect import REDIRECT_STATUSES, Hop, location_of, next_hop
from fetchq_worker.fetch.transport.response import Response

from .fetcher import Fetcher
from .plan import plan_of

logger = logging.getLogger("fetchq.fetch")

Outcome = tuple[FetchStatus, str | None]
"""The status and, for a failure, the error sentence."""


class AttemptState:
    """The progress of an attempt, from which its result is made however it ends."""

    __slots__ = ("body", "cookies_set", "head", "hop", "redirects", "started_at")

    def __init__(self, hop: Hop) -> None:
        self.started_at = datetime.now(UTC)
        self.hop = hop
        self.redirects: list[Redirect] = []
        self.cookies_set = False
        """Whether one of the redirects has a Set-Cookie field."""
        self.head: Response | CachedHead | None = None
        """The headers of the response to `hop`."""
        self.body = b""


async def run_attempt(
    fetcher: Fetcher,
    request: FetchRequest,
    phases: Phases,
    *,
    job_id: str = "",
    queued_s: float | None = None,
    repeats: bool = False,
) -> FetchResult:
    """One attempt: parse, guard, connect, follow, read, classify. Every failure becomes an outcome.

    `repeats` says that an earlier attempt failed: then the cache does not answer with an error that it has stored.
    Raises only `SendingAborted` (by `phases.before_send`) and `asyncio.CancelledError`.
    """
    state = AttemptState(parse(request))
    context = current_phases.set(phases)
    try:
        plan = plan_of(fetcher, request, repeats=repeats)
        with fetcher.timeouts.limit(request.timeout_s):
            while True:
                fetcher.guard.check_url(state.hop.url)
                if plan is None:
                    state.head = await fetcher.send(state.hop, request.connect_timeout_s, request.read_timeout_s)
                else:
                    state.head = await plan.send(state.hop)
                try:
                    if phases.on_response is not None and not isinstance(state.head, CachedHead):
                        await phases.on_response(state.hop.url, state.head.status, state.head.headers)
                    following = follow(state, state.head, request)
                    if following is None:
                        if plan is None:
                            response = cast("Response", state.head)
                            body = read_arrived(response, request.max_bytes)
                            state.body = await read_body(response, request.max_bytes) if body is None else body
                        else:
                            state.body = await plan.read(state.head)
                        break
                finally:
                    state.head.release()  # to the pool if the body has arrived, closed otherwise
                state.redirects.append(Redirect(url=state.hop.url, http_status=state.head.status))
                state.hop, state.head = following, None
        outcome = classify(request, state.head)
    except SendingAborted:
        raise
    except Exception as problem:  # noqa: BLE001 - the boundary at which every failure becomes an outcome
        outcome = failure_of(problem, responded=state.head is not None) or _bug(problem, request, job_id)
    finally:
        current_phases.reset(context)
    return _result(request, state, phases, outcome, job_id=job_id, queued_s=queued_s)


def parse(request: FetchRequest) -> Hop:
    """The first hop. The URL was parsed when the request was made; only its serialised form is stored."""
    headers = request.headers
    if request.etag is not None:
        headers = (*headers, ("If-None-Match", request.etag))
    if request.last_modified is not None:
        headers = (*headers, ("If-Modified-Since", request.last_modified))
    return Hop(request.url, request.method, headers, request.body)


def follow(state: AttemptState, head: Response | CachedHead, request: FetchRequest) -> Hop | None:
    """The next hop of a redirect; None: the response is final.

    A redirect without a Location is final, and so is any redirect if `max_redirects` is 0. Raises `TooManyRedirects`,
    `ResponseMalformed`, and `InvalidRequest` for a Location that is not an http or https URL.
    """
    if head.status not in REDIRECT_STATUSES or request.max_redirects == 0:
        return None
    location = location_of(head.headers)
    if location is None:
        return None
    state.cookies_set = state.cookies_set or "Set-Cookie" in head.headers
    if len(state.redirects) >= request.max_redirects:
        raise TooManyRedirects(cookies_ignored=state.cookies_set and not request.cookies)
    return next_hop(state.hop, head.status, location)


def classify(request: FetchRequest, head: Response | CachedHead) -> Outcome:
    """The outcome of a complete response."""
    status = head.status
    if 200 <= status < 300:
        return FetchStatus.OK, None
    if status < 200:  # a 101, since other interim responses are not final
        return FetchStatus.HTTP_ERROR, f"the server responded {status}{_phrase(status)}, which was not requested"
    if status == HTTPStatus.NOT_MODIFIED and _is_conditional(request):
        return FetchStatus.NOT_MODIFIED, None
    return FetchStatus.HTTP_ERROR, f"the server responded {status}{_phrase(status)}"


def _is_conditional(request: FetchRequest) -> bool:
    """Whether the request has a condition (RFC 9110, section 13.1). A 304 to any other is an error."""
    if request.etag is not None or request.last_modified is not None:
        return True
    return any(name.lower() in ("if-none-match", "if-modified-since") for name, _ in request.headers)


def _phrase(status: int) -> str:
    """The registered reason phrase; the server's own is arbitrary text."""
    try:
        return f" {HTTPStatus(status).phrase}"
    except ValueError:
        return ""


def _bug(problem: Exception, request: FetchRequest, job_id: str) -> Outcome:
    logger.error("fetch.crashed job=%s url=%s", job_id, one_line(request.url), exc_info=problem)
    return FetchStatus.INTERNAL_ERROR, f"a bug of the fetch worker: {type(problem).__name__}"


def _result(
    request: FetchRequest, state: AttemptState, phases: Phases, outcome: Outcome, *, job_id: str, queued_s: float | None
) -> FetchResult:
    head = state.head
    unavailable = phases.robots_unavailable
    if unavailable is not None:  # also if the time of the attempt ended while it waited for robots.txt
        outcome = unavailable.status, str(unavailable)
    status, error = outcome
    http_status = head.status if head is not None else None if unavailable is None else unavailable.http_status
    total_s = phases.elapsed_s()
    attempt = Attempt(
        started_at=state.started_at, status=status, http_status=http_status, duration_s=total_s, error=error
    )
    redirects = tuple(state.redirects)
    timing = phases.timing(queued_s, total_s)
    if head is None:
        return FetchResult(
            id=job_id,
            url=request.url,
            final_url=state.hop.url if redirects else None,
            status=status,
            http_status=http_status,
            redirects=redirects,
            attempts=(attempt,),
            timing=timing,
            error=error,
            fetched_at=datetime.now(UTC),
        )
    media_type, charset = content_type_of(head.headers.getall("Content-Type"))
    return FetchResult(
        id=job_id,
        url=request.url,
        final_url=state.hop.url,
        status=status,
        http_status=head.status,
        headers=tuple(head.headers.items()),
        body=state.body,
        body_size=len(state.body),
        body_sha256=sha256(state.body).hexdigest(),
        media_type=media_type,
        charset=charset_of(media_type, charset, state.body),
        maybe_cut=isinstance(head, Response) and head.maybe_cut,
        from_cache=isinstance(head, CachedHead),
        redirects=redirects,
        attempts=(attempt,),
        timing=timing,
        error=error,
        fetched_at=datetime.now(UTC),
    )
