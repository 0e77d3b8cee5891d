"""`fetchq serve`: serves the gateway until SIGTERM or SIGINT."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Coroutine
from typing import Any, Final

from redis.asyncio import Redis

from fetchq.command.exit_status import ExitStatus
from fetchq.command.open_files import raise_open_files
from fetchq.command.redis_answer import wait_for_answer
from fetchq.command.run import on_stop_signal
from fetchq.errors import RedisUnavailable
from fetchq.logs.setup import configure_logs, logging_what_python_prints
from fetchq.store.connection import connect

from .app import gateway_app
from .server import GatewayServer
from .settings import GatewaySettings
from .sockets import listening, names_of

SOCKET_TIMEOUT_S: Final = 5.0
FIRST_PAUSE_S: Final = 0.25
MAX_PAUSE_S: Final = 3.0

_log = logging.getLogger("fetchq.gateway")


def serve(settings: GatewaySettings) -> Coroutine[Any, Any, ExitStatus]:
    """Sets up logging and the limit of open files, and returns what serves."""
    raise_open_files()
    configure_logs(settings.log_level, log_format=settings.log_format)
    return _serve(settings)


async def _serve(settings: GatewaySettings) -> ExitStatus:
    """Raises `RedisUnavailable` if Redis cannot be reached within `start_wait_s`; later, the gateway waits for it.

    Requests are answered from the beginning: a probe sees that the process works before Redis does.
    """
    redis: Redis = connect(settings.redis_url, socket_timeout_s=SOCKET_TIMEOUT_S)
    app = gateway_app(redis, queues=settings.queue, namespace=settings.namespace, allow_hosts=settings.hosts)
    server = GatewayServer(app)
    try:
        async with listening(settings.address) as sockets:
            with on_stop_signal(server.stop), logging_what_python_prints():
                _log.info("gateway.started address=%s queues=%s", names_of(sockets), ",".join(settings.queue))
                await _run(server, sockets, _wait_for_redis(redis, settings.start_wait_s))
    finally:
        await redis.aclose()
    _log.info("gateway.stopped")
    return ExitStatus.OK


async def _run(server: GatewayServer, sockets: list[socket.socket], start: Coroutine[Any, Any, None]) -> None:
    """Returns when the server has ended; it ends early if `start` raises, which is then raised here."""
    serving = asyncio.create_task(server.serve(sockets))
    starting = asyncio.create_task(start)
    try:
        await asyncio.wait((serving, starting), return_when=asyncio.FIRST_COMPLETED)
        if starting.done() and starting.exception() is not None:
            server.should_exit = True
        await serving
        if starting.done():
            await starting
    finally:
        starting.cancel()


async def _wait_for_redis(redis: Redis, wait_s: float) -> None:
    """Returns when Redis has answered. Raises `RedisUnavailable` after `wait_s`, and `RedisRefused` at once."""
    loop = asyncio.get_running_loop()
    until, pause_s, attempt = loop.time() + wait_s, FIRST_PAUSE_S, 0
    while True:
        attempt += 1
        try:
            return await wait_for_answer(redis)
        except RedisUnavailable as problem:
            left_s = until - loop.time()
            if left_s <= 0:
                raise
            pause_s = min(pause_s, left_s)
            _log.warning("redis.waiting try=%d retry_in_s=%.2f error=%s", attempt, pause_s, problem)
        await asyncio.sleep(pause_s)
        pause_s = min(2 * pause_s, MAX_PAUSE_S)
