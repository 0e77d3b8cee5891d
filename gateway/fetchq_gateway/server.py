"""uvicorn's server, with limits on what a client can take of it.

uvicorn itself closes an idle connection only after its first response: a client that sends no request, half of one, or
does not read the answer, would keep its connection for ever.
"""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import h11
from starlette.types import ASGIApp
from uvicorn import Config, Server
from uvicorn.protocols.http.h11_impl import H11Protocol

from fetchq.command.open_files import open_files

MAX_HEAD_BYTES: Final = 16_384
"""Request line and headers; more is answered with 400."""
MAX_CONNECTIONS: Final = 4096
"""One more closes without an answer. Fewer where the limit of open files is low."""
BACKLOG: Final = 128
"""Connections of one listening socket that wait until the gateway takes them, all in one step of the event loop."""
REQUEST_TIMEOUT_S: Final = 10.0
"""For a whole request, from the connection or the response before it, and for the client to take the response."""
KEEP_ALIVE_S: Final = 5
"""Longest pause between two requests on a connection."""
DRAIN_S: Final = 2
"""Longest wait for the answers that are under way when the gateway stops."""

_log = logging.getLogger("fetchq.gateway")


def connection_limits(files: int) -> tuple[int, int]:
    """The most open connections, and the backlog, of a process that may open so many files.

    They leave files for Redis, and for connections that are taken before those beyond the limit are closed, which is
    some steps of the event loop later: for each that lacks a file, asyncio would log a traceback.
    """
    backlog = max(1, min(BACKLOG, files // 16))
    return max(1, min(MAX_CONNECTIONS, files - 8 * backlog - 32)), backlog


class GatewayServer(Server):
    """A server whose signals are handled by its owner."""

    def __init__(self, app: ASGIApp) -> None:
        _, backlog = connection_limits(open_files())
        super().__init__(
            Config(
                app,
                http=_LimitedProtocol,
                ws="none",
                lifespan="off",
                backlog=backlog,
                log_config=None,
                log_level="error",  # a line for each malformed request would let clients fill the log
                access_log=False,
                proxy_headers=False,
                server_header=False,
                timeout_keep_alive=KEEP_ALIVE_S,
                timeout_graceful_shutdown=DRAIN_S,
                h11_max_incomplete_event_size=MAX_HEAD_BYTES,
            )
        )

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """uvicorn's raises the signal again at the end, which would be the exit status."""
        yield

    def stop(self, signum: signal.Signals) -> None:
        _log.info("gateway.stopping signal=%s", signum.name)
        self.should_exit = True


class _LimitedProtocol(H11Protocol):
    """One connection."""

    _limit: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        most, _ = connection_limits(open_files())
        if len(self.connections) > most:
            transport.abort()
            return
        self._set_limit()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._limit is not None:
            self._limit.cancel()
        super().connection_lost(exc)

    def on_response_complete(self) -> None:
        if self.conn.their_state is h11.SEND_BODY:  # no path takes a body: what is left of it is not read
            self.transport.close()
        super().on_response_complete()
        self._set_limit()

    def _set_limit(self) -> None:
        if self._limit is not None:
            self._limit.cancel()
        self._limit = self.loop.call_later(REQUEST_TIMEOUT_S, self._on_limit)

    def _on_limit(self) -> None:
        if self.cycle is not None and not self.cycle.response_complete and self.conn.their_state is not h11.SEND_BODY:
            self._set_limit()  # the app has the whole request, and answers it
            return
        self.transport.abort()
