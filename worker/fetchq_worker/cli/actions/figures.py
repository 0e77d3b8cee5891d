"""`fetchq status` and `fetchq metrics`."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any, Final

import msgspec
from redis.asyncio import Redis

from fetchq import HostState, Producer
from fetchq.command.exit_status import CommandFailed, ExitStatus
from fetchq.command.redis_answer import ANSWER_S, wait_for_answer
from fetchq.command.streams import printable
from fetchq.inspect.exposition import encode
from fetchq.inspect.families import Format
from fetchq.inspect.figures import Minute, QueueFigures, Totals, combined, quantile, read_figures
from fetchq.inspect.queue import QueueState
from fetchq.inspect.queue_metrics import queue_families
from fetchq.inspect.rates import PERIODS, Rates, rates_of
from fetchq.inspect.workers import WorkerState
from fetchq.store.address import RedisAddress
from fetchq.store.connection import connect
from fetchq_worker.settings import Settings

from .host_table import host_lines

DEFAULT_TOP: Final = 10
"""Hosts of each kind that `--hosts` shows."""
JSON: Final = "json"
"""The format of `fetchq metrics` beside those of `Format`."""


class _Status(QueueState, frozen=True, kw_only=True):
    """What `fetchq status --json` shows."""

    redis: str
    """The address, without the password."""
    totals: Totals
    rates: tuple[Rates, ...]
    """Over the last whole minute, the last 5 and the last 60."""
    hosts: tuple[HostState, ...] | msgspec.UnsetType = msgspec.UNSET
    """The busiest hosts and those in a cooldown; absent unless requested."""


@asynccontextmanager
async def _reached_redis(settings: Settings) -> AsyncIterator[tuple[Any, RedisAddress]]:
    """Raises `RedisUnavailable`."""
    address = RedisAddress.parse(settings.redis_url)
    redis: Redis = connect(address, socket_timeout_s=ANSWER_S)
    try:
        await wait_for_answer(redis)
        yield redis, address
    finally:
        await redis.aclose()


async def show_metrics(chosen: str, settings: Settings) -> ExitStatus:
    """Prints the figures of the queue once: `chosen` is a `Format`, or `json`."""
    async with _reached_redis(settings) as (redis, _):
        figures = await read_figures(redis, settings.keys)
    if chosen == JSON:
        text = msgspec.json.encode({"state": figures.state, "totals": figures.totals}) + b"\n"
    else:
        text = encode(queue_families(figures), Format(chosen))
    sys.stdout.buffer.write(text)
    return ExitStatus.OK


async def show_queue_state(as_json: bool, hosts: bool, top: int | None, settings: Settings) -> ExitStatus:
    """`top`: how many of the busiest hosts are shown, with `hosts`."""
    if top is not None and not hosts:
        raise CommandFailed("--top needs --hosts", ExitStatus.USAGE)
    top_hosts: tuple[HostState, ...] = ()
    async with _reached_redis(settings) as (redis, address):
        figures = await read_figures(redis, settings.keys, minutes=max(PERIODS) if as_json else 1)
        if hosts:
            producer = Producer(redis, queue=settings.queue, namespace=settings.namespace)
            top_hosts = tuple(await producer.hosts(top=top or DEFAULT_TOP))
    if as_json:
        status = _Status(
            redis=str(address),
            totals=figures.totals,
            rates=tuple(rates_of(figures.minutes[:-1], period) for period in PERIODS),
            hosts=top_hosts if hosts else msgspec.UNSET,
            **msgspec.structs.asdict(figures.state),
        )
        sys.stdout.buffer.write(msgspec.json.encode(status) + b"\n")
        return ExitStatus.OK
    lines = [f"{'redis':<10}{printable(str(address))}", *_state_lines(figures), *_worker_lines(figures.state)]
    if hosts:
        lines += ["", *host_lines(top_hosts)]
    sys.stdout.write("".join(f"{line}\n" for line in lines))
    return ExitStatus.OK


def _state_lines(figures: QueueFigures) -> Iterator[str]:
    state = figures.state
    yield f"{'queue':<10}{printable(state.queue)}"
    for name in ("due", "waiting", "deferred", "running", "demand"):
        yield f"{name:<10}{getattr(state, name):,}"
    if state.oldest_due_s is not None:
        yield f"{'oldest':<10}due for {state.oldest_due_s:,.1f} s"
    yield f"{'dead':<10}{state.dead_letters:,}"
    if state.paused:
        yield f"{'paused':<10}no job starts until fetchq resume"
    yield f"{'finished':<10}{_finished(*figures.minutes)}"
    attempts = combined(figures.minutes).attempt_duration
    median, high = quantile(attempts, 0.5), quantile(attempts, 0.95)
    if median is not None and high is not None:
        yield f"{'attempts':<10}p50 {median:.3g} s, p95 {high:.3g} s since then"


def _finished(whole: Minute, current: Minute) -> str:
    failed = f", {whole.failed:,} of them failed" if whole.failed else ""
    more = f", {current.failed:,} of them failed" if current.failed else ""
    return (
        f"{whole.finished:,} in the last whole minute{failed}; {current.finished:,} in the"
        f" {current.elapsed_s:.0f} s since{more}"
    )


def _worker_lines(state: QueueState) -> Iterator[str]:
    yield f"{'workers':<10}{len(state.workers):,}"
    for one in state.workers:
        silent_s = max(0.0, (state.now_ms - one.heartbeat_ms) / 1000)
        doing = "" if one.state is WorkerState.RUNNING else f"{one.state}, "
        yield (
            f"  {one.id} on {printable(one.host)} (pid {one.pid}, fetchq {printable(one.version)}): "
            f"{doing}{one.running} of {one.concurrency} slots in use, last heartbeat {silent_s:.1f} s ago"
        )
