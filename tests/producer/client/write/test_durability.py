"""An enqueue is acknowledged when it is as durable as requested, and raises otherwise."""

from __future__ import annotations

import asyncio
import contextlib
import pickle
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

import pytest
import pytest_asyncio
from redis.asyncio import Redis
from tests.support.redis_server import RedisServer, waitaof_binary

from fetchq import (
    Durability,
    DurabilityRefused,
    FetchqError,
    InvalidRequest,
    Job,
    JobStatus,
    KeyConflict,
    NotDurable,
    Producer,
    RedisUnavailable,
    SyncProducer,
    WritePolicy,
)
from fetchq.client.write.durability import waitaof_waits
from fetchq.store.connection import connect
from fetchq.sync.producer import SyncFetchJob, SyncJob
from fetchq_worker.process.embedded import EmbeddedRedis

URL = "https://example.org/"
SOON_S = 0.3
ALWAYS = ("--appendonly", "yes", "--appendfsync", "always")


@pytest.fixture
def always() -> Iterator[RedisServer]:
    """A Redis that has its writes on the disk before it replies."""
    server = RedisServer(*ALWAYS)
    yield server
    server.remove()


@pytest.fixture(params=["redis", "valkey"])
def pair(request: pytest.FixtureRequest) -> Iterator[tuple[RedisServer, RedisServer]]:
    """Two kinds of servers: from Redis 7.2 on, WAIT concerns the last *write* of a connection, if there was any."""
    binary = waitaof_binary() if request.param == "valkey" else None
    master, replica = RedisServer(binary=binary), RedisServer(binary=binary)
    yield master, replica
    replica.remove()
    master.remove()


@pytest_asyncio.fixture
async def replicating(pair: tuple[RedisServer, RedisServer]) -> AsyncIterator[tuple[RedisServer, RedisServer]]:
    """The first is the master of the second."""
    master, replica = pair
    async with connect(master.url) as master_admin, connect(replica.url) as replica_admin, _tcp_port(master) as port:
        await replica_admin.execute_command("REPLICAOF", "127.0.0.1", port)
        await master_admin.config_set("repl-diskless-sync-delay", 0)
        async with asyncio.timeout(20):
            while (await master_admin.info("replication")).get("slave0", {}).get("state") != "online":
                await asyncio.sleep(0.02)
            await master_admin.set("warm", "up")
            assert await master_admin.wait(1, 20_000) == 1
            await master_admin.delete("warm")
        yield pair


@contextlib.asynccontextmanager
async def _tcp_port(server: RedisServer, change: Callable[[bytes], bytes] = bytes) -> AsyncIterator[int]:
    """A TCP port of loopback that leads to the server's unix socket; `change` is applied to the server's replies."""
    passing: set[asyncio.Task[None]] = set()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_unix_connection(str(server.socket))
        passing.update(
            {
                asyncio.create_task(_pass(reader, far_writer, bytes)),
                asyncio.create_task(_pass(far_reader, writer, change)),
            }
        )

    listener = await asyncio.start_server(connected, "127.0.0.1", 0)
    try:
        yield listener.sockets[0].getsockname()[1]
    finally:
        listener.close()
        for task in passing:
            task.cancel()
        await asyncio.gather(*passing, return_exceptions=True)


async def _pass(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, change: Callable[[bytes], bytes]) -> None:
    with contextlib.suppress(OSError):
        try:
            while data := await reader.read(1 << 16):
                writer.write(change(data))
                await writer.drain()
        finally:
            writer.transport.abort()


# replicated


@pytest.mark.asyncio
async def test_a_replicated_job_is_on_the_replica_when_enqueue_returns(
    replicating: tuple[RedisServer, RedisServer],
) -> None:
    master, replica = replicating
    async with Producer.from_url(master.url, durability="replicated") as producer, connect(replica.url) as there:
        for _ in range(50):
            job = await producer.enqueue(URL)
            assert await there.exists(f"arq:job:{job.id}")
            assert await there.zscore("arq:queue", job.id) is not None
        jobs: list[Job] = [await producer.enqueue_job("f", 1), *await producer.enqueue_many([URL] * 1500)]
        assert await there.exists(*(f"arq:job:{job.id}" for job in jobs)) == 1501


@pytest.mark.asyncio
@pytest.mark.parametrize("how", ["enqueue", "enqueue_job", "enqueue_many"])
async def test_with_too_few_replicas_the_error_reports_the_enqueued_jobs(
    replicating: tuple[RedisServer, RedisServer], how: str
) -> None:
    master, _ = replicating
    options = {"durability": Durability.REPLICATED, "replicas": 2, "durable_timeout_s": 1.5}
    async with Producer.from_url(master.url, **options) as producer:  # type: ignore[arg-type]
        calls: dict[str, Callable[[], Awaitable[object]]] = {
            "enqueue": lambda: producer.enqueue(URL),
            "enqueue_job": lambda: producer.enqueue_job("f"),
            "enqueue_many": lambda: producer.enqueue_many([URL] * 3),
        }
        with pytest.raises(NotDurable, match="on the queue, but not known to be durable: 1 of 2 replicas") as doubt:
            await calls[how]()
        assert [job.id for job in doubt.value.enqueued] == list(doubt.value.unconfirmed)
        assert len(doubt.value.enqueued) == (3 if how == "enqueue_many" else 1)
        for job in doubt.value.enqueued:
            assert await job.status() is JobStatus.QUEUED
        again = pickle.loads(pickle.dumps(doubt.value))
        assert (str(again), again.unconfirmed) == (str(doubt.value), doubt.value.unconfirmed)


@pytest.mark.asyncio
async def test_jobs_of_earlier_batches_are_not_reported_as_unconfirmed(
    replicating: tuple[RedisServer, RedisServer],
) -> None:
    master, replica = replicating

    async def requests() -> AsyncIterator[str]:
        for i in range(3000):
            if i == 2000:
                while await admin.zcard("arq:queue") < 1000:
                    await asyncio.sleep(0.01)
                hung.enter_context(replica.hung())
            yield URL

    options = {"durability": "replicated", "durable_timeout_s": 1.5}
    with contextlib.ExitStack() as hung:
        async with Producer.from_url(master.url, **options) as producer, connect(master.url) as admin:  # type: ignore[arg-type]
            with pytest.raises(NotDurable) as doubt:
                await producer.enqueue_many(requests())
            assert await admin.zcard("arq:queue") == len(doubt.value.enqueued)
            ids = [job.id for job in doubt.value.enqueued]
            assert set(doubt.value.unconfirmed) < set(ids)
            assert ids[:1000] == [job_id for job_id in ids if job_id not in doubt.value.unconfirmed][:1000]


@pytest.mark.asyncio
async def test_an_existing_key_is_acknowledged_only_once_it_is_durable(
    replicating: tuple[RedisServer, RedisServer],
) -> None:
    """Its job was written by another connection, which a bare WAIT would not cover."""
    master, replica = replicating
    async with Producer.from_url(master.url) as first:
        with replica.hung():
            job = await first.enqueue(URL, key="k")
            async with Producer.from_url(master.url, durability="replicated", durable_timeout_s=SOON_S) as second:
                with pytest.raises(NotDurable) as doubt:
                    await second.enqueue(URL, key="k")
                assert doubt.value.enqueued == (job,)
    async with Producer.from_url(master.url, durability="replicated") as third, connect(replica.url) as there:
        assert await third.enqueue(URL, key="k") == job
        assert await there.exists(f"arq:job:{job.id}")
        with pytest.raises(KeyConflict):
            await third.enqueue("https://example.org/other", key="k")


@pytest.mark.asyncio
async def test_flushed_scripts_are_sent_again_with_the_ack_command(
    replicating: tuple[RedisServer, RedisServer],
) -> None:
    master, replica = replicating
    async with Producer.from_url(master.url, durability="replicated") as producer, connect(replica.url) as there:
        await producer.enqueue(URL)
        async with connect(master.url) as admin:
            await admin.script_flush()
        job = await producer.enqueue(URL)
        assert await there.exists(f"arq:job:{job.id}")


@pytest.mark.asyncio
async def test_durable_enqueues_share_a_bounded_number_of_connections(
    replicating: tuple[RedisServer, RedisServer],
) -> None:
    master, replica = replicating
    async with (
        Producer.from_url(master.url, durability="replicated", durable_timeout_s=SOON_S) as producer,
        connect(master.url) as admin,
    ):
        await producer.enqueue(URL)
        with replica.hung():
            pending = asyncio.gather(*(producer.enqueue(URL) for _ in range(300)), return_exceptions=True)
            clients = 0
            while not pending.done():
                clients = max(clients, (await admin.info("clients"))["connected_clients"])
                await asyncio.sleep(SOON_S / 10)
            outcomes = await pending
        assert clients < 80
        assert {type(outcome) for outcome in outcomes} == {NotDurable}


@pytest.mark.asyncio
async def test_an_ack_command_ends_before_the_socket_timeout(own_redis_server: RedisServer) -> None:
    redis: Redis = connect(own_redis_server.url, socket_timeout_s=0.5)
    async with Producer(redis, durability="replicated", durable_timeout_s=60) as producer:
        with pytest.raises(NotDurable, match=r"0 of 1 replicas had them after 0\.4 s"):
            await producer.enqueue(URL)
    await redis.aclose()


@pytest.mark.asyncio
async def test_a_cancelled_ack_command_leaves_a_working_producer(own_redis_server: RedisServer) -> None:
    async with Producer.from_url(own_redis_server.url, durability="replicated", durable_timeout_s=2) as producer:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(SOON_S):
                await producer.enqueue(URL)
        await producer.ping()
        assert [sum(counts.values()) async for counts in producer.cancel_all()] == [1]


# fsync


@pytest.mark.asyncio
async def test_fsync_is_acknowledged_where_every_write_is_synced_before_its_reply(always: RedisServer) -> None:
    async with Producer.from_url(always.url, durability="fsync") as producer:
        assert await (await producer.enqueue(URL)).status() is JobStatus.QUEUED
        assert len(await producer.enqueue_many([URL] * 1200)) == 1200


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("options", "why"),
    [
        ((), "appendonly is no, not yes"),
        (("--appendonly", "yes"), "appendfsync is everysec, not always"),
        ((*ALWAYS, "--no-appendfsync-on-rewrite", "yes"), "no-appendfsync-on-rewrite is yes, not no"),
        (("--rename-command", "CONFIG", ""), "and does not permit reading appendfsync"),
    ],
)
async def test_fsync_is_refused_with_the_reason_and_nothing_is_written(options: tuple[str, ...], why: str) -> None:
    server = RedisServer(*options)
    try:
        async with Producer.from_url(server.url, durability="fsync") as producer, connect(server.url) as admin:
            with pytest.raises(DurabilityRefused, match=rf"cannot provide durability='fsync'.*{why}"):
                await producer.enqueue(URL)
            assert await admin.dbsize() == 0
    finally:
        server.remove()


@pytest.mark.asyncio
async def test_the_refusal_names_the_missing_right_to_read_settings(always: RedisServer) -> None:
    async with connect(always.url) as admin:
        await admin.acl_setuser("app", enabled=True, passwords=["+pw"], keys=["*"], commands=["+@all", "-@dangerous"])
    async with Producer.from_url(f"unix://app:pw@{always.socket}", durability="fsync") as producer:
        with pytest.raises(DurabilityRefused, match=r"and does not permit reading appendfsync .*permission"):
            await producer.enqueue(URL)


@pytest.mark.asyncio
async def test_a_changed_server_setting_is_noticed_with_the_next_write(always: RedisServer) -> None:
    async with Producer.from_url(always.url, durability="fsync") as producer, connect(always.url) as admin:
        await producer.enqueue(URL)
        await admin.config_set("appendfsync", "everysec")
        with pytest.raises(NotDurable, match="appendfsync is everysec") as doubt:
            await producer.enqueue(URL)
        assert len(doubt.value.enqueued) == 1
        with pytest.raises(DurabilityRefused):
            await producer.enqueue(URL)
        assert await admin.zcard("arq:queue") == 2
        await admin.config_set("appendfsync", "always")
        await producer.enqueue(URL)


@pytest.mark.asyncio
async def test_a_server_that_restarts_with_other_settings_is_refused_before_a_write(
    always: RedisServer,
) -> None:
    async with Producer.from_url(always.url, durability="fsync") as producer:
        await producer.enqueue(URL)
        always.stop()
        always.start("--appendfsync", "everysec")
        with pytest.raises(DurabilityRefused, match="appendfsync is everysec"):
            await producer.enqueue(URL)
        assert [sum(counts.values()) async for counts in producer.cancel_all()] == [1]


@pytest.mark.asyncio
async def test_waitaof_of_valkey_is_not_used(request: pytest.FixtureRequest) -> None:
    server = RedisServer("--appendonly", "yes", binary=waitaof_binary())
    request.addfinalizer(server.remove)
    async with Producer.from_url(server.url, durability="fsync") as producer, connect(server.url) as admin:
        with pytest.raises(
            DurabilityRefused, match=r"no WAITAOF that always waits for the disk .*appendfsync is everysec"
        ):
            await producer.enqueue(URL)
        await admin.config_set("appendfsync", "always")
        await producer.enqueue(URL)


@pytest.mark.parametrize(
    ("server", "waits"),
    [
        ({"redis_version": "7.0.15"}, False),
        ({"redis_version": "7.2.12"}, True),
        ({"redis_version": "7.4.6"}, False),
        ({"redis_version": "8.0.0"}, True),
        ({"redis_version": "10.2.1"}, True),
        ({"redis_version": "7.2.4", "valkey_version": "9.1.2"}, False),
        ({"redis_version": "255.255.255"}, True),
        ({"redis_version": "unstable"}, False),
        ({}, False),
    ],
)
def test_which_servers_have_a_waitaof_that_waits_for_the_disk(server: dict[str, object], waits: bool) -> None:
    assert waitaof_waits(server) is waits


def _as_redis_8(reply: bytes) -> bytes:
    """Valkey's INFO as that of a Redis whose WAITAOF is trusted; no reply changes its length."""
    return re.sub(rb"redis_version:\d", b"redis_version:8", reply).replace(b"valkey_version", b"other__version")


@pytest.mark.asyncio
async def test_a_reliable_waitaof_is_used(request: pytest.FixtureRequest) -> None:
    """The reply of a Valkey that claims to be Redis 8.

    With `appendfsync no` its WAITAOF waits for a sync that never comes.
    """
    server = RedisServer(*ALWAYS, binary=waitaof_binary())
    request.addfinalizer(server.remove)
    async with connect(server.url) as admin, _tcp_port(server, _as_redis_8) as port:
        url = f"redis://127.0.0.1:{port}"
        async with Producer.from_url(url, durability="fsync", durable_timeout_s=1.5) as producer:
            jobs = await producer.enqueue_many([URL] * 1200)
            assert len(jobs) == 1200
            assert await producer.enqueue(URL, key="k") == await producer.enqueue(URL, key="k")
            assert (await admin.info("commandstats"))["cmdstat_waitaof"]["calls"] >= 5
            await admin.config_set("appendfsync", "no")
            with pytest.raises(NotDurable, match=r"not on its disk after 1\.5 s") as doubt:
                await producer.enqueue(URL)
            assert await admin.zscore("arq:queue", doubt.value.enqueued[0].id) is not None
            await admin.config_set("appendonly", "no")
            with pytest.raises(DurabilityRefused, match="has no append-only file"):
                await producer.enqueue(URL)


# and besides


@pytest.mark.asyncio
@pytest.mark.parametrize("durability", [Durability.FSYNC, Durability.REPLICATED])
async def test_an_embedded_redis_refuses_durability(durability: Durability) -> None:
    redis: Redis = EmbeddedRedis().client()
    async with Producer(redis, durability=durability) as producer:
        with pytest.raises(DurabilityRefused, match=f"cannot provide durability='{durability}'"):
            await producer.enqueue(URL)
        assert await redis.dbsize() == 0
    await redis.aclose()


@pytest.mark.asyncio
@pytest.mark.parametrize("durability", list(Durability))
async def test_an_unreachable_redis_is_unavailable_for_every_durability(durability: Durability) -> None:
    async with Producer.from_url("redis://127.0.0.1:1", durability=durability) as producer:
        with pytest.raises(RedisUnavailable):
            await producer.enqueue(URL)


def test_the_blocking_producer_reports_blocking_handles_of_jobs_that_are_not_durable(
    own_redis_server: RedisServer,
) -> None:
    options = {"durability": "replicated", "durable_timeout_s": SOON_S}
    with SyncProducer.from_url(own_redis_server.url, **options) as producer:  # type: ignore[arg-type]
        for call, kind in (
            (lambda: producer.enqueue(URL), SyncFetchJob),
            (lambda: producer.enqueue_many([URL]), SyncFetchJob),
            (lambda: producer.enqueue_job("f"), SyncJob),
        ):
            with pytest.raises(NotDurable) as doubt:
                call()
            [job] = doubt.value.enqueued
            assert type(job) is kind
            assert job.status() is JobStatus.QUEUED


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"durability": "disk"}, "durability: takes memory, fsync or replicated, not 'disk'"),
        ({"when_full": "drop"}, "when_full: takes refuse or wait, not 'drop'"),
        ({"replicas": 2}, "replicas: is used with durability='replicated' only"),
        ({"durability": "replicated", "replicas": 0}, "replicas: takes a whole number from 1 to 100, not 0"),
        ({"durable_timeout_s": 0}, "durable_timeout_s: takes more than 0 and at most 300 seconds, not 0"),
        ({"max_queued": 0}, "max_queued: takes a whole number of at least 1, not 0"),
        ({"max_memory": 1.5}, "max_memory: takes a share above 0 and at most 1, not 1.5"),
        ({"max_length": 5}, "max_length"),
    ],
)
def test_an_invalid_option_is_refused_before_anything_is_sent(options: dict[str, object], problem: str) -> None:
    with pytest.raises(InvalidRequest) as refusal:
        WritePolicy.of(options)  # type: ignore[arg-type]
    assert problem in str(refusal.value)
    with pytest.raises(FetchqError):
        Producer.from_url("redis://127.0.0.1:1", **options)  # type: ignore[arg-type]
    with pytest.raises(FetchqError):
        SyncProducer("redis://127.0.0.1:1", **options)  # type: ignore[arg-type]
