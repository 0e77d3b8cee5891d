"""A real redis-server for a test: started on loopback and a unix socket of its own, and stopped with its folder.

Only the standard library: the conformance run uses it in an environment that is not the project's.
"""

from __future__ import annotations

import shutil
import socket
import subprocess
import tempfile
import threading
from collections import deque
from pathlib import Path
from types import TracebackType
from typing import IO, Final

BINARY: Final = "redis-server"
START_TIMEOUT_S: Final = 20.0
STOP_TIMEOUT_S: Final = 20.0
_PORT_TRIES: Final = 5


class RedisServer:
    """One redis-server process that keeps nothing on disk, as a context manager. `options` go to its command line."""

    def __init__(self, *options: str) -> None:
        self._options = options
        self._process: subprocess.Popen[str] | None = None
        self._folder: Path | None = None
        self.port = 0

    @staticmethod
    def is_installed() -> bool:
        return shutil.which(BINARY) is not None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    @property
    def unix_url(self) -> str:
        return f"unix://{self._folder}/redis.sock"

    def __enter__(self) -> RedisServer:
        self._folder = Path(tempfile.mkdtemp(prefix="fetchq-redis-"))
        try:
            for _ in range(_PORT_TRIES):
                if self._start(self._folder):
                    return self
        except BaseException:
            self._stop()
            raise
        self._stop()
        raise RuntimeError(f"{BINARY} found no free port in {_PORT_TRIES} tries")

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stop()

    def _start(self, folder: Path) -> bool:
        """Whether the server is up; False when another process took the port first."""
        self.port = _free_port()
        command = [BINARY, "--bind", "127.0.0.1", "--port", str(self.port), "--unixsocket", str(folder / "redis.sock")]
        command += ["--dir", str(folder), "--save", "", "--appendonly", "no", "--daemonize", "no", *self._options]
        self._process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        assert self._process.stdout is not None
        log = _Log(self._process.stdout)
        if log.wait_ready(START_TIMEOUT_S):
            return True
        self._kill()
        if "Address already in use" in log.tail():
            return False
        raise RuntimeError(f"{BINARY} did not start:\n{log.tail()}")

    def _stop(self) -> None:
        self._kill()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None

    def _kill(self) -> None:
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None


class _Log:
    """Reads what the server says to the end, so that it never blocks on a full pipe, and keeps the last lines."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream
        self._lines: deque[str] = deque(maxlen=20)
        self._ready = False
        self._settled = threading.Event()
        self._thread = threading.Thread(target=self._read, name="redis-server-log", daemon=True)
        self._thread.start()

    def wait_ready(self, timeout_s: float) -> bool:
        """Whether the server accepts connections; False when it has ended, or is not there in time."""
        self._settled.wait(timeout_s)
        return self._ready

    def tail(self) -> str:
        self._thread.join(1)
        return "".join(self._lines)

    def _read(self) -> None:
        with self._stream:
            for line in self._stream:
                self._lines.append(line)
                if "eady to accept connections" in line and not self._ready:
                    self._ready = True
                    self._settled.set()
        self._settled.set()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
