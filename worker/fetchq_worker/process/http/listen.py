"""Where a worker or a supervisor listens for health checks and scrapes.

Each worker answers on a unix socket of its own, which `fetchq worker --check` asks, and where `http` is set on that
address too. A worker process under a supervisor answers only to that.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from fetchq.command.listen_address import MAX_PATH_BYTES, ListenAddress, parse_address
from fetchq.command.settings import InvalidSetting
from fetchq.store.keys import Keys
from fetchq_worker.health_address import (
    child_path,
    find_sockets,
    is_ours,
    runtime_folder,
    socket_path,
    tag_of,
)

from .client import is_abandoned
from .messages import Handler
from .server import HttpServer

_log = logging.getLogger("fetchq.worker")


@asynccontextmanager
async def answering(
    handlers: Mapping[str, Handler], keys: Keys, *, http: str = "", supervised: bool = False
) -> AsyncIterator[None]:
    """Answers requests inside the block, on a unix socket and at `http` if that is not empty.

    `keys` are those of the queue, after which the socket is named.

    A worker process under a supervisor answers to that alone. Raises `InvalidSetting` if `http` cannot be used; without
    the socket, which needs a writable folder, a worker runs all the same.
    """
    server = HttpServer(handlers)
    try:
        if http and not supervised:
            address = parse_address(http)
            try:
                await server.listen(address)
            except OSError as problem:
                why = problem.strerror or str(problem)
                raise InvalidSetting(f"--http (FETCHQ_HTTP): cannot listen on {address}: {why}") from problem
        if sys.platform != "win32":
            await _listen_for_check(server, tag_of(keys.queue, keys.namespace), supervised=supervised)
        yield
    finally:
        server.close()


async def _listen_for_check(server: HttpServer, tag: str, *, supervised: bool) -> None:
    path = child_path(os.getpid()) if supervised else socket_path(tag, os.getpid())
    try:
        _prepare_folder(tag, path)
        await server.listen(ListenAddress("", 0, path))
    except OSError as problem:
        why = problem.strerror or problem
        _log.warning("health.not_answering socket=%s error=%s; FETCHQ_RUNTIME_DIR names another folder", path, why)


def _prepare_folder(tag: str, path: str) -> None:
    """Makes the folder for the socket at `path`, and removes those of workers of the same queue that were killed.

    From now on, this worker stands for them. Raises `OSError`.
    """
    if len(os.fsencode(path)) > MAX_PATH_BYTES:
        raise OSError("the path is too long for a socket")
    Path(runtime_folder()).mkdir(mode=0o700, parents=True, exist_ok=True)
    if not is_ours(runtime_folder()):
        raise PermissionError("other users can write to its folder")
    for other in (*map(Path, find_sockets(tag)), *Path(runtime_folder()).glob("*.child")):
        if is_abandoned(other):
            other.unlink(missing_ok=True)
