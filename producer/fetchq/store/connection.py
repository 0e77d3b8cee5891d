"""Clients for a `RedisAddress`: over TCP, TLS, a unix socket or sentinels, with a timeout on every socket."""

from __future__ import annotations

import contextlib
from asyncio import StreamWriter
from typing import Any, Final, TypeVar

from redis.asyncio import Redis, SSLConnection, UnixDomainSocketConnection
from redis.asyncio.connection import AbstractConnection, Connection, ConnectionPool
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import (
    Sentinel,
    SentinelConnectionPool,
    SentinelManagedConnection,
    SentinelManagedSSLConnection,
)
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError

from .address import RedisAddress

CONNECT_TIMEOUT_S: Final = 5.0
SOCKET_TIMEOUT_S: Final = 30.0
"""A connection whose reply takes longer is closed. Blocking commands set their own timeout."""
HEALTH_CHECK_S: Final = 30
"""A connection that was idle for longer is pinged before use."""

RedisT = TypeVar("RedisT", bound="Redis")


class _RedisPyFixes:
    """Corrects the connections of redis-py 5 to 8."""

    def __init__(self, **settings: Any) -> None:
        """Turns CLIENT SETINFO off: it costs two commands a connection, and needs a permission.

        Set as attributes, since redis-py 8 deprecates the parameters by which redis-py 5 turns it off.
        """
        super().__init__(**settings)
        for name in ("lib_name", "lib_version", "driver_info"):
            setattr(self, name, None)

    async def on_connect(self) -> None:
        """Closes a connection whose handshake (AUTH, SELECT) failed or was cancelled.

        redis-py can leave such a connection open, mostly on unix sockets, and the next command would use database 0.
        """
        try:
            await super().on_connect()  # type: ignore[misc]  # of the class that this is mixed into
        except BaseException:
            await self.disconnect(nowait=True)  # type: ignore[attr-defined]
            raise

    async def send_packed_command(self, command: Any, check_health: bool = True) -> None:
        """Turns other errors of a connection that was closed meanwhile into redis-py's `ConnectionError`.

        uvloop raises `RuntimeError` on a closed transport; redis-py reads an attribute of None where another task has
        closed the connection while this one waited for it.
        """
        writer: StreamWriter | None = self._writer  # type: ignore[attr-defined]
        try:
            await super().send_packed_command(command, check_health)  # type: ignore[misc]
        except RuntimeError as problem:
            if writer is not None and not writer.transport.is_closing():
                raise
            raise RedisConnectionError("the connection was closed") from problem
        except AttributeError as problem:
            if self._writer is not None:  # type: ignore[attr-defined]
                raise
            raise RedisConnectionError("the connection was closed") from problem

    async def _send_ping(self) -> None:
        """Takes any reply to a health check. While Redis cannot save, it answers PING with MISCONF and serves reads.

        The command itself gets an error of its own where it is concerned.
        """
        with contextlib.suppress(ResponseError):
            await super()._send_ping()  # type: ignore[misc]


class _TCP(_RedisPyFixes, Connection):
    pass


class _TLS(_RedisPyFixes, SSLConnection):
    pass


class _Unix(_RedisPyFixes, UnixDomainSocketConnection):
    pass


class _MasterTCP(_RedisPyFixes, SentinelManagedConnection):
    pass


class _MasterTLS(_RedisPyFixes, SentinelManagedSSLConnection):
    pass


_OWN: Final[dict[type[AbstractConnection], type[Any]]] = {
    Connection: _TCP,
    SSLConnection: _TLS,
    UnixDomainSocketConnection: _Unix,
    SentinelManagedConnection: _MasterTCP,
    SentinelManagedSSLConnection: _MasterTLS,
}


class _MasterPool(SentinelConnectionPool):
    """Also closes the connections to the sentinels, which redis-py leaves to the garbage collector."""

    async def disconnect(self, inuse_connections: bool = True) -> None:
        try:
            await super().disconnect(inuse_connections)
        finally:
            if inuse_connections:  # else the pool only switches to a new master
                for sentinel in self.sentinel_manager.sentinels:
                    await sentinel.aclose()


def connect(
    address: RedisAddress | str,
    *,
    redis_class: type[RedisT] = Redis,  # type: ignore[assignment]  # a default of a bound type variable
    socket_timeout_s: float = SOCKET_TIMEOUT_S,
    max_connections: int | None = None,
) -> RedisT:
    """Returns a client of `redis_class` with its own connection pool. Nothing is sent before the first command.

    Every socket has timeouts. Commands are not retried: only their caller knows whether repeating them is safe.
    """
    if not isinstance(address, RedisAddress):
        address = RedisAddress.parse(address)
    common: dict[str, Any] = {
        "db": address.db,
        "username": address.username,
        "password": address.password,
        "socket_timeout": socket_timeout_s,
        "socket_connect_timeout": CONNECT_TIMEOUT_S,
        "health_check_interval": HEALTH_CHECK_S,
        "retry": Retry(NoBackoff(), 0),
        "protocol": 2,  # redis-py 8 would send HELLO 3, which needs one more permission
    }
    tls: dict[str, Any] = {}
    if address.tls:
        tls = {
            "ssl_cert_reqs": "required",
            "ssl_check_hostname": True,
            "ssl_ca_certs": address.ssl_ca_certs,
            "ssl_certfile": address.ssl_certfile,
            "ssl_keyfile": address.ssl_keyfile,
        }
    if address.master is not None:
        return _connect_by_sentinel(address, redis_class, {**common, "max_connections": max_connections}, tls)
    host, port = address.hosts[0]
    where: dict[str, Any]
    if address.unix_path is not None:
        where = {"connection_class": _Unix, "path": address.unix_path}
    else:
        kind = _TLS if address.tls else _TCP
        where = {"connection_class": kind, "host": host, "port": port, "socket_keepalive": True, **tls}
    pool = ConnectionPool(max_connections=max_connections, **where, **common)
    client = redis_class(connection_pool=pool)
    client.auto_close_connection_pool = True
    return client


def connect_again(client: Redis) -> Redis:
    """A client of the same server with its own connections, for another event loop. Behind sentinels: of the last
    known master."""
    pool = client.connection_pool
    kind, settings = pool.connection_class, dict(pool.connection_kwargs)
    if isinstance(pool, SentinelConnectionPool):
        del settings["connection_pool"]
        settings["host"], settings["port"] = pool.master_address or ("", 0)
        kind = _TLS if issubclass(kind, SSLConnection) else _TCP
    again: Redis = Redis(connection_pool=ConnectionPool(connection_class=kind, **settings))
    again.auto_close_connection_pool = True
    return again


async def use_own_connections(redis: Redis) -> None:
    """Gives a client that redis-py or arq has made the connections of `connect`. What it has set stays."""
    pool = redis.connection_pool
    own = _OWN.get(pool.connection_class)
    if own is None:
        return
    defaults = {"socket_timeout": SOCKET_TIMEOUT_S, "health_check_interval": HEALTH_CHECK_S}
    if own is not _Unix:
        defaults["socket_keepalive"] = True
    for name, value in defaults.items():
        pool.connection_kwargs[name] = pool.connection_kwargs.get(name) or value
    pool.connection_class = own
    await pool.disconnect(inuse_connections=False)


def _connect_by_sentinel(
    address: RedisAddress, redis_class: type[RedisT], common: dict[str, Any], tls: dict[str, Any]
) -> RedisT:
    sentinel = Sentinel(  # type: ignore[no-untyped-call]  # untyped in redis-py 5
        list(address.hosts),
        sentinel_kwargs={
            "username": address.sentinel_username,
            "password": address.sentinel_password,
            "socket_timeout": CONNECT_TIMEOUT_S,
            "socket_connect_timeout": CONNECT_TIMEOUT_S,
            "ssl": address.tls,
            **tls,
        },
    )
    client: RedisT = sentinel.master_for(
        address.master or "",
        redis_class=redis_class,
        connection_pool_class=_MasterPool,
        connection_class=_MasterTLS if address.tls else _MasterTCP,
        socket_keepalive=True,
        **common,
        **tls,
    )
    return client
