"""Targets, each a number from the medians of one run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import msgspec

from bench.testbed.peers import ALL, ARQ_TUNED, BARE, BULLMQ, FETCHQ, PLAIN_SET, SCRAPY

from .results import Results


class Target(msgspec.Struct, frozen=True):
    title: str
    unit: str
    limit: float
    at_least: bool
    value: Callable[[Results], float | None]

    @property
    def wanted(self) -> str:
        return f"{'at least' if self.at_least else 'at most'} {self.limit:g}{self.unit}"


class Verdict(msgspec.Struct, frozen=True):
    """The outcome. `met` is None if a number that it needs was not measured."""

    title: str
    wanted: str
    reached: str
    met: bool | None


def judge(results: Results) -> list[Verdict]:
    """Every target, in the order of the page."""
    verdicts = []
    for target in TARGETS:
        value = target.value(results)
        if value is None:
            verdicts.append(Verdict(target.title, target.wanted, "not measured", None))
            continue
        met = value >= target.limit if target.at_least else value <= target.limit
        verdicts.append(Verdict(target.title, target.wanted, f"{value:.3g}{target.unit}", met))
    return verdicts


def _ratio(figure: str, peer: str, *, over_figure: str = "", of: str = FETCHQ) -> Callable[[Results], float | None]:
    def value(results: Results) -> float | None:
        ours, theirs = results.median(figure, of), results.median(over_figure or figure, peer)
        return ours / theirs if ours is not None and theirs else None

    return value


def _median(figure: str) -> Callable[[Results], float | None]:
    return lambda results: results.median(figure, FETCHQ)


def _worst(figure: str) -> Callable[[Results], float | None]:
    """A target for recovery time must hold in every round, so the worst one counts."""

    def value(results: Results) -> float | None:
        series = results.figures.get(figure, {}).get(FETCHQ)
        return max(series.samples) if series and series.samples else None

    return value


def _cpu_ratio(figure: str) -> Callable[[Results], float | None]:
    """Over the bare loop's CPU, measured in the same process in turn."""
    return _ratio(figure, BARE, over_figure="cpu_in_place")


def _against_the_best(figure: str) -> Callable[[Results], float | None]:
    """Over the largest figure of any peer."""

    def value(results: Results) -> float | None:
        ours = results.median(figure, FETCHQ)
        theirs = [found for peer in ALL if peer.name != FETCHQ and (found := results.median(figure, peer.name))]
        return ours / max(theirs) if ours is not None and theirs else None

    return value


def _above_the_fetch_ms(results: Results) -> float | None:
    ours, bare = results.median("idle_fetch_p50", FETCHQ), results.median("idle_fetch_p50", BARE)
    return ours - bare if ours is not None and bare is not None else None


def _at_least(title: str, limit: float, value: Callable[[Results], float | None]) -> Target:
    return Target(title, "x", limit, at_least=True, value=value)


def _at_most(title: str, limit: float, unit: str, value: Callable[[Results], float | None]) -> Target:
    return Target(title, unit, limit, at_least=False, value=value)


TARGETS: Final = (
    _at_most("CPU of a queued 2 KB fetch, of the bare loop's", 0.75, "x", _cpu_ratio("cpu_queued")),
    _at_most("the same in place, without the queue", 0.45, "x", _cpu_ratio("cpu_in_place")),
    _at_most("Redis CPU per 2 KB fetch", 30, " us", _median("fetch_2k_redis_cpu")),
    _at_least("2 KB fetches against arq, tuned", 10, _ratio("fetch_2k", ARQ_TUNED)),
    _at_least("2 KB fetches against the bare loop", 1.3, _ratio("fetch_2k", BARE)),
    _at_least("2 KB fetches against BullMQ", 3, _ratio("fetch_2k", BULLMQ)),
    _at_least("empty jobs against arq, tuned", 40, _ratio("empty", ARQ_TUNED)),
    _at_least("empty jobs against BullMQ", 6, _ratio("empty", BULLMQ)),
    _at_least("enqueue one at a time against SAQ", 1, _ratio("enqueue_one", "saq")),
    _at_least("enqueue one at a time against BullMQ", 1, _ratio("enqueue_one", BULLMQ)),
    _at_least("enqueue by 64 callers against one caller", 5, _ratio("enqueue_64", FETCHQ, over_figure="enqueue_one")),
    _at_least("enqueue many against the fastest peer", 1, _against_the_best("enqueue_many")),
    _at_most("pick-up when idle, p50", 1, " ms", _median("idle_pick_up_p50")),
    _at_most("pick-up when idle, p99", 2, " ms", _median("idle_pick_up_p99")),
    _at_most("enqueue to result above the fetch itself, p50", 1.5, " ms", _above_the_fetch_ms),
    _at_most("10,000 URLs, embedded, of Scrapy's time", 0.12, "x", _ratio("crawl_embedded", SCRAPY)),
    _at_most("1,000 hosts over TLS, connections a host", 1, "", _median("tls_crawl_connections")),
    _at_most("1,000 hosts over TLS, of the bare loop's time", 1.3, "x", _ratio("tls_crawl", BARE)),
    _at_most("1,000 hosts over TLS, of Scrapy's time", 0.3333, "x", _ratio("tls_crawl", SCRAPY)),
    _at_most("Redis CPU per fetch of 100 KB, of a plain SET's", 2, "x", _ratio("fetch_100k_redis_cpu", PLAIN_SET)),
    _at_most("Redis CPU per fetch of 1 MB, of a plain SET's", 2, "x", _ratio("fetch_1m_redis_cpu", PLAIN_SET)),
    _at_most("a killed worker's jobs run again, worst round", 13.05, " s", _worst("recovery")),
    _at_most("the same with a lease of 2 s, worst round", 2.05, " s", _worst("recovery_short")),
    _at_least("1,000,000 queued against 10,000", 0.95, _ratio("depth_1m", FETCHQ, over_figure="depth_10k")),
    _at_most("Redis memory per queued fetch", 220, " bytes", _median("memory")),
    _at_most("Redis round trips per 2 KB fetch", 0.1, "", _median("fetch_2k_trips")),
    _at_most("Redis round trips per empty job", 0.1, "", _median("empty_trips")),
    _at_most("peak memory, 100,000 URLs of 10,000's", 1.5, "x", _ratio("peak_100k", FETCHQ, over_figure="peak_10k")),
    _at_most("import fetchq over import redis.asyncio", 50, " ms", _median("import_added")),
    _at_most("fetchq --help", 0.6, " s", _median("help")),
)
