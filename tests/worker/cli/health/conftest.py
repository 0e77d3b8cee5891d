"""Worker processes that answer over HTTP."""

from __future__ import annotations

import http.client
import socket
import subprocess
from collections.abc import Mapping
from pathlib import Path

from tests.worker.cli.conftest import NO_REDIS, PATIENCE_S, Fetchq, wait_until

AWAY: Mapping[str, str] = {"FETCHQ_REDIS_URL": NO_REDIS, "FETCHQ_START_WAIT": "3600"}
"""The environment of a worker that waits for Redis."""


def start_worker(fetchq: Fetchq, *flags: str, environ: Mapping[str, str] = AWAY) -> subprocess.Popen[str]:
    """A worker process that answers."""
    known = set(fetchq.runtime_folder.iterdir())

    def is_listening() -> bool:
        return any(_accepts(path) for path in set(fetchq.runtime_folder.glob("*.sock")) - known)

    worker = fetchq.start("worker", *flags, stderr=subprocess.DEVNULL, environ=environ)
    wait_until(is_listening, "its socket")
    return worker


def _accepts(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(str(path)) == 0


def get(port: int, path: str, accept: str = "*/*") -> tuple[int, str]:
    """The status and the text of an answer."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)
    connection.request("GET", path, headers={"Accept": accept})
    reply = connection.getresponse()
    return reply.status, reply.read().decode()
