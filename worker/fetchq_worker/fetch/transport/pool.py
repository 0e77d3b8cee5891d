"""The idle connections of a process, and the number of its open ones."""

from __future__ import annotations

import asyncio
import resource
from collections import OrderedDict
from typing import Final

from fetchq_worker.telemetry.telemetry import Connections

from .connection import Connection

KEEP_ALIVE_S: Final = 15.0
"""How long a connection may be idle."""
MAX_OPEN: Final = 4096
"""Connections of a process, idle ones included, however many files it may open: each costs memory."""
_RESERVED: Final = 128
"""Files that are left to Redis, name servers and all else."""


def open_limit() -> int:
    """How many connections may be open, idle ones included, by the process's limit of open files."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if files == resource.RLIM_INFINITY:
        return MAX_OPEN
    return min(MAX_OPEN, max(files // 2, files - _RESERVED))


class Pool:
    """Idle connections, of which the least recently used are closed when too many are open."""

    def __init__(self, loop: asyncio.AbstractEventLoop, limit: int | None = None) -> None:
        """`limit` is the number of connections that may be open; by default `open_limit()`."""
        self._loop = loop
        self.limit = open_limit() if limit is None else limit
        self._open: set[Connection] = set()
        self._idle: OrderedDict[Connection, float] = OrderedDict()
        """With the time since when, the least recently used first."""
        self._sweep_timer: asyncio.TimerHandle | None = None
        self.is_closed = False

    def __repr__(self) -> str:
        return f"<Pool open={len(self._open)} idle={len(self._idle)} limit={self.limit}>"

    def count(self) -> Connections:
        return Connections(len(self._idle), len(self._open) - len(self._idle))

    def take(self, idle: list[Connection]) -> Connection | None:
        """The most recently used connection of that list, which has no other owner then; None: there is none."""
        while idle:
            connection = idle.pop()
            since = self._idle.pop(connection, None)
            if since is None or not connection.is_usable():
                continue
            if since < self._loop.time() - KEEP_ALIVE_S:
                connection.close()
                continue
            return connection
        return None

    def put(self, connection: Connection) -> None:
        """A connection has become idle: it goes to the list in `connection.idle_in`, if any."""
        if connection.idle_in is None:
            return
        if self.is_closed:
            connection.close()
            return
        connection.idle_in.append(connection)
        self._idle[connection] = self._loop.time()
        if len(self._open) > self.limit:
            self._evict()
        if self._sweep_timer is None:
            self._sweep_timer = self._loop.call_later(KEEP_ALIVE_S, self._sweep)

    def make_room(self) -> None:
        """Called before a connection is opened."""
        if len(self._open) >= self.limit and self._idle:
            self._evict()

    def opened(self, connection: Connection) -> None:
        self._open.add(connection)

    def closed(self, connection: Connection) -> None:
        self._open.discard(connection)
        if self._idle.pop(connection, None) is not None:
            _forget(connection)

    def close(self) -> None:
        """Closes all connections, and fails the requests in progress."""
        self.is_closed = True
        if self._sweep_timer is not None:
            self._sweep_timer.cancel()
            self._sweep_timer = None
        for connection in tuple(self._open):
            connection.shut_down()

    def _evict(self) -> None:
        connection, _ = self._idle.popitem(last=False)
        _forget(connection)
        connection.close()

    def _sweep(self) -> None:
        """Closes what was idle for too long."""
        self._sweep_timer = None
        now = self._loop.time()
        while self._idle:
            ends_at = next(iter(self._idle.values())) + KEEP_ALIVE_S
            if ends_at > now:
                self._sweep_timer = self._loop.call_at(ends_at, self._sweep)
                return
            self._evict()


def _forget(connection: Connection) -> None:
    """Removes an idle connection from its list, where `Pool.take` may have met it already."""
    if connection.idle_in is not None and connection in connection.idle_in:
        connection.idle_in.remove(connection)
