"""A Redis inside the process: fakeredis, with Lua.

For tests, and where no server is available. Only clients of the same `EmbeddedRedis` share data.
"""

from __future__ import annotations

from arq.connections import ArqRedis
from fakeredis import FakeServer
from fakeredis.aioredis import FakeAsyncRedisConnection
from redis.asyncio import ConnectionPool


class EmbeddedRedis:
    """One in-process server; each `client()` is an independent client of it."""

    def __init__(self) -> None:
        self._server = FakeServer(server_type="redis", version=(7, 0))

    def client(self) -> ArqRedis:
        """A client with its own connection pool, which `aclose()` closes."""
        pool = ConnectionPool(connection_class=FakeAsyncRedisConnection, server=self._server, version=(7, 0))
        client = ArqRedis(pool_or_conn=pool)
        client.auto_close_connection_pool = True
        return client
