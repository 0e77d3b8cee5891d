"""What a worker answers to health checks: `/livez`, whether it works at all, and `/readyz`, whether it takes jobs.

Each worker answers on a unix socket of its own, which `fetchq worker --check` asks, and where `http` is set on that
address too. A worker whose event loop does not run, because user code blocks it or the process is stopped, does not
answer. A supervisor asks each of its processes. Redis is no part of `/livez`: a worker that waits for Redis works, and
a restart would not help.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import Final, Protocol

from fetchq.command.listen_address import MAX_PATH_BYTES, ListenAddress, parse_address
from fetchq.command.settings import InvalidSetting
from fetchq.store.keys import Keys
from fetchq_worker.engine import Worker
from fetchq_worker.health_address import (
    child_path,
    find_sockets,
    is_ours,
    runtime_folder,
    socket_path,
    tag_of,
)

from .health_server import HealthServer, Probe, Reply, get, is_abandoned

CHILD_TIMEOUT_S: Final = 0.7
"""How long a supervisor waits for the answers of its processes: less than the second that Kubernetes waits for its."""

_log = logging.getLogger("fetchq.worker")


def worker_probes(worker: Worker) -> dict[str, Probe]:
    """The probes of one worker process."""

    async def live(_timeout_s: float | None) -> Reply:
        slots = f"{worker.running_count} of {worker.max_jobs} slots in use"
        return Reply(HTTPStatus.OK, f"worker {worker.id} is alive: {slots}")

    async def ready(_timeout_s: float | None) -> Reply:
        if (why := worker.why_not_ready) is not None:
            return Reply(HTTPStatus.SERVICE_UNAVAILABLE, f"worker {worker.id} {why}")
        return Reply(HTTPStatus.OK, f"worker {worker.id} is ready")

    return {"/livez": live, "/readyz": ready}


class Processes(Protocol):
    """A supervisor."""

    @property
    def missing(self) -> int:
        """How many processes should run and do not."""

    @property
    def pids(self) -> list[int]: ...


def supervisor_probes(processes: Processes) -> dict[str, Probe]:
    """The probes of a supervisor: a probe succeeds if it does in each of its processes."""

    async def ask(target: str, timeout_s: float | None) -> Reply:
        waits_s = CHILD_TIMEOUT_S if timeout_s is None else 0.9 * timeout_s
        replies = await asyncio.gather(*(_ask_child(pid, target, waits_s) for pid in processes.pids))
        if processes.missing:
            replies.append(Reply(HTTPStatus.SERVICE_UNAVAILABLE, f"{processes.missing} processes are not running"))
        status = max((reply.status for reply in replies), default=HTTPStatus.OK)
        return Reply(status, "; ".join(reply.text for reply in replies if reply.status == status))

    return {target: partial(ask, target) for target in ("/livez", "/readyz")}


async def _ask_child(pid: int, target: str, timeout_s: float) -> Reply:
    try:
        return await get(child_path(pid), target, timeout_s)
    except TimeoutError:
        return Reply(HTTPStatus.SERVICE_UNAVAILABLE, f"process {pid} does not answer")
    except OSError:
        return Reply(HTTPStatus.SERVICE_UNAVAILABLE, f"process {pid} has not started")


@asynccontextmanager
async def answering(
    probes: Mapping[str, Probe], keys: Keys, *, http: str = "", supervised: bool = False
) -> AsyncIterator[None]:
    """Answers health checks inside the block, on a unix socket and at `http` if that is not empty.

    `keys` are those of the queue, after which the socket is named.

    A worker process under a supervisor answers to that alone. Raises `InvalidSetting` if `http` cannot be used; without
    the socket, which needs a writable folder, a worker runs all the same.
    """
    server = HealthServer(probes)
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


async def _listen_for_check(server: HealthServer, tag: str, *, supervised: bool) -> None:
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
