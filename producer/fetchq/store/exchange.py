"""A command and its reply on a connection of redis-py, with a third less CPU time than by redis-py itself.

hiredis packs the command, the connection that was used last is not checked by a read, a short command is written
without a wait, and one timer serves all replies. Whatever else a connection needs (TLS, login, sentinels, reconnecting,
health checks, large commands) redis-py does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final

import hiredis
from redis._parsers import _AsyncHiredisParser
from redis.asyncio.connection import Connection
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

_MAX_UNSENT_BYTES: Final = 1 << 16
"""The most that a connection buffers before its sender waits: the limit of asyncio's transports, too."""
_READ: Final = Connection.read_response


def packed(*args: str | bytes | int) -> bytes:
    """A command as Redis takes it. redis-py's asyncio client packs each argument in Python, in ten times the time."""
    command: bytes = hiredis.pack_command(args)  # type: ignore[arg-type]  # its stub allows only a tuple of one
    return command


def ready_connection(pool: Any) -> Any:
    """Takes a connection that is open and has nothing to read out of the pool; None if the pool must check or make one.

    None too where redis-py must exchange the commands: it repeats them (`Retry`), or reading is overridden or wrapped.

    The pool checks a connection by a read that times out, which takes an iteration of the event loop. While jobs run,
    an iteration can be long, and Redis is idle meanwhile. (redis-py types none of the attributes used here.)
    """
    if not pool._available_connections:
        return None
    last = pool._available_connections[-1]
    stream, parser = last._reader, last._parser
    if not (isinstance(last._reader, asyncio.StreamReader) and isinstance(last._parser, _AsyncHiredisParser)):
        return None
    if last.retry._retries or type(last).read_response is not _READ:
        return None
    if not last.is_connected or stream.at_eof() or stream.exception() is not None:
        return None
    if stream._buffer or parser._reader is None or parser._reader.has_data():
        return None
    pool._in_use_connections.add(pool._available_connections.pop())
    return last


class Exchanges:
    """Exchanges commands for replies, each within the socket timeout of its connection."""

    def __init__(self) -> None:
        self._ends: Final[dict[Any, float]] = {}
        """When the wait for the reply ends, by the loop's clock, for each connection that has a timeout."""
        self._timer: asyncio.TimerHandle | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    async def run(self, connection: Any, command: bytes, on_sent: Callable[[], None] | None = None) -> Any:
        """Returns the reply on a connection of `ready_connection`; the caller returns the connection to its pool.

        Raises an error reply, and what `Connection.read_response` raises. The connection is closed if there is no
        reply, also after a cancellation.
        """
        loop = asyncio.get_running_loop()
        now = loop.time()
        if _takes_at_once(connection, len(command), now):
            connection._writer.transport.write(command)
        else:
            await connection.send_packed_command(command)
        if on_sent is not None:
            on_sent()
        self._start(connection, loop, now)
        try:
            reply = await connection._parser.read_response()
        except BaseException as problem:
            await connection.disconnect(nowait=True)
            if isinstance(problem, Exception) and self._ends.get(connection) == _PASSED:
                raise RedisTimeoutError(f"no reply within {connection.socket_timeout:g} s") from problem
            if isinstance(problem, OSError) and not isinstance(problem, RedisConnectionError | RedisTimeoutError):
                raise RedisConnectionError(f"the connection was lost: {problem}") from problem
            raise
        finally:
            self._ends.pop(connection, None)
        if connection.health_check_interval:
            connection.next_health_check = now + connection.health_check_interval
        if isinstance(reply, ResponseError):
            raise reply
        return reply

    def _start(self, connection: Any, loop: asyncio.AbstractEventLoop, now: float) -> None:
        timeout_s: float | None = connection.socket_timeout
        if timeout_s is None:
            return
        self._ends[connection] = now + timeout_s
        if self._timer is None or self._loop is not loop:
            self._loop = loop
            self._timer = loop.call_at(now + timeout_s, self._check)

    def _check(self) -> None:
        """Closes the connections whose time has passed, and sets the timer for the others."""
        assert self._loop is not None  # set with the timer
        now = self._loop.time()
        for connection, end in self._ends.items():
            if end <= now and connection._writer is not None:
                self._ends[connection] = _PASSED
                connection._writer.transport.abort()
        ends = [end for end in self._ends.values() if end > now]
        self._timer = self._loop.call_at(min(ends), self._check) if ends else None


_PASSED: Final = float("-inf")


def _takes_at_once(connection: Any, size: int, now: float) -> bool:
    """Whether the connection sends or buffers so many bytes, and needs no health check before."""
    transport = connection._writer.transport
    if transport.is_closing() or size + transport.get_write_buffer_size() > _MAX_UNSENT_BYTES:
        return False
    return not connection.health_check_interval or now <= connection.next_health_check
