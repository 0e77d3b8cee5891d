"""The faults of a chaos run. Each returns when it has ended; from then on the processes recover by themselves."""

from __future__ import annotations

import asyncio
import random
import signal
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final

from harness.chaos.fleet.processes import Acknowledged, Fleet, Producers
from harness.servers.durable_redis import DurableRedis
from harness.servers.proxy import Proxy
from harness.servers.sentinel import SentinelCluster
from redis.asyncio import Redis
from redis.exceptions import RedisError

from fetchq import FetchqError, Producer

UNUSED_PORT: Final = 1
"""An address without a server: a replica of it keeps its data."""
HARNESS_NUMBERS: Final = 1 << 40
"""Job numbers from here on belong to jobs that a fault enqueues."""


@dataclass
class Arena:
    """What a fault can act on: servers, workers, producers, proxy."""

    redis: DurableRedis
    admin: Redis
    proxy: Proxy
    fleet: Fleet
    producers: Producers
    producer: Producer
    rng: random.Random
    lease_s: float
    cluster: SentinelCluster | None = None
    redis_restarting: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Locked by a fault while it stops, freezes or restarts the server."""
    acknowledged: list[Acknowledged] = field(default_factory=list)
    """Jobs that faults enqueued."""

    async def enqueue(self, function: str, for_s: float) -> None:
        number = HARNESS_NUMBERS + len(self.acknowledged)
        sent_ms = time.time_ns() // 1_000_000
        try:
            job = await self.producer.enqueue_job(function, number, for_s)
        except FetchqError:
            return  # another fault prevents it
        self.acknowledged.append(Acknowledged(number, job.id.encode(), function, time.time_ns() // 1_000_000, sent_ms))


Fault = Callable[[Arena], Awaitable[None]]


async def kill_worker(arena: Arena) -> None:
    await arena.fleet.replace(await arena.fleet.pick(), signal.SIGKILL)


async def stop_worker(arena: Arena) -> None:
    await arena.fleet.replace(await arena.fleet.pick(), signal.SIGTERM)


async def freeze_worker(arena: Arena) -> None:
    """Stops a worker for longer than its lease, so that others claim its jobs before it continues."""
    worker = await arena.fleet.pick()
    worker.send_signal(signal.SIGSTOP)
    await asyncio.sleep(1.75 * arena.lease_s)
    if worker.returncode is None:
        worker.send_signal(signal.SIGCONT)


async def block_event_loop(arena: Arena) -> None:
    await arena.enqueue("block", 1.75 * arena.lease_s)
    await asyncio.sleep(1.75 * arena.lease_s)


async def ignore_cancellation(arena: Arena) -> None:
    """A coroutine ignores its cancellation after the lease of its frozen worker has ended."""
    await arena.enqueue("ignore_cancellation", 3 * arena.lease_s)
    await freeze_worker(arena)


async def kill_producer(arena: Arena) -> None:
    await arena.producers.kill_one()


async def kill_connections(arena: Arena) -> None:
    await arena.admin.client_kill_filter(_type="normal", skipme=True)
    await arena.admin.client_kill_filter(_type="pubsub")


async def flush_scripts(arena: Arena) -> None:
    await arena.admin.script_flush()


async def fill_redis(arena: Arena) -> None:
    """Lowers maxmemory, so that nothing can be enqueued while the queue drains."""
    await arena.admin.config_set("maxmemory", "1mb")
    await asyncio.sleep(2)
    await arena.admin.config_set("maxmemory", "0")


async def stall_redis(arena: Arena) -> None:
    """The server accepts connections but sends no replies for longer than the leases."""
    async with arena.redis_restarting:
        arena.redis.freeze()
        await asyncio.sleep(1.5 * arena.lease_s)
        arena.redis.thaw()


async def slow_redis(arena: Arena) -> None:
    """The server stops for 0.3 s, three times in a row."""
    for _ in range(3):
        await arena.admin.execute_command("DEBUG", "SLEEP", "0.3")  # type: ignore[no-untyped-call]
        await asyncio.sleep(0.2)


async def restart_redis(arena: Arena) -> None:
    """A power cut: with `appendfsync everysec` the last second of changes is lost."""
    async with arena.redis_restarting:
        await asyncio.to_thread(arena.redis.cut_power)
        await asyncio.sleep(arena.rng.uniform(0.2, 1.0))
        await asyncio.to_thread(arena.redis.start)


async def make_read_only(arena: Arena) -> None:
    """The server becomes a read-only replica, as a demoted master does; then a master again."""
    async with arena.redis_restarting:
        await arena.admin.execute_command("REPLICAOF", "127.0.0.1", str(UNUSED_PORT))  # type: ignore[no-untyped-call]
        await asyncio.sleep(1.5 * arena.lease_s)
        await arena.admin.execute_command("REPLICAOF", "NO", "ONE")  # type: ignore[no-untyped-call]


async def cut_network(arena: Arena) -> None:
    arena.proxy.cut()


async def cut_replies_in_half(arena: Arena) -> None:
    arena.proxy.cut_in_the_middle(arena.rng.randint(2, 10))
    await asyncio.sleep(0.5)
    arena.proxy.cut_in_the_middle(0)


async def delay_network(arena: Arena) -> None:
    arena.proxy.delay_s = arena.rng.uniform(0.05, 0.3)
    await asyncio.sleep(2)
    arena.proxy.delay_s = 0.0


async def drop_network(arena: Arena) -> None:
    """Drops all packets for longer than a lease, without an error; then delivers them, or breaks the connections."""
    arena.proxy.hold()
    await asyncio.sleep(1.5 * arena.lease_s)
    if arena.rng.random() < 0.5:
        arena.proxy.cut()
    arena.proxy.release()


async def fail_over(arena: Arena) -> None:
    """The master is killed, a replica is promoted, and the old master comes back as a replica."""
    assert arena.cluster is not None
    await arena.cluster.fail_over()
    arena.redis = arena.cluster.master


WORKER_FAULTS: Final[tuple[Fault, ...]] = (
    kill_worker,
    stop_worker,
    freeze_worker,
    block_event_loop,
    ignore_cancellation,
)
NETWORK_FAULTS: Final[tuple[Fault, ...]] = (cut_network, cut_replies_in_half, delay_network, drop_network)
REDIS_FAULTS: Final[tuple[Fault, ...]] = (
    kill_connections,
    flush_scripts,
    fill_redis,
    make_read_only,
    slow_redis,
    stall_redis,
    restart_redis,
)

MET: Final = (RedisError, OSError, FetchqError)
"""Exceptions that a fault may raise while another one is active."""
