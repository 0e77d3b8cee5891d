"""Reads what a frame shows from Redis, in two round trips."""

from __future__ import annotations

import asyncio
import math
import time
from collections import Counter, deque
from typing import Any, Final, NamedTuple

from redis.asyncio import Redis

from fetchq import HostLimits, HostState, InvalidRequest
from fetchq.client.hosts import read_hosts
from fetchq.client.limits import Limits
from fetchq.inspect.figures import MINUTE_MS, Counts, Minute, QueueFigures, combined, quantile, read_figures
from fetchq.inspect.workers import WorkerRecord, WorkerState
from fetchq.store.errors import REDIS_ERRORS, RedisFault, fault_of
from fetchq.store.keys import Keys
from fetchq.store.session import Session

from .view import RECENT_MINUTES, LostWorker, MinuteCounts, Rates, ServerState, Snapshot

HISTORY_MINUTES: Final = 60
TOP_HOSTS: Final = 100
"""Hosts of each kind that are read: with most waiting jobs, in the longest cooldowns, with most running jobs."""
_RATE_SPAN_S: Final = 10.0
_LOST_FOR_S: Final = 300.0
"""For how long a lost worker is shown."""
_MAX_LOST: Final = 100


class _Sample(NamedTuple):
    """The totals at one moment."""

    now_ms: int
    enqueued: int
    finished: int
    failed: int


class Reader:
    """Reads one queue again and again, and keeps what does not change: the minutes that are over."""

    def __init__(self, redis: Redis, keys: Keys) -> None:
        self._redis: Final = redis
        self._session: Final = Session(redis, keys)
        self._limits: Final = Limits(self._session)
        self._minutes: dict[int, Minute] = {}
        self._samples: Final[deque[_Sample]] = deque(maxlen=1000)
        self._workers: dict[str, WorkerRecord] = {}
        self._workers_at_ms = 0
        """When these workers were read, by the clock of Redis."""
        self._lost: dict[str, LostWorker] = {}
        self._read_at_s = -math.inf
        self._may_info = True

    async def read(self) -> Snapshot:
        """Raises `RedisUnavailable` or `RedisRefused`."""
        since_s = time.monotonic() - self._read_at_s
        minutes = int(min(HISTORY_MINUTES, 1 + since_s / 60)) if self._minutes else HISTORY_MINUTES
        begun_s = time.time()
        figures, hosts, server = await _all_of(
            read_figures(self._redis, self._session.keys, minutes=minutes),
            read_hosts(self._session, TOP_HOSTS),
            self._read_server(),
        )
        now_s = figures.state.now_ms / 1000
        ahead_s = max(begun_s - now_s, min(0.0, time.time() - now_s))  # the reading itself takes time
        self._read_at_s = time.monotonic()
        return self._snapshot(figures, tuple(hosts), server, ahead_s)

    async def read_limits(self, host: str) -> HostLimits | None:
        """The effective limits of a host; None for a name that no limits can have."""
        try:
            return await self._limits.effective(host)
        except InvalidRequest:
            return None

    async def _read_server(self) -> ServerState | None:
        """What INFO says; None where it is missing or forbidden, which is not asked for again."""
        if not self._may_info:
            return None
        try:
            client: Any = self._redis  # redis-py types the further sections as lists
            said = await client.info("persistence", "replication")
        except REDIS_ERRORS as problem:
            if fault_of(problem) in (RedisFault.RIGHTS, RedisFault.REFUSED):
                self._may_info = False
                return None
            raise
        return server_state(said)

    def _snapshot(
        self, figures: QueueFigures, hosts: tuple[HostState, ...], server: ServerState | None, ahead_s: float
    ) -> Snapshot:
        state = figures.state
        minutes = self._remember(figures.minutes, state.now_ms)
        recent = combined(minutes[-RECENT_MINUTES - 1 :])
        self._watch_workers(figures)
        return Snapshot(
            state=state,
            hosts=hosts,
            minutes=tuple(
                MinuteCounts(minute.start_ms // MINUTE_MS, minute.finished, minute.failed) for minute in minutes
            ),
            rates=self._rates(figures, minutes),
            p50_s=quantile(recent.attempt_duration, 0.5),
            p95_s=quantile(recent.attempt_duration, 0.95),
            recent=outcomes(recent),
            attempts={str(status): count for status, count in recent.attempts.items() if count},
            server=server,
            lost=tuple(self._lost.values()),
            clock_ahead_s=ahead_s,
        )

    def _remember(self, minutes: tuple[Minute, ...], now_ms: int) -> list[Minute]:
        """The last hour from what was read now and before."""
        self._minutes |= {minute.start_ms: minute for minute in minutes}
        oldest_ms = (now_ms // MINUTE_MS - HISTORY_MINUTES) * MINUTE_MS
        self._minutes = {start: self._minutes[start] for start in sorted(self._minutes) if oldest_ms <= start <= now_ms}
        return list(self._minutes.values())

    def _rates(self, figures: QueueFigures, minutes: list[Minute]) -> Rates:
        """Over the last seconds; at the first reading over the last minute and the current one."""
        totals = figures.totals
        now = _Sample(figures.state.now_ms, totals.enqueued, totals.finished, totals.failed)
        while len(self._samples) > 1 and self._samples[1].now_ms <= now.now_ms - _RATE_SPAN_S * 1000:
            self._samples.popleft()
        before = self._samples[0] if self._samples else None
        self._samples.append(now)
        if before is None:
            counts = combined(minutes[-2:])
            span_s = sum(minute.elapsed_s for minute in minutes[-2:])
            return rates(counts.enqueued, counts.finished, counts.failed, span_s)
        span_s = (now.now_ms - before.now_ms) / 1000
        return rates(now.enqueued - before.enqueued, now.finished - before.finished, now.failed - before.failed, span_s)

    def _watch_workers(self, figures: QueueFigures) -> None:
        """Remembers the workers whose records have expired: one that stops removes its own."""
        now_ms = figures.state.now_ms
        workers = {worker.id: worker for worker in figures.state.workers}
        for worker_id, record in self._workers.items():
            if worker_id not in workers and has_expired(record, self._workers_at_ms):
                self._lost[worker_id] = LostWorker(record, record.heartbeat_ms)
        self._workers, self._workers_at_ms = workers, now_ms
        kept = [
            (worker_id, lost)
            for worker_id, lost in self._lost.items()
            if worker_id not in workers and now_ms - lost.seen_ms < _LOST_FOR_S * 1000
        ]
        self._lost = dict(kept[-_MAX_LOST:])


def has_expired(record: WorkerRecord, seen_ms: int) -> bool:
    """Whether a record that is no longer there has expired rather than been removed by its worker.

    A record lives for three heartbeats, and a worker that stops removes it within one. So two were missing already when
    it was seen last, at `seen_ms`. A view that reads less often than heartbeats come cannot tell.
    """
    if record.state is WorkerState.STOPPING or record.heartbeat_s <= 0:
        return False
    return seen_ms - record.heartbeat_ms >= 2 * record.heartbeat_s * 1000


def rates(enqueued: int, finished: int, failed: int, span_s: float) -> Rates:
    """Counts of some seconds as rates; counts that went down were deleted and begin again."""
    if span_s <= 0:
        return Rates()
    a_second = [max(0, count) / span_s for count in (enqueued, finished, failed)]
    return Rates(enqueued=a_second[0], finished=a_second[1], failed=a_second[2], span_s=span_s)


def outcomes(counts: Counts) -> dict[str, int]:
    """Jobs by outcome; those of own functions as `ok` and `cancelled`, and the failed ones as `name()`."""
    found: Counter[str] = Counter({str(status): count for status, count in counts.fetches.items() if count})
    for function, ends in counts.functions.items():
        named = {f"{function}()" if end == "failed" else end: count for end, count in ends.items() if count}
        found.update(named)
    return dict(found)


def server_state(said: dict[str, Any]) -> ServerState:
    """The parts of INFO's answer that matter here."""
    return ServerState(
        is_replica=said.get("role") == "slave",
        cannot_save="err" in (said.get("rdb_last_bgsave_status"), said.get("aof_last_write_status")),
    )


async def _all_of(*awaitables: Any) -> tuple[Any, ...]:
    """The results; raises the first error once all have ended."""
    done = await asyncio.gather(*awaitables, return_exceptions=True)
    for one in done:
        if isinstance(one, BaseException):
            raise one
    return tuple(done)
