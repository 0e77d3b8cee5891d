"""How the queue stands, and pausing it."""

from __future__ import annotations

import socket
import sys

import msgspec
from redis.asyncio import Redis

from fetchq import HostState, Producer
from fetchq.store.address import RedisAddress
from fetchq.store.connection import connect
from fetchq.store.errors import translated
from fetchq.store.keys import Keys
from fetchq.store.scores import PARKED
from fetchq_worker.cli.terminal.exit_status import CommandFailed, ExitStatus
from fetchq_worker.cli.terminal.redis_client import ANSWER_S, reached_producer, wait_for_answer
from fetchq_worker.cli.terminal.text import printable
from fetchq_worker.engine.upkeep.presence import WorkerRecord, live_workers
from fetchq_worker.settings import Settings

from .host_table import host_lines


class QueueState(msgspec.Struct, frozen=True, kw_only=True):
    """How many jobs stand where, and who works on them."""

    redis: str
    """Its address, without the password."""
    queue: str
    due: int
    """They wait for a worker."""
    waiting: int
    """They wait in the queue of their host, or, in a lane of their own, for their time."""
    deferred: int
    """They wait for their time."""
    running: int
    """They are leased to a worker. A stock arq worker takes no lease: what it runs counts as due."""
    dead: int
    """Dead letters."""
    paused: bool
    """Whether no worker may start a job."""
    now_ms: int
    """Redis's clock."""
    workers: tuple[WorkerRecord, ...]
    """Those that are alive, as they described themselves with their last heartbeat."""
    hosts: tuple[HostState, ...] | msgspec.UnsetType = msgspec.UNSET
    """The busiest and those that cool off, where they were asked for."""


async def read_queue_state(settings: Settings, top_hosts: int = 0) -> QueueState:
    """Raises `RedisUnavailable`."""
    address = RedisAddress.parse(settings.redis_url)
    keys = Keys(queue=settings.queue, namespace=settings.namespace)
    redis: Redis = connect(address, socket_timeout_s=ANSWER_S)
    try:
        await wait_for_answer(redis)
        with translated(redis):
            seconds, micros = await redis.time()
            now_ms = seconds * 1000 + micros // 1000
            async with redis.pipeline(transaction=True) as pipe:
                pipe.zcount(keys.pending, "-inf", now_ms)
                pipe.zcount(keys.pending, f"({now_ms}", f"({PARKED}")
                pipe.zcount(keys.pending, PARKED, "+inf")
                pipe.hlen(keys.leases)
                pipe.zcard(keys.dead)
                pipe.exists(keys.paused)
                due, later, waiting, running, dead, paused = await pipe.execute()
            workers = await live_workers(redis, keys)
        hosts: tuple[HostState, ...] | msgspec.UnsetType = msgspec.UNSET
        if top_hosts:
            hosts = tuple(
                await Producer(redis, queue=settings.queue, namespace=settings.namespace).hosts(top=top_hosts)
            )
    finally:
        await redis.aclose()
    # A leased job stands in the queue at the end of its lease, that is, among those that wait for their time.
    return QueueState(
        redis=str(address),
        queue=settings.queue,
        due=due,
        waiting=waiting,
        deferred=max(0, later - running),
        running=running,
        dead=dead,
        paused=paused == 1,
        now_ms=now_ms,
        workers=tuple(workers),
        hosts=hosts,
    )


async def show_queue_state(as_json: bool, top_hosts: int, settings: Settings) -> ExitStatus:
    """`top_hosts`: how many of the busiest hosts are shown; 0 shows none."""
    state = await read_queue_state(settings, top_hosts)
    if as_json:
        sys.stdout.buffer.write(msgspec.json.encode(state) + b"\n")
        return ExitStatus.OK
    for name in ("redis", "queue", "due", "waiting", "deferred", "running", "dead"):
        value = getattr(state, name)
        sys.stdout.write(f"{name:<10}{value:,}\n" if isinstance(value, int) else f"{name:<10}{printable(value)}\n")
    if state.paused:
        sys.stdout.write(f"{'paused':<10}no job starts until fetchq resume\n")
    sys.stdout.write(f"{'workers':<10}{len(state.workers):,}\n")
    for one in state.workers:
        silent_s = (state.now_ms - one.heartbeat_ms) / 1000
        sys.stdout.write(
            f"  {one.id} on {printable(one.host)} (pid {one.pid}, fetchq {printable(one.version)}): "
            f"{one.running} of {one.concurrency} slots in use, heard of {max(0.0, silent_s):.1f} s ago\n"
        )
    if state.hosts:
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


async def check_worker(settings: Settings) -> ExitStatus:
    """Whether a worker of this host is alive: what a container asks about the one that it runs."""
    here = socket.gethostname()
    for one in (await read_queue_state(settings)).workers:
        if one.host == here:
            sys.stdout.write(f"worker {one.id} is alive: {one.running} of {one.concurrency} slots in use\n")
            return ExitStatus.OK
    raise CommandFailed(f"no worker of {here} on queue {settings.queue} has been heard of lately", ExitStatus.FAILED)
