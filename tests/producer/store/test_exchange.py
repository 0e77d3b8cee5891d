"""Commands and replies on connections of redis-py."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError
from tests.support.redis_server import RedisServer

from fetchq.store.connection import connect
from fetchq.store.exchange import Exchanges, packed, ready_connection
from fetchq.store.runner import ClientRunner, PackedRunner, ScriptRunner

TIMEOUT_S = 0.3
PATIENCE_S = 20


class SilentServer:
    """Replies `+PONG` to each read until it is silent."""

    def __init__(self) -> None:
        self.is_silent = False
        self.asked = asyncio.Event()
        self._writers: set[asyncio.StreamWriter] = set()

    @contextlib.asynccontextmanager
    async def run(self) -> AsyncIterator[str]:
        server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        try:
            yield f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        finally:
            server.close()
            self.abort()

    def abort(self) -> None:
        for writer in self._writers:
            writer.transport.abort()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        with contextlib.suppress(OSError):
            while await reader.read(1 << 16):
                self.asked.set()
                if not self.is_silent:
                    writer.write(b"+PONG\r\n")


@contextlib.asynccontextmanager
async def silent_server() -> AsyncIterator[tuple[SilentServer, Redis]]:
    """With a client that has one connection."""
    server = SilentServer()
    async with server.run() as url, connect(url, socket_timeout_s=TIMEOUT_S) as client:
        await client.ping()
        server.asked.clear()
        yield server, client


async def exchange(exchanges: Exchanges, client: Redis, *command: str | bytes) -> Any:
    connection = ready_connection(client.connection_pool)
    assert connection is not None
    try:
        return await exchanges.run(connection, packed(*command))
    finally:
        await client.connection_pool.release(connection)


@pytest.mark.asyncio
async def test_a_reply_and_an_error_reply(redis_server: RedisServer) -> None:
    exchanges = Exchanges()
    async with connect(redis_server.url) as client:
        await client.ping()
        assert await exchange(exchanges, client, "ECHO", "né") == "né".encode()
        with pytest.raises(ResponseError, match="unknown command"):
            await exchange(exchanges, client, "NONE")
        assert await exchange(exchanges, client, "ECHO", "again") == b"again"


@pytest.mark.asyncio
async def test_a_command_larger_than_the_buffers_of_the_socket(redis_server: RedisServer) -> None:
    async with connect(redis_server.url) as client:
        await client.ping()
        large = bytes(20 << 20)
        assert await exchange(Exchanges(), client, "ECHO", large) == large


@pytest.mark.asyncio
async def test_a_reply_that_takes_longer_than_the_socket_timeout_is_an_error_and_closes_the_connection() -> None:
    exchanges = Exchanges()
    async with silent_server() as (server, client):
        server.is_silent = True
        with pytest.raises(RedisTimeoutError, match=r"no reply within 0\.3 s"):
            await exchange(exchanges, client, "PING")
        assert ready_connection(client.connection_pool) is None
        assert not exchanges._ends


@pytest.mark.asyncio
async def test_one_timer_serves_all_replies_and_each_has_its_whole_time() -> None:
    exchanges = Exchanges()
    loop = asyncio.get_running_loop()
    async with silent_server() as (server, client):
        await exchange(exchanges, client, "PING")
        timer = exchanges._timer
        await asyncio.sleep(TIMEOUT_S / 2)
        assert await exchange(exchanges, client, "PING") == b"PONG"
        assert exchanges._timer is timer
        server.is_silent = True
        began = loop.time()
        with pytest.raises(RedisTimeoutError):
            await exchange(exchanges, client, "PING")
        assert loop.time() - began >= TIMEOUT_S


@pytest.mark.asyncio
async def test_the_timer_ends_when_no_reply_is_awaited() -> None:
    exchanges = Exchanges()
    async with silent_server() as (_, client), asyncio.timeout(PATIENCE_S):
        await exchange(exchanges, client, "PING")
        while exchanges._timer is not None:
            await asyncio.sleep(0.01)
        assert await exchange(exchanges, client, "PING") == b"PONG"
        assert exchanges._timer is not None


@pytest.mark.asyncio
async def test_a_connection_that_breaks_is_an_error_of_redis_py() -> None:
    async with silent_server() as (server, client):
        server.is_silent = True
        asking = asyncio.create_task(exchange(Exchanges(), client, "PING"))
        await server.asked.wait()
        server.abort()
        with pytest.raises(RedisConnectionError):
            await asking
        assert ready_connection(client.connection_pool) is None


@pytest.mark.asyncio
async def test_after_a_cancellation_no_other_command_gets_the_reply(redis_server: RedisServer) -> None:
    exchanges = Exchanges()
    async with connect(redis_server.url) as client:
        await client.ping()
        asking = asyncio.create_task(exchange(exchanges, client, "ECHO", "of another"))
        await asyncio.sleep(0)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        assert ready_connection(client.connection_pool) is None
        assert await client.ping() is True


@pytest.mark.asyncio
async def test_a_connection_that_was_idle_is_checked_before_it_is_used(redis_server: RedisServer) -> None:
    async with connect(redis_server.url) as client, connect(redis_server.url) as admin:
        await client.ping()
        pings = (await admin.info("commandstats"))["cmdstat_ping"]["calls"]
        await exchange(Exchanges(), client, "ECHO", "a")
        assert (await admin.info("commandstats"))["cmdstat_ping"]["calls"] == pings
        client.connection_pool._available_connections[0].next_health_check = 0
        await exchange(Exchanges(), client, "ECHO", "a")
        assert (await admin.info("commandstats"))["cmdstat_ping"]["calls"] == pings + 1


@pytest.mark.asyncio
async def test_a_connection_with_unread_data_is_left_to_redis_py(redis_server: RedisServer) -> None:
    async with connect(redis_server.url) as client:
        await client.ping()
        connection = client.connection_pool._available_connections[0]
        connection._parser._reader.feed(b"+of another\r\n")
        assert ready_connection(client.connection_pool) is None
        assert await client.ping() is True


@pytest.mark.asyncio
async def test_an_instrumented_client_sees_every_command(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Instrumentations wrap the method of redis-py's class."""
    seen: list[str] = []
    execute = Redis.execute_command

    async def traced(self: Redis, *args: Any, **options: Any) -> Any:
        seen.append(args[0])
        return await execute(self, *args, **options)  # type: ignore[no-untyped-call]  # redis-py 5

    class Own(Redis):
        async def execute_command(self, *args: Any, **options: Any) -> Any:
            return await traced(self, *args, **options)

    async with connect(redis_server.url) as client:
        await client.ping()
        arguments = ("workers/pass_wake", ("arq:queue", "wake"), ("", 1))
        await ClientRunner(client).run(*arguments)
        await ClientRunner(Own(connection_pool=client.connection_pool)).run(*arguments)
        assert seen == ["EVALSHA"]
        monkeypatch.setattr(Redis, "execute_command", _Wrapper(traced))
        await ClientRunner(client).run(*arguments)
        assert seen == ["EVALSHA"] * 2


class _Wrapper:
    """Wraps a method as `wrapt` does: bound, it is no method of redis-py's class, but shows its attributes."""

    def __init__(self, wrapped: Any) -> None:
        self._wrapped = wrapped

    def __get__(self, instance: Any, owner: type) -> Any:
        if instance is None:
            return self
        return _Wrapper(self._wrapped.__get__(instance, owner))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._wrapped, name)

    async def __call__(self, *args: Any, **options: Any) -> Any:
        return await self._wrapped(*args, **options)


@pytest.mark.asyncio
@pytest.mark.parametrize("runner_of", [ClientRunner, lambda redis: PackedRunner(redis, timeout_s=PATIENCE_S)])
async def test_a_client_that_repeats_commands_repeats_a_script(
    redis_server: RedisServer, runner_of: Callable[[Redis], ScriptRunner]
) -> None:
    async with Redis.from_url(
        redis_server.url, retry=Retry(NoBackoff(), 1), retry_on_error=[RedisConnectionError]
    ) as client:
        runner = runner_of(client)
        await runner.run("workers/pass_wake", ("pending", "wake"), ("",))
        assert ready_connection(client.connection_pool) is None
        async with connect(redis_server.url) as other:
            await other.client_kill_filter(_type="normal", skipme=True)
        await runner.run("workers/pass_wake", ("pending", "wake"), ("",))
