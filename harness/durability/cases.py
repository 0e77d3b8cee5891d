"""Stops a Redis while jobs are enqueued, and counts the acknowledged jobs that are lost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from enum import StrEnum
from typing import Any, Final

import msgspec
from harness.servers.durable_redis import DurableRedis
from harness.servers.powered_redis import PoweredRedis
from harness.servers.proxy import Proxy
from redis.asyncio import Redis
from tests.support.redis_server import RedisServer, waitaof_binary

from fetchq import Durability, FetchqError, Producer
from fetchq.store.connection import connect

SINGLE_TASKS: Final = 20
BATCH: Final = 50
LOAD_S: Final = 1.2
AFTER_SYNC_S: Final = 0.4
"""With `everysec`, the power is cut midway between two syncs of the file."""
LINK_DELAY_S: Final = 0.15
"""One-way latency to the replica."""


class Fault(StrEnum):
    KILL = "process killed"
    POWER = "power cut"
    FAIL_OVER = "failover"


class Server(StrEnum):
    REDIS = "Redis 7.0"
    """Debian's."""
    VALKEY = "Valkey 9.1"


class Case(msgspec.Struct, frozen=True):
    server: Server
    appendfsync: str
    durability: Durability
    fault: Fault
    loses: bool
    """Whether lost acknowledged jobs are expected."""

    def __str__(self) -> str:
        return f"{self.fault}, {self.durability} on {self.server} with appendfsync {self.appendfsync}"


class Outcome(msgspec.Struct, frozen=True):
    acknowledged: int
    lost: int


CASES: Final = (
    Case(Server.REDIS, "no", Durability.MEMORY, Fault.KILL, loses=False),
    Case(Server.REDIS, "everysec", Durability.MEMORY, Fault.KILL, loses=False),
    Case(Server.REDIS, "no", Durability.MEMORY, Fault.POWER, loses=True),
    Case(Server.REDIS, "everysec", Durability.MEMORY, Fault.POWER, loses=True),
    Case(Server.REDIS, "always", Durability.FSYNC, Fault.POWER, loses=False),
    Case(Server.VALKEY, "everysec", Durability.MEMORY, Fault.POWER, loses=True),
    Case(Server.VALKEY, "always", Durability.FSYNC, Fault.POWER, loses=False),
    Case(Server.REDIS, "everysec", Durability.MEMORY, Fault.FAIL_OVER, loses=True),
    Case(Server.REDIS, "always", Durability.FSYNC, Fault.FAIL_OVER, loses=True),
    Case(Server.REDIS, "everysec", Durability.REPLICATED, Fault.FAIL_OVER, loses=False),
    Case(Server.VALKEY, "everysec", Durability.REPLICATED, Fault.FAIL_OVER, loses=False),
)


async def pull_plug(case: Case) -> Outcome:
    """Runs one case: load, failure, and the count of what remains."""
    async with AsyncExitStack() as stack:
        binary = waitaof_binary() if case.server is Server.VALKEY else None
        kind = PoweredRedis if case.fault is Fault.POWER else DurableRedis
        server = kind(case.appendfsync, binary=binary)
        stack.callback(server.remove)
        left: RedisServer = server
        if case.fault is Fault.FAIL_OVER:
            left = await stack.enter_async_context(_replica_of(server, case, binary))
        producer = await stack.enter_async_context(Producer.from_url(server.url, durability=case.durability))
        acknowledged = await _produce_until(producer, _wait_then_pull(server, case))
        if left is server:
            await asyncio.to_thread(server.start)
        redis: Redis = await stack.enter_async_context(connect(left.url))
        lost = 0
        for start in range(0, len(acknowledged), 1000):
            batch = acknowledged[start : start + 1000]
            lost += (await redis.mget([producer.keys.job + job_id for job_id in batch])).count(None)
        return Outcome(len(acknowledged), lost)


async def _produce_until(producer: Producer, over: Any) -> list[str]:
    """Enqueues singly and in batches until `over` has ended. Returns the ids of all acknowledged jobs."""
    acknowledged: list[str] = []
    problems: list[FetchqError] = []
    pulled = asyncio.ensure_future(over)

    async def produce(batch: int) -> None:
        while not pulled.done():
            try:
                jobs = (
                    await producer.enqueue_many(["http://h/"] * batch)
                    if batch
                    else [await producer.enqueue("http://h/")]
                )
            except FetchqError as problem:
                problems.append(problem)
                await asyncio.sleep(0.01)  # the power is cut
            else:
                acknowledged.extend(job.id for job in jobs)

    await asyncio.gather(*(produce(0) for _ in range(SINGLE_TASKS)), produce(BATCH), pulled)
    if not acknowledged:
        raise problems[0]
    return acknowledged


async def _wait_then_pull(server: DurableRedis, case: Case) -> None:
    await asyncio.sleep(LOAD_S)
    if isinstance(server, PoweredRedis):
        if case.appendfsync == "everysec":
            before = server.count_syncs()
            while server.count_syncs() == before:
                await asyncio.sleep(0.02)
            await asyncio.sleep(AFTER_SYNC_S)
        server.cut_power()
    else:
        server.stop()


@asynccontextmanager
async def _replica_of(server: DurableRedis, case: Case, binary: str | None) -> AsyncIterator[DurableRedis]:
    """A replica with latency until the master has ended, when it is promoted."""
    async with Proxy(server.port) as far:
        port = far.url.rpartition(":")[2]
        replica = DurableRedis(
            *(case.appendfsync, "--replicaof", f"127.0.0.1 {port}", "--repl-diskless-sync-delay", "0"), binary=binary
        )
        try:
            async with asyncio.timeout(20), connect(replica.url) as redis:
                while (await redis.info("replication"))["master_link_status"] != "up":
                    await asyncio.sleep(0.02)
            far.delay_s = LINK_DELAY_S
            yield replica
        finally:
            replica.remove()


def table(outcomes: dict[Case, Outcome]) -> str:
    lines = [
        "| what happened | durability | server | appendfsync | acknowledged | LOST |",
        "|---|---|---|---|---:|---:|",
    ]
    for case, outcome in outcomes.items():
        lines.append(
            f"| {case.fault} | `{case.durability}` | {case.server} | `{case.appendfsync}` |"
            f" {outcome.acknowledged:,} | {outcome.lost:,} |"
        )
    return "\n".join(lines)
