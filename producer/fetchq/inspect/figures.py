"""The figures of a queue: its state, what was counted since its first job and in the last minutes, and histograms.

Outcomes are counted by the scripts that end jobs, and are exact. Attempts, responses, bytes and histograms come from
workers with each heartbeat: what a killed worker had not sent yet is missing (`fetchq.telemetry.figures`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import reduce
from typing import Any, Final, Self

import msgspec
from redis.asyncio import Redis
from redis.exceptions import ResponseError

from fetchq.contract.status import FetchStatus
from fetchq.errors import RedisRefused
from fetchq.store.errors import translated
from fetchq.store.keys import Keys
from fetchq.store.runner import ScriptRunner
from fetchq.telemetry import figures

from .queue import QueueState, read_queue_state

MINUTE_MS: Final = 60_000
MAX_MINUTES: Final = figures.MINUTE_TTL_S // 60 - 60
RESPONSE_CODES: Final = ("1xx", "2xx", "3xx", "4xx", "5xx")
ENDS: Final = ("ok", "failed", "cancelled")
"""How a job of a user's own coroutine ends."""

_Fields = Mapping[str, int]
_MAX_DIGITS: Final = 19
"""Of an integer in Redis: 64 bits, signed."""


class Histogram(msgspec.Struct, frozen=True):
    """How many observations fell into each bucket, and their sum."""

    bounds_s: tuple[float, ...]
    """The upper bound of each bucket but the last, in seconds; each is part of its bucket."""
    counts: tuple[int, ...]
    """The observations in each bucket, one more than `bounds_s`."""
    sum_s: float

    @classmethod
    def of(cls, spec: figures.HistogramSpec, fields: _Fields) -> Self:
        counts = tuple(fields.get(f"{spec.field}{i}", 0) for i in range(len(spec.bounds_s) + 1))
        return cls(spec.bounds_s, counts, fields.get(f"{spec.field}sum", 0) / 1e6)

    @property
    def count(self) -> int:
        return sum(self.counts)

    def __add__(self, other: Histogram) -> Histogram:
        """Of two histograms with the same bounds."""
        counts = tuple(a + b for a, b in zip(self.counts, other.counts, strict=True))
        return Histogram(self.bounds_s, counts, self.sum_s + other.sum_s)


def quantile(histogram: Histogram, q: float) -> float | None:
    """The `q`-quantile in seconds, 0 to 1, as Prometheus's `histogram_quantile` estimates it; None for an empty one.

    It interpolates within the bucket; in the last one, which has no upper bound, it is the lower bound.
    """
    rank, below, lower = q * histogram.count, 0, 0.0
    if histogram.count == 0:
        return None
    for upper, count in zip(histogram.bounds_s, histogram.counts, strict=False):
        if count and below + count >= rank:
            return lower + (upper - lower) * max(0.0, rank - below) / count
        below, lower = below + count, upper
    return lower


class Counts(msgspec.Struct, frozen=True, kw_only=True):
    """What was counted in some time. Only whole numbers that never go down."""

    enqueued: int
    """Jobs that were put on the queue."""
    dead_letters_retried: int
    """Dead letters whose jobs were put back on the queue."""
    fetches: dict[FetchStatus, int]
    """Fetches that ended, by outcome; every outcome is there."""
    functions: dict[str, dict[str, int]]
    """Jobs of users' own coroutines that ended, by function and end: `ok`, `failed`, `cancelled`."""
    attempts: dict[FetchStatus, int]
    """Attempts of fetches, by outcome; every outcome is there."""
    responses: dict[str, int]
    """Responses that were received, by class: `1xx` to `5xx`."""
    body_bytes: int
    """Decoded bytes of response bodies."""
    leases_lost: int
    """Runs that another worker took over."""
    attempt_duration: Histogram

    @property
    def finished(self) -> int:
        """Jobs that ended, whatever their outcome: fetches and users' own coroutines."""
        return sum(self.fetches.values()) + sum(sum(ends.values()) for ends in self.functions.values())

    @property
    def failed(self) -> int:
        """Jobs that ended in failure: neither successful nor cancelled."""
        fetches = sum(count for status, count in self.fetches.items() if status not in _NOT_FAILED)
        return fetches + sum(ends["failed"] for ends in self.functions.values())


_NOT_FAILED: Final = frozenset({FetchStatus.OK, FetchStatus.NOT_MODIFIED, FetchStatus.CANCELLED})


class Totals(Counts, frozen=True, kw_only=True):
    """What was counted since the queue's first job. It outlives workers."""

    wait: dict[str, Histogram]
    """From the time at which a job is due to the begin of its run, by lane: `high`, `default`, `low`."""
    phases: dict[str, Histogram]
    """The parts of an attempt that took place: `dns`, `connect`, `tls`, `first_byte`."""


class Minute(Counts, frozen=True, kw_only=True):
    """What was counted in one minute of Redis's clock."""

    start_ms: int
    """Since the epoch."""
    elapsed_s: float
    """60, or for the current minute how much of it is over."""


class QueueFigures(msgspec.Struct, frozen=True, kw_only=True):
    """All figures of one queue at one moment."""

    state: QueueState
    totals: Totals
    minutes: tuple[Minute, ...] = ()
    """The last whole minutes that were asked for, then the current one."""


async def read_figures(
    redis: Redis, keys: Keys, *, minutes: int = 0, runner: ScriptRunner | None = None
) -> QueueFigures:
    """Reads the figures of a queue in two round trips; `minutes`: how many whole minutes, at most 1,440.

    Raises `RedisUnavailable` or `RedisRefused`, also if a key of the figures has a wrong type.
    """
    if not 0 <= minutes <= MAX_MINUTES:
        raise ValueError(f"minutes: takes 0 to {MAX_MINUTES}, not {minutes}")
    state = await read_queue_state(redis, keys, runner=runner)
    current = state.now_ms // MINUTE_MS
    numbers = range(current - minutes, current + 1) if minutes else range(0)
    totals, *by_minute = await _read_hashes(redis, [keys.metrics, *(f"{keys.minute}{number}" for number in numbers)])
    return QueueFigures(
        state=state,
        totals=Totals(
            **_counts(totals),
            wait={lane: Histogram.of(spec, totals) for lane, spec in figures.WAIT.items()},
            phases={phase: Histogram.of(spec, totals) for phase, spec in figures.PHASE.items()},
        ),
        minutes=tuple(
            Minute(
                **_counts(fields),
                start_ms=number * MINUTE_MS,
                elapsed_s=min(MINUTE_MS, state.now_ms - number * MINUTE_MS) / 1000,
            )
            for number, fields in zip(numbers, by_minute, strict=True)
        ),
    )


async def _read_hashes(redis: Redis, names: Sequence[str]) -> list[dict[str, int]]:
    with translated(redis):
        async with redis.pipeline(transaction=False) as pipe:
            for name in names:
                pipe.hgetall(name)
            replies = await pipe.execute(raise_on_error=False)
        for name, reply in zip(names, replies, strict=True):
            if isinstance(reply, ResponseError) and "WRONGTYPE" in str(reply):
                raise RedisRefused(f"the key {name} has figures of the queue, but is no hash: rename or delete it")
            if isinstance(reply, Exception):
                raise reply
    return [_parsed(reply) for reply in replies]


def combined(counts: Iterable[Counts]) -> Counts:
    """The sum of what was counted in several minutes."""
    return reduce(_added, counts, _NOTHING)


def _added(a: Counts, b: Counts) -> Counts:
    functions = {name: dict(ends) for name, ends in a.functions.items()}
    for name, ends in b.functions.items():
        known = functions.setdefault(name, dict.fromkeys(ENDS, 0))
        functions[name] = {end: known[end] + ends[end] for end in ENDS}
    return Counts(
        enqueued=a.enqueued + b.enqueued,
        dead_letters_retried=a.dead_letters_retried + b.dead_letters_retried,
        fetches={status: a.fetches[status] + b.fetches[status] for status in FetchStatus},
        functions=functions,
        attempts={status: a.attempts[status] + b.attempts[status] for status in FetchStatus},
        responses={code: a.responses[code] + b.responses[code] for code in RESPONSE_CODES},
        body_bytes=a.body_bytes + b.body_bytes,
        leases_lost=a.leases_lost + b.leases_lost,
        attempt_duration=a.attempt_duration + b.attempt_duration,
    )


def _parsed(reply: Mapping[bytes, bytes]) -> dict[str, int]:
    """The fields of a hash; one that no script wrote, whose value is no integer or below zero, is left out."""
    return {
        field.decode("utf-8", "replace"): int(value)
        for field, value in reply.items()
        if value.isdigit() and len(value) <= _MAX_DIGITS
    }


def _counts(fields: _Fields) -> dict[str, Any]:
    return {
        "enqueued": fields.get(figures.ENQUEUED, 0),
        "dead_letters_retried": fields.get(figures.RETRIED_DEAD_LETTERS, 0),
        "fetches": {status: fields.get(f"{figures.FETCH}{status}", 0) for status in FetchStatus},
        "functions": _functions(fields),
        "attempts": {status: fields.get(f"{figures.ATTEMPT}{status}", 0) for status in FetchStatus},
        "responses": {code: fields.get(f"{figures.RESPONSE}{code}", 0) for code in RESPONSE_CODES},
        "body_bytes": fields.get(figures.BODY_BYTES, 0),
        "leases_lost": fields.get(figures.LEASES_LOST, 0),
        "attempt_duration": Histogram.of(figures.ATTEMPT_DURATION, fields),
    }


def _functions(fields: _Fields) -> dict[str, dict[str, int]]:
    found: dict[str, dict[str, int]] = {}
    for field, count in sorted(fields.items()):
        if field.startswith(figures.FUNCTION):
            end, _, function = field.removeprefix(figures.FUNCTION).partition(":")
            if end in ENDS:
                found.setdefault(function, dict.fromkeys(ENDS, 0))[end] = count
    return found


_NOTHING: Final = Counts(**_counts({}))
