"""A Redis inside the process: fakeredis, with Lua.

For tests, and where no server is available. Only clients of the same `EmbeddedRedis` share data.
"""

from __future__ import annotations

from typing import Any, Final

from arq.connections import ArqRedis
from fakeredis import FakeServer
from fakeredis._commands import Signature
from fakeredis.aioredis import AsyncFakeSocket, FakeAsyncRedisConnection
from redis.asyncio import ConnectionPool

_INFO: Final = Signature("info", "info", (), (bytes,))  # type: ignore[arg-type]  # annotated as not empty


class _Socket(AsyncFakeSocket):
    """Answers INFO, which fakeredis does not have and arq sends at its start."""

    def info(self, *sections: bytes) -> bytes:
        return b"redis_version:7.0.0\r\nused_memory_human:?\r\nmaxmemory_policy:noeviction\r\nconnected_clients:1\r\n"

    def _name_to_func(self, cmd_name: str) -> tuple[Any, Signature]:
        if cmd_name == "info":
            return self.info, _INFO
        found: tuple[Any, Signature] = super()._name_to_func(cmd_name)
        return found


class _Connection(FakeAsyncRedisConnection):
    async def _connect(self) -> None:
        await super()._connect()
        assert self._sock is not None
        self._sock.__class__ = _Socket  # fakeredis has no parameter for it


class EmbeddedRedis:
    """One in-process server; each `client()` is an independent client of it."""

    def __init__(self) -> None:
        self._server = FakeServer(server_type="redis", version=(7, 0))

    def client(self) -> ArqRedis:
        """A client with its own connection pool, which `aclose()` closes."""
        pool = ConnectionPool(connection_class=_Connection, server=self._server, version=(7, 0))
        client = ArqRedis(pool_or_conn=pool)
        client.auto_close_connection_pool = True
        return client
