"""robots.txt of the origins that this process fetches from (RFC 9309), cached here and, with Redis, for all workers.

It is fetched with the client and the guard of all other fetches.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from typing import Final, NamedTuple

from fetchq import FetchStatus
from fetchq.contract.urls import origin_of
from fetchq_worker.fetch.cache.shared_cache import SharedCache
from fetchq_worker.fetch.egress.guard import Guard
from fetchq_worker.fetch.http.client import Send
from fetchq_worker.fetch.http.errors import RequestRefused, RobotsUnavailable
from fetchq_worker.fetch.http.phases import Phases, current_phases
from fetchq_worker.fetch.http.route import Route

from .file import read_robots
from .record import (
    FIRST_WAIT_S,
    Failed,
    RobotsRecord,
    decode_record,
    encode_record,
    with_failure,
    with_rules,
)
from .rules import RobotsRules, rules_for

logger = logging.getLogger("fetchq.hosts")

UNAVAILABLE_EVENT: Final = "robots.unavailable origin=%s status=%s again_in_s=%.1f: %s"
"""A robots.txt cannot be had, and its origin's jobs wait until it is requested again."""
MAX_CACHED_ORIGINS: Final = 8192
MAX_CACHED_CHARS: Final = 4 << 20
"""Maximum size of all rules in this process."""
_THREAD_CHARS: Final = 16 << 10
"""Longer files are parsed and matched in a thread: a hostile one takes up to a second."""
_SLOW: Final = "the attempt took longer than timeout_s"


class _Known(NamedTuple):
    """A record with its rules parsed, as it is cached in this process."""

    record: RobotsRecord
    rules: RobotsRules


class _Lookup(NamedTuple):
    task: asyncio.Task[_Known]
    phases: Phases

    def slow(self) -> RobotsUnavailable:
        return RobotsUnavailable(
            FetchStatus.TIMEOUT, _SLOW, None, lasts_s=self.phases.elapsed_s(), again_in_s=FIRST_WAIT_S
        )


class Robots:
    """Checks URLs against the rules for `token`, the product token of this crawler."""

    def __init__(self, send: Send, guard: Guard, token: str, shared_cache: SharedCache | None) -> None:
        self._send = send
        self._guard = guard
        self._token = token
        self._shared_cache = shared_cache
        self._known: OrderedDict[str, _Known] = OrderedDict()
        self._cached_chars = 0
        self._lookups: dict[str, _Lookup] = {}

    def __repr__(self) -> str:
        return f"<Robots token={self._token!r} known={len(self._known)} lookups={len(self._lookups)}>"

    async def aclose(self) -> None:
        tasks = [lookup.task for lookup in self._lookups.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def check(self, url: str, route: Route | None = None) -> None:
        """Raises `RequestRefused` (ROBOTS_DENIED) for a serialised URL that a rule denies.

        Raises `RobotsUnavailable` while robots.txt cannot be had, and notes it in the attempt's phases. Raises the
        client's error if no connection to the origin can be made: the URL could not be fetched either.
        """
        known = await self._look_up(url, route)
        unavailable = known.record.unavailable(time.time())
        if unavailable is not None:
            current_phases.get().robots_unavailable = unavailable
            raise unavailable
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
        if known is not None and known.record.until_s > time.time():
            self._known.move_to_end(name)
            return known
        lookup = self._lookups.get(name)
        if lookup is None:
            phases = Phases()
            task = asyncio.create_task(self._load(name, phases, origin_of(url), route), name=f"robots {name}")
            lookup = self._lookups[name] = _Lookup(task, phases)
            task.add_done_callback(lambda done: self._on_loaded(name, done))
        try:
            return await asyncio.shield(lookup.task)  # cancelling one waiter must not cancel the others
        except asyncio.CancelledError:
            if lookup.phases.sent:  # the time of the attempt has ended, and it was robots.txt that took it
                current_phases.get().robots_unavailable = lookup.slow()
            raise

    def _on_loaded(self, name: str, task: asyncio.Task[_Known]) -> None:
        del self._lookups[name]
        if not task.cancelled():
            task.exception()  # marks it as retrieved: all waiters may have been cancelled

    async def _load(self, name: str, phases: Phases, origin: str, route: Route | None) -> _Known:
        known = self._known.get(name)
        before = None if known is None else known.record
        cache = self._shared_cache
        if cache is None:
            record = await self._ask(phases, origin, route, before)
        else:
            key = f"{cache.keys.robots}{self._token}:{name}"
            shared = decode_record(await cache.get(key), time.time())
            if shared is not None and (before is None or shared.until_s > before.until_s):
                before = shared
            if before is not None and before.until_s > time.time():
                record = before
            else:
                record = await self._ask(phases, origin, route, before)
                await cache.put(key, encode_record(record), record.until_s - time.time() + record.ttl_s)
        rules = record.rules
        parsed = RobotsRules(rules) if len(rules) <= _THREAD_CHARS else await asyncio.to_thread(RobotsRules, rules)
        loaded = _Known(record, parsed)
        self._remember(name, loaded)
        return loaded

    async def _ask(self, phases: Phases, origin: str, route: Route | None, before: RobotsRecord | None) -> RobotsRecord:
        """The record after a request to the origin."""
        found = await read_robots(self._send, self._guard, phases, origin, route)
        now_s = time.time()
        if isinstance(found, Failed):
            record = with_failure(before, found, now_s)
            status, error, again_in_s = found.failure.status, found.failure.error, record.until_s - now_s
            logger.info(UNAVAILABLE_EVENT, origin, status, again_in_s, error)
            return record
        is_short = len(found) <= _THREAD_CHARS
        rules = rules_for(self._token, found) if is_short else await asyncio.to_thread(rules_for, self._token, found)
        return with_rules(rules, now_s)

    def _remember(self, name: str, known: _Known) -> None:
        before = self._known.pop(name, None)
        if before is not None:
            self._cached_chars -= len(before.rules.text)
        self._known[name] = known
        self._cached_chars += len(known.rules.text)
        while len(self._known) > MAX_CACHED_ORIGINS or (self._cached_chars > MAX_CACHED_CHARS and len(self._known) > 1):
            _, oldest = self._known.popitem(last=False)
            self._cached_chars -= len(oldest.rules.text)


def _name(url: str, route: Route | None) -> str:
    """The key of an origin in the caches. Along another route it may have another robots.txt."""
    origin = origin_of(url)
    return origin if route is None or not route.name else f"{origin} {route.name}"
