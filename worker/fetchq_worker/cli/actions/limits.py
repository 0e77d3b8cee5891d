"""`fetchq limits`: sets, shows and removes limits of hosts."""

from __future__ import annotations

import sys

import msgspec

from fetchq import HostLimits
from fetchq.client.limits import DEFAULT_CONCURRENCY, name_of
from fetchq.command.exit_status import CommandFailed, ExitStatus
from fetchq.command.streams import print_error, printable
from fetchq_worker.cli.terminal.redis_client import reached_producer
from fetchq_worker.settings import Settings


async def set_limits(host: str, wanted: HostLimits, as_json: bool, settings: Settings) -> ExitStatus:
    """Prints the limits that are now set for the host; raises `InvalidRequest`."""
    if wanted == HostLimits():
        raise CommandFailed("name a limit: --concurrency, --rate, --burst or --min-delay", ExitStatus.USAGE)
    async with reached_producer(settings) as producer:
        now = await producer.limits.set(
            host,
            concurrency=wanted.concurrency,
            rate=wanted.rate,
            burst=wanted.burst,
            min_delay_s=wanted.min_delay_s,
        )
    _print({name_of(host): now}, as_json)
    return ExitStatus.OK


async def show_limits(host: str | None, as_json: bool, settings: Settings) -> ExitStatus:
    """Prints the effective limits of `host`, or without it all limits that are set, a line each."""
    async with reached_producer(settings) as producer:
        if host is None:
            limits = await producer.limits.list()
        else:
            limits = {name_of(host): await producer.limits.effective(host)}
    if limits or as_json:
        _print(limits, as_json)
    else:
        print_error(f"no limits are set: each host has up to {DEFAULT_CONCURRENCY} fetches at a time")
    return ExitStatus.OK


async def clear_limits(host: str, settings: Settings) -> ExitStatus:
    async with reached_producer(settings) as producer:
        if not await producer.limits.clear(host):
            raise CommandFailed(f"no limits are set for {name_of(host)}; see fetchq limits show", ExitStatus.FAILED)
    return ExitStatus.OK


async def pause_host(host: str, settings: Settings) -> ExitStatus:
    async with reached_producer(settings) as producer:
        await producer.limits.pause(host)
    return ExitStatus.OK


async def resume_host(host: str, settings: Settings) -> ExitStatus:
    async with reached_producer(settings) as producer:
        await producer.limits.resume(host)
    return ExitStatus.OK


def _print(limits: dict[str, HostLimits], as_json: bool) -> None:
    if as_json:
        sys.stdout.buffer.write(msgspec.json.encode(limits) + b"\n")
        return
    width = max(len(name) for name in limits)
    for name, one in limits.items():
        sys.stdout.write(f"{printable(name):<{width}}  {_in_words(one)}\n")


def _in_words(limits: HostLimits) -> str:
    words = []
    if limits.concurrency is not None:
        words.append(f"concurrency {limits.concurrency}")
    if limits.rate is not None:
        words.append(f"rate {limits.rate}")
    if limits.burst is not None:
        words.append(f"burst {limits.burst}")
    if limits.min_delay_s is not None:
        words.append(f"min delay {limits.min_delay_s:g} s")
    if limits.paused is not None:
        words.append("paused" if limits.paused else "not paused")
    return ", ".join(words)
