"""One client's use of Redis: the connection pool, the key names, and the checks and translations around each call."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import redis
from redis.asyncio import Connection, ConnectionPool, Redis, SSLConnection, UnixDomainSocketConnection
from redis.asyncio.connection import AbstractConnection

from fetchq.errors import FetchqError

from .errors import translated
from .keys import Keys
from .runner import ClientRunner


class Session:
    """What the parts of a producer share.

    A redis-py client belongs to the event loop in which it connects. In another loop, thread or process its commands
    fail after they were sent, and a caller that tries again would enqueue twice. So the first call binds the session to
    its loop and process, and calls from others are refused before anything is sent.
    """

    __slots__ = ("_loop", "_pid", "closed", "keys", "reached", "redis", "runner")

    def __init__(self, redis: Redis, keys: Keys) -> None:
        self.redis: Final[Any] = redis  # redis-py 5 types each reply as `Awaitable | value`
        self.keys: Final = keys
        self.runner: Final = ClientRunner(redis)
        self.closed = False
        self.reached = False
        """Redis has replied at least once: from then on, waits for results survive a short outage."""
        self._loop: asyncio.AbstractEventLoop | None = None
        self._pid = 0

    @property
    def is_foreign(self) -> bool:
        """Whether the session is bound to another event loop or process than the caller's."""
        return self._loop is not None and (self._loop is not asyncio.get_running_loop() or self._pid != os.getpid())

    def check(self) -> None:
        """Raises `FetchqError` if the session is closed or bound to another event loop or process."""
        if self.closed:
            raise FetchqError("the producer is closed")
        if self._loop is None:
            loop = asyncio.get_running_loop()
            if _has_connection_of_another_loop(self.redis, loop):
                raise _foreign("the Redis client")
            self._loop, self._pid = loop, os.getpid()
        elif self.is_foreign:
            raise _foreign("the producer")

    @contextmanager
    def guarded(self) -> Iterator[None]:
        """Surrounds commands: checks the session first, and turns redis-py's errors into `FetchqError`s."""
        self.check()
        with translated(self.redis):
            yield
        self.reached = True


def _foreign(what: str) -> FetchqError:
    return FetchqError(
        f"{what} belongs to another event loop, thread or process, and nothing was sent:"
        " make one Producer for each event loop, or use SyncProducer, which any thread and fork may share"
    )


def _has_connection_of_another_loop(client: Any, loop: asyncio.AbstractEventLoop) -> bool:
    """Whether the pool of a client that was given to a producer is in use in an event loop other than `loop`.

    Reads attributes of redis-py (5 to 8) that are not public; a connection without them counts as one of `loop`.
    """
    pool = client.connection_pool
    connections = (*getattr(pool, "_available_connections", ()), *getattr(pool, "_in_use_connections", ()))
    loops = (getattr(getattr(one, "_reader", None), "_loop", None) for one in connections)
    return any(other is not None and other is not loop for other in loops)


_KINDS: Final[dict[type, type[AbstractConnection]]] = {
    redis.Connection: Connection,
    redis.SSLConnection: SSLConnection,
    redis.UnixDomainSocketConnection: UnixDomainSocketConnection,
}
_SHARED: Final = re.compile(
    "host|port|path|db|username|password|credential_provider|client_name|protocol|health_check_interval"
    "|socket_(timeout|connect_timeout|keepalive|keepalive_options)"
    "|ssl_(keyfile|certfile|cert_reqs|ca_certs|ca_data|check_hostname|min_version|ciphers)"
)
"""Settings with the same meaning for blocking and async connections of redis-py."""


def client_like(client: Redis | redis.Redis) -> Redis:
    """An async client with the settings of `client`, blocking or async, and its own connections.

    Raises `FetchqError` if its settings cannot be copied.
    """
    pool = client.connection_pool
    settings = {name: value for name, value in pool.connection_kwargs.items() if name != "decode_responses"}
    kind: type[Any] = pool.connection_class
    if getattr(pool, "service_name", None) is not None:
        raise FetchqError("a client of a sentinel cannot be copied; give its address, as redis+sentinel://host/master")
    if not isinstance(client, Redis):
        if kind not in _KINDS:
            raise FetchqError(f"a blocking client with a {kind.__name__} cannot be copied; give its address instead")
        kind, settings = _KINDS[kind], {name: value for name, value in settings.items() if _SHARED.fullmatch(name)}
    copy = Redis(connection_pool=ConnectionPool(connection_class=kind, **settings))
    copy.auto_close_connection_pool = True
    return copy
