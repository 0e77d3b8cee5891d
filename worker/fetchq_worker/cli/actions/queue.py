"""`fetchq status`, `pause` and `resume`."""

from __future__ import annotations

import sys
from typing import Final

import msgspec
from redis.asyncio import Redis

from fetchq import HostState, Producer
from fetchq.command.exit_status import CommandFailed, ExitStatus
from fetchq.command.redis_answer import ANSWER_S, wait_for_answer
from fetchq.command.streams import printable
from fetchq.inspect.queue import QueueState, read_queue_state
from fetchq.inspect.workers import WorkerState
from fetchq.store.address import RedisAddress
from fetchq.store.connection import connect
from fetchq_worker.cli.terminal.redis_client import reached_producer
from fetchq_worker.settings import Settings

from .host_table import host_lines

DEFAULT_TOP: Final = 10
"""Hosts of each kind that `--hosts` shows."""


class _Status(QueueState, frozen=True, kw_only=True):
    """What `fetchq status` shows."""

    redis: str
    """The address, without the password."""
    hosts: tuple[HostState, ...] | msgspec.UnsetType = msgspec.UNSET
    """The busiest hosts and those in a cooldown; absent unless requested."""


async def _read_status(settings: Settings, top_hosts: int = 0) -> _Status:
    """Raises `RedisUnavailable`."""
    address = RedisAddress.parse(settings.redis_url)
    redis: Redis = connect(address, socket_timeout_s=ANSWER_S)
    hosts: tuple[HostState, ...] | msgspec.UnsetType = msgspec.UNSET
    try:
        await wait_for_answer(redis)
        state = await read_queue_state(redis, settings.keys)
        if top_hosts:
            hosts = tuple(
                await Producer(redis, queue=settings.queue, namespace=settings.namespace).hosts(top=top_hosts)
            )
    finally:
        await redis.aclose()
    return _Status(redis=str(address), hosts=hosts, **msgspec.structs.asdict(state))


async def show_queue_state(as_json: bool, hosts: bool, top: int | None, settings: Settings) -> ExitStatus:
    """`top`: how many of the busiest hosts are shown, with `hosts`."""
    if top is not None and not hosts:
        raise CommandFailed("--top needs --hosts", ExitStatus.USAGE)
    state = await _read_status(settings, (top or DEFAULT_TOP) if hosts else 0)
    if as_json:
        sys.stdout.buffer.write(msgspec.json.encode(state) + b"\n")
        return ExitStatus.OK
    for name in ("redis", "queue"):
        sys.stdout.write(f"{name:<10}{printable(getattr(state, name))}\n")
    for name in ("due", "waiting", "deferred", "running"):
        sys.stdout.write(f"{name:<10}{getattr(state, name):,}\n")
    sys.stdout.write(f"{'dead':<10}{state.dead_letters:,}\n")
    if state.paused:
        sys.stdout.write(f"{'paused':<10}no job starts until fetchq resume\n")
    sys.stdout.write(f"{'workers':<10}{len(state.workers):,}\n")
    for one in state.workers:
        silent_s = (state.now_ms - one.heartbeat_ms) / 1000
        sys.stdout.write(
            f"  {one.id} on {printable(one.host)} (pid {one.pid}, fetchq {printable(one.version)}): "
            f"{'' if one.state is WorkerState.RUNNING else f'{one.state}, '}"
            f"{one.running} of {one.concurrency} slots in use, last heartbeat {max(0.0, silent_s):.1f} s ago\n"
        )
    if state.hosts is not msgspec.UNSET:
        sys.stdout.write("\n" + "".join(f"{line}\n" for line in host_lines(state.hosts)))
    return ExitStatus.OK


async def pause_queue(settings: Settings) -> ExitStatus:
    async with reached_producer(settings) as producer:
        await producer.pause()
    return ExitStatus.OK


async def resume_queue(settings: Settings) -> ExitStatus:
    async with reached_producer(settings) as producer:
        await producer.resume()
    return ExitStatus.OK
