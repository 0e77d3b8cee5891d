"""One request of a robots.txt: its redirects, its status, and its body (RFC 9309, section 2.3)."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Final

from fetchq import FetchStatus, InvalidRequest
from fetchq_worker.fetch.content.encoding import ContentDecoder, codings_of
from fetchq_worker.fetch.egress.guard import Guard
from fetchq_worker.fetch.http.client import Send
from fetchq_worker.fetch.http.failure import failure_of
from fetchq_worker.fetch.http.phases import Phases, current_phases
from fetchq_worker.fetch.http.redirect import REDIRECT_STATUSES, Hop, location_of, next_hop
from fetchq_worker.fetch.http.route import Route
from fetchq_worker.fetch.transport.response import Response
from fetchq_worker.politeness.retry_after import retry_after_s

from .record import Failed, RobotsFailure
from .rules import MAX_ROBOTS_BYTES

MAX_REDIRECTS: Final = 5
"""RFC 9309, section 2.3.1.2."""
TIMEOUT_S: Final = 20.0
_CONNECT_TIMEOUT_S: Final = 5.0
_READ_TIMEOUT_S: Final = 10.0
_EVERYTHING_ALLOWED: Final = b""


async def read_robots(send: Send, guard: Guard, phases: Phases, origin: str, route: Route | None) -> bytes | Failed:
    """The robots.txt of an origin, empty if it has none, or why it cannot be had.

    Raises what `failure_of` translates if no connection to the origin can be made: no URL could be fetched either.
    """
    current_phases.set(phases)  # not those of the attempt that asked first
    hop = Hop(f"{origin}/robots.txt", "GET")
    responded = False
    try:
        async with asyncio.timeout(TIMEOUT_S):
            for _ in range(1 + MAX_REDIRECTS):
                guard.check_url(hop.url)
                responded = False
                response = await send(hop, _CONNECT_TIMEOUT_S, _READ_TIMEOUT_S, route)
                responded = True
                try:
                    location = location_of(response.headers) if response.status in REDIRECT_STATUSES else None
                    if location is None:
                        return await _classify(response)
                    hop = next_hop(hop, response.status, location)
                finally:
                    response.release()
            return _EVERYTHING_ALLOWED
    except InvalidRequest:  # by `next_hop`: a redirect to what cannot be requested
        return _EVERYTHING_ALLOWED
    except Exception as problem:
        failure = failure_of(problem, responded=responded)
        if failure is None or not phases.sent:
            raise
        return Failed(RobotsFailure(*failure))


async def _classify(response: Response) -> bytes | Failed:
    """By status code (RFC 9309, section 2.3.1). A 429 is no missing file: it asks to come back later."""
    status = response.status
    if 200 <= status < 300:
        return await _read(response)
    if status < 500 and status != HTTPStatus.TOO_MANY_REQUESTS:
        return _EVERYTHING_ALLOWED
    asked_s = retry_after_s(response.headers.items(), datetime.now(UTC))
    return Failed(RobotsFailure(FetchStatus.HTTP_ERROR, f"the server responded {status}", status), asked_s)


async def _read(response: Response) -> bytes:
    """The first `MAX_ROBOTS_BYTES` of the decoded body, without a line that is cut there; the rest is not read."""
    codings = codings_of(response.headers.getall("Content-Encoding"))
    decoder = ContentDecoder(codings, MAX_ROBOTS_BYTES) if codings else None
    body = bytearray()
    while chunk := await response.readany():
        for piece in (chunk,) if decoder is None else decoder.decode(chunk):
            body += piece
            if len(body) >= MAX_ROBOTS_BYTES:
                whole = max(body.rfind(end, 0, MAX_ROBOTS_BYTES) for end in (b"\n", b"\r"))
                return bytes(body[: whole + 1])  # "Disallow: /" of "Disallow: /private" would deny the whole site
    return bytes(body)
