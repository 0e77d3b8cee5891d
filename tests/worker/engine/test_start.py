"""The start of a worker: it waits for a Redis that is not available yet, and reports at once what does not pass."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from arq import func
from arq.connections import ArqRedis
from redis.exceptions import RedisError
from tests.support.redis_server import RedisServer, waitaof_binary
from tests.support.running import running, wait_until

from fetchq import Producer
from fetchq.contract.wire import deserialize, serialize
from fetchq.store.connection import connect
from fetchq_worker.engine import Worker

pytestmark = pytest.mark.asyncio

NOT_READY = {
    "loading": "-LOADING Redis is loading the dataset in memory",
    "busy": "-BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.",
    "master down": "-MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
    "cluster down": "-CLUSTERDOWN The cluster is down",
    "read only": "-READONLY You can't write against a read only replica.",
    "cannot save": "-MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist to disk.",
    "no clients": "-ERR max number of clients reached",
    "no clients, cluster": "-ERR max number of clients + cluster connections reached",
    "closed": "",
}


class GuardedServer:
    """Replies to the first `refusals` commands with an error, then passes all on to the real server."""

    def __init__(self, server: RedisServer, error: str, refusals: int) -> None:
        self._server = server
        self._error = error.encode()
        self.refusals = refusals
        self.url = ""

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[None]:
        tasks: set[asyncio.Task[None]] = set()
        server = await asyncio.start_server(
            lambda reader, writer: tasks.add(asyncio.create_task(self._serve(reader, writer))), "127.0.0.1", 0
        )
        host, port = server.sockets[0].getsockname()
        self.url = f"redis://{host}:{port}"
        async with server:
            yield
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while (data := await reader.read(65536)) and self.refusals > 0:
                self.refusals -= 1
                if not self._error:
                    return
                writer.write(self._error + b"\r\n")
            inner_reader, inner_writer = await asyncio.open_unix_connection(self._server.socket)
            try:
                inner_writer.write(data)
                await asyncio.gather(_copy(reader, inner_writer), _copy(inner_reader, writer))
            finally:
                inner_writer.close()
        except ConnectionError:
            pass  # of a client that has ended
        finally:
            writer.close()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
    writer.close()  # the other direction ends too


def make_worker(url: str, **options: Any) -> Worker:
    async def work(ctx: Any) -> str:
        return "done"

    pool = connect(url, redis_class=ArqRedis)
    options = {"job_serializer": serialize, "job_deserializer": deserialize, **options}
    return Worker([func(work, name="work")], redis_pool=pool, handle_signals=False, poll_delay=0.05, **options)


@pytest.mark.parametrize("name", NOT_READY)
async def test_a_starting_worker_waits_for_a_redis_that_is_not_ready(
    redis_server: RedisServer, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    server = GuardedServer(redis_server, NOT_READY[name], 1_000_000)
    async with server.listening(), Producer.from_url(redis_server.url) as producer:
        job = await producer.enqueue_job("work", _job_id="a")
        assert job is not None
        async with running(make_worker(server.url)):
            await wait_until(lambda: "redis.waiting try=2" in caplog.text)
            server.refusals = 0
            await wait_until(lambda: redis_has(redis_server, "arq:result:a"))
    lines = [record.getMessage() for record in caplog.records if "redis.waiting" in record.getMessage()]
    assert [line.split()[1] for line in lines][:2] == ["try=1", "try=2"]
    assert caplog.text.count("redis.unavailable") == 0


async def redis_has(server: RedisServer, key: str) -> bool:
    async with connect(server.url) as client:
        return bool(await client.exists(key))


@pytest.mark.parametrize("error", NOT_READY.values())
async def test_a_starting_worker_waits_for_a_bounded_time(redis_server: RedisServer, error: str) -> None:
    server = GuardedServer(redis_server, error, 1_000_000)
    async with server.listening():
        worker = make_worker(server.url, start_wait_s=0.3)
        with pytest.raises((RedisError, OSError)):
            async with asyncio.timeout(30):
                await worker.main()
        await worker.close()


async def test_a_starting_worker_waits_until_a_replica_is_promoted(
    own_redis_server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    async with connect(own_redis_server.url) as admin:
        await admin.execute_command("REPLICAOF", "127.0.0.1", "1")
        await admin.config_set("replica-serve-stale-data", "yes")
        async with running(make_worker(own_redis_server.url)):
            await wait_until(lambda: "redis.waiting" in caplog.text)
            assert "error=it is a read-only replica" in caplog.text
            await admin.execute_command("REPLICAOF", "NO", "ONE")
            await wait_until(lambda: redis_has(own_redis_server, "arq:queue:health-check"))


async def test_a_running_worker_outlives_a_demotion_and_says_so_once(
    own_redis_server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    async with connect(own_redis_server.url) as admin, running(make_worker(own_redis_server.url)):
        await wait_until(lambda: redis_has(own_redis_server, "arq:queue:health-check"))
        await admin.execute_command("REPLICAOF", "127.0.0.1", "1")
        await wait_until(lambda: "redis.unavailable error=You can't write against a read only replica" in caplog.text)
        await admin.execute_command("REPLICAOF", "NO", "ONE")
        await wait_until(lambda: "redis.available" in caplog.text)
    assert caplog.text.count("redis.unavailable") == 1


@pytest.mark.parametrize("userinfo", [":wrong@", "stranger:wrong@"])
async def test_a_wrong_password_ends_the_start_at_once(
    own_redis_server: RedisServer, caplog: pytest.LogCaptureFixture, userinfo: str
) -> None:
    async with connect(own_redis_server.url) as admin:
        await admin.config_set("requirepass", "hunter2")
    worker = make_worker(f"unix://{userinfo}{own_redis_server.socket}", start_wait_s=3600)
    with pytest.raises(RedisError):
        async with asyncio.timeout(30):
            await worker.main()
    await worker.close()
    assert "redis.waiting" not in caplog.text


@pytest.fixture(params=["redis 7.0", "valkey 9"])
def server(request: pytest.FixtureRequest) -> Any:
    server = RedisServer(binary=waitaof_binary() if request.param == "valkey 9" else None)
    yield server
    server.remove()


@pytest.mark.parametrize("missing", ["+zadd", "key"])
async def test_rights_that_are_missing_within_a_script_end_the_start_at_once(
    server: RedisServer, missing: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with connect(server.url) as admin:
        commands = ["+@all", "-zrangebyscore", "-zrange"] if missing == "+zadd" else ["+@all"]
        keys = ["*"] if missing == "+zadd" else ["arq:*", "fetchq:w*", "fetchq:leases:*", "fetchq:lease-ends:*"]
        await admin.acl_setuser("worker", enabled=True, passwords=["+pw"], keys=keys, commands=commands)
    worker = make_worker(f"unix://worker:pw@{server.socket}", start_wait_s=3600)
    with pytest.raises(RedisError):
        async with asyncio.timeout(30):
            await worker.main()
    await worker.close()
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING], "no retries"


@pytest.mark.parametrize("key", ["arq:queue"])
async def test_an_error_that_no_retry_corrects_ends_the_start(redis_server: RedisServer, key: str) -> None:
    async with connect(redis_server.url) as admin:
        await admin.set(key, "no queue")
    worker = make_worker(redis_server.url, start_wait_s=3600)
    with pytest.raises(RedisError, match="wrong kind of value"):
        async with asyncio.timeout(30):
            await worker.main()
    await worker.close()


async def test_a_full_redis_does_not_end_the_start(own_redis_server: RedisServer) -> None:
    async with connect(own_redis_server.url) as admin, Producer(admin) as producer:
        await producer.enqueue_job("work", _job_id="a")
        await admin.config_set("maxmemory", 1)
        async with running(make_worker(own_redis_server.url)):
            await wait_until(lambda: redis_has(own_redis_server, "arq:result:a"))


async def test_rights_that_are_taken_from_a_running_worker_are_reported_once_as_such(
    server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    async with connect(server.url) as admin:
        await admin.acl_setuser("worker", enabled=True, passwords=["+pw"], keys=["*"], commands=["+@all"])
        async with running(make_worker(f"unix://worker:pw@{server.socket}")):
            await wait_until(lambda: redis_has(server, "arq:queue:health-check"))
            await admin.execute_command("ACL", "SETUSER", "worker", "-zrangebyscore", "-zrange")
            await wait_until(lambda: "redis.refused" in caplog.text)
            await admin.execute_command("ACL", "SETUSER", "worker", "+@all")
            await wait_until(lambda: "redis.available" in caplog.text)
    [line] = [record for record in caplog.records if record.getMessage().startswith("redis.refused")]
    assert line.levelno == logging.ERROR
    assert "the rights that `fetchq acl` prints" in line.getMessage()
