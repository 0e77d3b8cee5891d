"""robots.txt of the origins that this process fetches from (RFC 9309), cached here and, with Redis, for all workers.

It is fetched with the client and the guard of all other fetches.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from typing import Final, NamedTuple

import msgspec

from fetchq import FetchStatus
from fetchq.contract.urls import origin_of
from fetchq.contract.wire import UNREADABLE
from fetchq_worker.fetch.cache.shared_cache import SharedCache
from fetchq_worker.fetch.content.encoding import ContentDecoder, codings_of
from fetchq_worker.fetch.egress.guard import Guard
from fetchq_worker.fetch.http.client import Send
from fetchq_worker.fetch.http.errors import RequestRefused
from fetchq_worker.fetch.http.failure import failure_of
from fetchq_worker.fetch.http.phases import Phases, current_phases
from fetchq_worker.fetch.http.redirect import REDIRECT_STATUSES, Hop, location_of, next_hop
from fetchq_worker.fetch.http.route import Route
from fetchq_worker.fetch.transport.errors import NoConnection
from fetchq_worker.fetch.transport.response import Response

from .rules import MAX_ROBOTS_BYTES, RobotsRules, rules_for

logger = logging.getLogger("fetchq.fetch")

RULES_TTL_S: Final = 4 * 3600.0
"""How long rules are cached. RFC 9309, section 2.4, allows 24 hours."""
DENIED_TTL_S: Final = 120.0
"""How long all URLs of an origin are denied whose robots.txt could not be read."""
MAX_REDIRECTS: Final = 5
"""RFC 9309, section 2.3.1.2."""
TIMEOUT_S: Final = 20.0
_CONNECT_TIMEOUT_S: Final = 5.0
_READ_TIMEOUT_S: Final = 10.0

MAX_CACHED_ORIGINS: Final = 8192
MAX_CACHED_CHARS: Final = 4 << 20
"""Maximum size of all rules in this process."""
_THREAD_CHARS: Final = 16 << 10
"""Longer files are parsed and matched in a thread: a hostile one takes up to a second."""


class RobotsFile(msgspec.Struct, frozen=True, omit_defaults=True):
    """The robots.txt of one origin, as it is cached in Redis."""

    until_s: float
    """When the entry expires, in seconds since the epoch."""
    rules: str = ""
    denied: str | None = None
    """Why every URL is denied; None: `rules` decide."""


_encoder: Final = msgspec.msgpack.Encoder()
_decoder: Final = msgspec.msgpack.Decoder(RobotsFile)


class _Known(NamedTuple):
    """The same with parsed rules, as it is cached in this process."""

    until_s: float
    denied: str | None
    rules: RobotsRules


class Robots:
    """Checks URLs against the rules for `token`, the product token of this crawler."""

    def __init__(self, send: Send, guard: Guard, token: str, shared_cache: SharedCache | None) -> None:
        self._send = send
        self._guard = guard
        self._token = token
        self._shared_cache = shared_cache
        self._known: OrderedDict[str, _Known] = OrderedDict()
        self._cached_chars = 0
        self._lookups: dict[str, asyncio.Task[_Known]] = {}

    def __repr__(self) -> str:
        return f"<Robots token={self._token!r} known={len(self._known)} lookups={len(self._lookups)}>"

    async def aclose(self) -> None:
        tasks = list(self._lookups.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def check(self, url: str, route: Route | None = None) -> None:
        """Raises `RequestRefused` (ROBOTS_DENIED) unless a serialised URL may be fetched.

        Raises `NoConnection` if no connection to the origin can be made: the URL could not be fetched either.
        """
        known = await self._look_up(url, route)
        if known.denied is not None:
            raise RequestRefused(FetchStatus.ROBOTS_DENIED, known.denied)
        if len(known.rules.text) <= _THREAD_CHARS:
            allowed = known.rules.allow(url)
        else:
            allowed = await asyncio.to_thread(known.rules.allow, url)
        if not allowed:
            raise RequestRefused(FetchStatus.ROBOTS_DENIED, "the origin's robots.txt forbids it")

    def crawl_delay_s(self, url: str, route: Route | None = None) -> float | None:
        """The Crawl-delay of the origin in seconds; None: it has none, or was not looked up yet."""
        known = self._known.get(_name(url, route))
        return None if known is None else known.rules.crawl_delay_s

    async def _look_up(self, url: str, route: Route | None) -> _Known:
        name = _name(url, route)
        known = self._known.get(name)
        if known is not None and known.until_s > time.time():
            self._known.move_to_end(name)
            return known
        lookup = self._lookups.get(name)
        if lookup is None:
            lookup = asyncio.create_task(self._load(name, origin_of(url), route), name=f"robots {name}")
            self._lookups[name] = lookup
            lookup.add_done_callback(lambda done: self._on_loaded(name, done))
        return await asyncio.shield(lookup)  # cancelling one waiter must not cancel the others

    def _on_loaded(self, name: str, task: asyncio.Task[_Known]) -> None:
        del self._lookups[name]
        if not task.cancelled():
            task.exception()  # marks it as retrieved: all waiters may have been cancelled

    async def _load(self, name: str, origin: str, route: Route | None) -> _Known:
        current_phases.set(Phases())  # not those of the attempt that asked first
        cache = self._shared_cache
        if cache is None:
            file = await self._fetch(origin, route)
        else:
            key = f"{cache.keys.robots}{self._token}:{name}"
            cached = _decoded(await cache.get(key))
            file = await self._fetch(origin, route) if cached is None else cached
            if cached is None:
                await cache.put(key, _encoder.encode(file), file.until_s - time.time())
        rules = RobotsRules(file.rules) if len(file.rules) <= _THREAD_CHARS else await _parsed(file.rules)
        known = _Known(file.until_s, file.denied, rules)
        self._remember(name, known)
        return known

    def _remember(self, name: str, known: _Known) -> None:
        before = self._known.pop(name, None)
        if before is not None:
            self._cached_chars -= len(before.rules.text)
        self._known[name] = known
        self._cached_chars += len(known.rules.text)
        while len(self._known) > MAX_CACHED_ORIGINS or (self._cached_chars > MAX_CACHED_CHARS and len(self._known) > 1):
            _, oldest = self._known.popitem(last=False)
            self._cached_chars -= len(oldest.rules.text)

    async def _fetch(self, origin: str, route: Route | None) -> RobotsFile:
        first = hop = Hop(f"{origin}/robots.txt", "GET")
        responded = False
        try:
            async with asyncio.timeout(TIMEOUT_S):
                for _ in range(1 + MAX_REDIRECTS):
                    self._guard.check_url(hop.url)
                    responded = False
                    response = await self._send(hop, _CONNECT_TIMEOUT_S, _READ_TIMEOUT_S, route)
                    responded = True
                    try:
                        location = location_of(response.headers)
                        if response.status not in REDIRECT_STATUSES or location is None:
                            return await self._classify(response)
                        hop = next_hop(hop, response.status, location)
                    finally:
                        response.release()
                return _allowed()
        except NoConnection:
            if hop is first:
                raise
            return _denied("CONNECT_ERROR behind a redirect")
        except Exception as problem:
            failure = failure_of(problem, responded=responded)
            if failure is None:
                raise
            logger.info("robots.unreachable origin=%s status=%s: %s", origin, *failure)
            return _denied(failure[0])

    async def _classify(self, response: Response) -> RobotsFile:
        """By status code (RFC 9309, section 2.3.1)."""
        status = response.status
        if 200 <= status < 300:
            data = await _read(response)
            rules = rules_for(self._token, data) if len(data) <= _THREAD_CHARS else await _reduced(self._token, data)
            return RobotsFile(until_s=time.time() + RULES_TTL_S, rules=rules)
        if status >= 500:
            return _denied(f"the server responded {status}")
        return _allowed()


def _name(url: str, route: Route | None) -> str:
    """The key of an origin in the caches. Along another route it may have another robots.txt."""
    origin = origin_of(url)
    return origin if route is None or not route.name else f"{origin} {route.name}"


def _allowed() -> RobotsFile:
    return RobotsFile(until_s=time.time() + RULES_TTL_S)


def _denied(why: str) -> RobotsFile:
    sentence = f"the origin's robots.txt could not be read ({why}), so all its URLs are denied for {DENIED_TTL_S:.0f} s"
    return RobotsFile(until_s=time.time() + DENIED_TTL_S, denied=sentence)


def _decoded(value: bytes | None) -> RobotsFile | None:
    if value is None:
        return None
    try:
        return _decoder.decode(value)
    except UNREADABLE:  # not written by fetchq
        return None


async def _reduced(token: str, data: bytes) -> str:
    return await asyncio.to_thread(rules_for, token, data)


async def _parsed(rules: str) -> RobotsRules:
    return await asyncio.to_thread(RobotsRules, rules)


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
