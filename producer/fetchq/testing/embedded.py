"""A Redis inside the test process, with a clock that the test can move."""

from __future__ import annotations

import time
from typing import Any

from fakeredis import FakeServer
from fakeredis.aioredis import AsyncFakeSocket, FakeAsyncRedisConnection
from redis.asyncio import ConnectionPool, Redis


class _Server(FakeServer):
    advanced_s = 0.0

    def now_s(self) -> float:
        return time.time() + self.advanced_s


class _Socket(AsyncFakeSocket):
    """Takes the time from its server: `TIME`, for scripts too, and the expiry of keys."""

    _server: _Server

    def time(self) -> list[bytes]:
        micros = round(self._server.now_s() * 1_000_000)
        return [b"%d" % (micros // 1_000_000), b"%d" % (micros % 1_000_000)]

    def _run_command(self, *args: Any) -> Any:
        for database in self._server.dbs.values():
            database.time = self._server.now_s()
        return super()._run_command(*args)


class _Connection(FakeAsyncRedisConnection):
    async def _connect(self) -> None:
        await super()._connect()
        assert self._sock is not None
        self._sock.__class__ = _Socket  # fakeredis has no parameter for it


class TestRedis:
    """An empty Redis (fakeredis) in this process. Clients in any thread and event loop share its data."""

    __test__ = False

    def __init__(self) -> None:
        self._server = _Server(server_type="redis", version=(7, 0))

    def client(self) -> Redis:
        """A new client, for one event loop; `aclose()` closes it."""
        pool = ConnectionPool(connection_class=_Connection, server=self._server, version=(7, 0))
        client = Redis(connection_pool=pool)
        client.auto_close_connection_pool = True
        return client

    def advance(self, seconds: float) -> None:
        """Moves the clock of this Redis forward: deferred jobs become due, and results expire.

        Deadlines are also compared with the clock of this machine when a job is enqueued, which does not move.
        """
        if seconds < 0:
            raise ValueError("the clock moves forward only")
        self._server.advanced_s += seconds

    def now_s(self) -> float:
        """The time of this Redis, in seconds since the epoch."""
        return self._server.now_s()
