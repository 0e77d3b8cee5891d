"""robots.txt of the origins that this process fetches from (RFC 9309): asked for once, and remembered for all workers.

It is fetched through the client and the guard of every other fetch. What it says is kept in this process and, where
there is Redis, on the shared_cache that all workers share.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from typing import TYPE_CHECKING, Final

import aiohttp
import msgspec

from fetchq import FetchStatus
from fetchq.contract.urls import origin_of
from fetchq.contract.wire import UNREADABLE
from fetchq_worker.fetch.content.encoding import ContentDecoder, codings_of
from fetchq_worker.fetch.http.failure import Refused, failure_of
from fetchq_worker.fetch.http.phases import Phases, current_phases
from fetchq_worker.fetch.http.redirect import REDIRECT_STATUSES, Hop, next_hop

from .rules import MAX_ROBOTS_BYTES, RobotsRules, rules_for

if TYPE_CHECKING:
    from fetchq_worker.fetch.cache.shared_cache import SharedCache
    from fetchq_worker.fetch.http.client import Fetcher
    from fetchq_worker.fetch.http.response import Response
    from fetchq_worker.fetch.http.route import Route

logger = logging.getLogger("fetchq.fetch")

RULES_TTL_S: Final = 4 * 3600.0
"""How long rules are believed; RFC 9309, section 2.4, has 24 hours as the most."""
DENIED_TTL_S: Final = 120.0
"""How long an origin stays closed whose robots.txt could not be had, before it is asked again."""
MAX_REDIRECTS: Final = 5
"""RFC 9309, section 2.3.1.2."""
TIMEOUT_S: Final = 20.0
_CONNECT_TIMEOUT_S: Final = 5.0
_READ_TIMEOUT_S: Final = 10.0

MAX_KEPT_ORIGINS: Final = 8192
MAX_KEPT_CHARS: Final = 4 << 20
"""Of rules, in this process."""
_THREAD_CHARS: Final = 16 << 10
"""Longer files are parsed, and longer rules matched, in a thread: a hostile one takes up to a second."""


class RobotsAnswer(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is known of one origin."""

    until_s: float
    """By the wall clock."""
    rules: str = ""
    denied: str | None = None
    """Why everything is forbidden."""


_encoder: Final = msgspec.msgpack.Encoder()
_decoder: Final = msgspec.msgpack.Decoder(RobotsAnswer)


class _Known:
    __slots__ = ("denied", "rules", "until_s")

    def __init__(self, answer: RobotsAnswer, rules: RobotsRules) -> None:
        self.until_s = answer.until_s
        self.denied = answer.denied
        self.rules = rules


class Robots:
    """The robots.txt files as `token`, the product token of this crawler, sees them."""

    def __init__(self, fetcher: Fetcher, token: str, shared_cache: SharedCache | None) -> None:
        self._fetcher = fetcher
        self._token = token
        self._shelf = shared_cache
        self._known: OrderedDict[str, _Known] = OrderedDict()
        self._kept_chars = 0
        self._guarded: dict[str, asyncio.Task[_Known]] = {}

    def __repr__(self) -> str:
        return f"<Robots token={self._token!r} known={len(self._known)} asking={len(self._guarded)}>"

    async def aclose(self) -> None:
        tasks = list(self._guarded.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def check(self, url: str, route: Route | None = None) -> None:
        """Returns if a serialised URL may be fetched; raises `Refused` (ROBOTS_DENIED) if not.

        An origin to which no connection can be made has nothing to forbid: what hindered it is raised as it is.
        """
        known = await self._learn(url, route)
        if known.denied is not None:
            raise Refused(FetchStatus.ROBOTS_DENIED, known.denied)
        if len(known.rules.text) <= _THREAD_CHARS:
            allowed = known.rules.allow(url)
        else:
            allowed = await asyncio.to_thread(known.rules.allow, url)
        if not allowed:
            raise Refused(FetchStatus.ROBOTS_DENIED, "the origin's robots.txt forbids it")

    def crawl_delay_s(self, url: str, route: Route | None = None) -> float | None:
        """Seconds that the origin wants between two fetches; None: it does not say, or was not asked yet."""
        known = self._known.get(_name(url, route))
        return None if known is None else known.rules.crawl_delay_s

    async def _learn(self, url: str, route: Route | None) -> _Known:
        name = _name(url, route)
        known = self._known.get(name)
        if known is not None and known.until_s > time.time():
            self._known.move_to_end(name)
            return known
        asking = self._guarded.get(name)
        if asking is None:
            asking = asyncio.create_task(self._ask(name, origin_of(url), route), name=f"robots {name}")
            self._guarded[name] = asking
            asking.add_done_callback(lambda done: self._asked(name, done))
        return await asyncio.shield(asking)  # one asker's end is not the others'

    def _asked(self, name: str, task: asyncio.Task[_Known]) -> None:
        del self._guarded[name]
        if not task.cancelled():
            task.exception()  # it may be that nobody waits for it any more

    async def _ask(self, name: str, origin: str, route: Route | None) -> _Known:
        current_phases.set(Phases())  # not those of the attempt that happened to ask first
        key = None if self._shelf is None else f"{self._shelf.keys.robots}{self._token}:{name}"
        answer = None if self._shelf is None or key is None else _decoded(await self._shelf.get(key))
        if answer is None:
            answer = await self._fetch(origin, route)
            if self._shelf is not None and key is not None:
                await self._shelf.put(key, _encoder.encode(answer), answer.until_s - time.time())
        rules = RobotsRules(answer.rules) if len(answer.rules) <= _THREAD_CHARS else await _parsed(answer.rules)
        known = _Known(answer, rules)
        self._keep(name, known)
        return known

    def _keep(self, name: str, known: _Known) -> None:
        before = self._known.pop(name, None)
        if before is not None:
            self._kept_chars -= len(before.rules.text)
        self._known[name] = known
        self._kept_chars += len(known.rules.text)
        while len(self._known) > MAX_KEPT_ORIGINS or (self._kept_chars > MAX_KEPT_CHARS and len(self._known) > 1):
            _, oldest = self._known.popitem(last=False)
            self._kept_chars -= len(oldest.rules.text)

    async def _fetch(self, origin: str, route: Route | None) -> RobotsAnswer:
        first = hop = Hop(f"{origin}/robots.txt", "GET")
        answered = False
        try:
            async with asyncio.timeout(TIMEOUT_S):
                for _ in range(1 + MAX_REDIRECTS):
                    self._fetcher.guard.check_url(hop.url)
                    answered = False
                    answer = await self._fetcher.send(hop, _CONNECT_TIMEOUT_S, _READ_TIMEOUT_S, route)
                    answered = True
                    try:
                        location = answer.headers.get("Location")
                        if answer.status not in REDIRECT_STATUSES or location is None:
                            return await self._judge(answer)
                        hop = next_hop(hop, answer.status, location)
                    finally:
                        answer.release()
                return _allowed()
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError):
            if hop is first:
                raise
            return _denied("CONNECT_ERROR behind a redirect")
        except Exception as problem:
            failure = failure_of(problem, answered=answered)
            if failure is None:
                raise
            logger.info("robots.unreachable origin=%s status=%s: %s", origin, *failure)
            return _denied(failure[0])

    async def _judge(self, answer: Response) -> RobotsAnswer:
        """By the classes of status codes of RFC 9309, section 2.3.1."""
        status = answer.status
        if 200 <= status < 300:
            text = (await _read(answer)).decode("utf-8", "replace")
            rules = rules_for(self._token, text) if len(text) <= _THREAD_CHARS else await _reduced(self._token, text)
            return RobotsAnswer(until_s=time.time() + RULES_TTL_S, rules=rules)
        if status >= 500:
            return _denied(f"the server answered {status}")
        return _allowed()


def _name(url: str, route: Route | None) -> str:
    """An origin as it is remembered: what another route shows of it may differ."""
    origin = origin_of(url)
    return origin if route is None or not route.name else f"{origin} {route.name}"


def _allowed() -> RobotsAnswer:
    return RobotsAnswer(until_s=time.time() + RULES_TTL_S)


def _denied(why: str) -> RobotsAnswer:
    sentence = f"the origin's robots.txt could not be read ({why}), so nothing there is fetched for a while"
    return RobotsAnswer(until_s=time.time() + DENIED_TTL_S, denied=sentence)


def _decoded(value: bytes | None) -> RobotsAnswer | None:
    if value is None:
        return None
    try:
        return _decoder.decode(value)
    except UNREADABLE:  # somebody else's bytes
        return None


async def _reduced(token: str, text: str) -> str:
    return await asyncio.to_thread(rules_for, token, text)


async def _parsed(rules: str) -> RobotsRules:
    return await asyncio.to_thread(RobotsRules, rules)


async def _read(answer: Response) -> bytes:
    """The decoded body up to `MAX_ROBOTS_BYTES`; what comes after is left unread."""
    codings = codings_of(answer.headers.getall("Content-Encoding", []))
    decoder = ContentDecoder(codings, MAX_ROBOTS_BYTES) if codings else None
    body = bytearray()
    while chunk := await answer.content.readany():
        for piece in (chunk,) if decoder is None else decoder.decode(chunk):
            body += piece
            if len(body) >= MAX_ROBOTS_BYTES:
                return bytes(body[:MAX_ROBOTS_BYTES])
    return bytes(body)
