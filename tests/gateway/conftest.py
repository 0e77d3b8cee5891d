"""`fetchq serve` in a process of its own, and requests to it over sockets."""

from __future__ import annotations

import http.client
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

PATIENCE_S = 30.0
"""Maximum duration of any step on a busy machine before it counts as hung."""


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    text: str


class Gateway:
    """A process that serves on a free port of loopback, or as `--listen` says."""

    def __init__(
        self, *arguments: str, redis_url: str, program: str = "fetchq_worker.cli", max_files: int | None = None
    ) -> None:
        """`max_files`: the limit of open files; None: as that of this process."""
        limit = f"import resource; resource.setrlimit(resource.RLIMIT_NOFILE, ({max_files}, {max_files})); "
        listen = () if "--listen" in arguments else ("--listen", "127.0.0.1:0")
        self.log = Path(tempfile.mkstemp(prefix="fetchq-gateway-")[1])
        environ = {name: value for name, value in os.environ.items() if not name.startswith("FETCHQ_")}
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [
                    sys.executable,
                    "-c",
                    f"{limit if max_files else ''}from {program} import main; main()",
                    "serve",
                    *listen,
                    *arguments,
                ],
                env={**environ, "FETCHQ_REDIS_URL": redis_url},
                stdin=subprocess.DEVNULL,
                stderr=log,
            )
        self._address: str | None = None

    @property
    def address(self) -> str:
        """`HOST:PORT` or a path, as soon as it listens."""
        until = time.monotonic() + PATIENCE_S
        while self._address is None:
            ended = self.process.poll() is not None or time.monotonic() > until
            found = re.search(r"gateway\.started\b.*?address\W{1,3}?([\w./][\w./:-]+)", text := self.log.read_text())
            assert found or not ended, text
            self._address = found and found[1]
            time.sleep(0.01)
        return self._address

    @property
    def port(self) -> int:
        return int(self.address.rpartition(":")[2])

    def connect(self) -> socket.socket:
        if self.address.startswith("/"):
            one = socket.socket(socket.AF_UNIX)
            one.settimeout(PATIENCE_S)
            one.connect(self.address)
            return one
        return socket.create_connection(("127.0.0.1", self.port), PATIENCE_S)

    def get(self, path: str, **headers: str) -> Answer:
        connection = http.client.HTTPConnection("localhost", 1, timeout=PATIENCE_S)
        connection.sock = self.connect()
        try:
            connection.request("GET", path, headers={name.replace("_", "-"): text for name, text in headers.items()})
            answer = connection.getresponse()
            named = {name.lower(): value for name, value in answer.getheaders()}
            return Answer(answer.status, named, answer.read().decode())
        finally:
            connection.close()

    def send(self, data: bytes) -> bytes:
        """What it answers to these bytes before it closes the connection."""
        with self.connect() as one:
            one.sendall(data)
            return b"".join(iter(lambda: one.recv(65_536), b""))

    def stop(self, signum: signal.Signals = signal.SIGTERM) -> int:
        self.process.send_signal(signum)
        return self.process.wait(PATIENCE_S)

    def remove(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(PATIENCE_S)
        self.log.unlink()


class Gateways:
    """Starts gateways."""

    def __init__(self) -> None:
        self._started: list[Gateway] = []

    def start(
        self, *arguments: str, redis_url: str, program: str = "fetchq_worker.cli", max_files: int | None = None
    ) -> Gateway:
        gateway = Gateway(*arguments, redis_url=redis_url, program=program, max_files=max_files)
        self._started.append(gateway)
        return gateway

    def remove(self) -> None:
        for gateway in self._started:
            gateway.remove()


@pytest.fixture
def gateways() -> Iterator[Gateways]:
    gateways = Gateways()
    yield gateways
    gateways.remove()
