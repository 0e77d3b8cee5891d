"""A real Redis with an append-only file, on which a power cut can be simulated."""

from __future__ import annotations

import os
import signal
import time
from collections import deque
from pathlib import Path
from typing import Final

from tests.support.ports import free_port
from tests.support.redis_server import RedisServer

EVERYSEC_WINDOW_S: Final = 1.0
"""How much `appendfsync everysec` may lose in a power cut (redis.io/docs, "Redis persistence")."""


class DurableRedis(RedisServer):
    """`appendfsync` is `always` or `everysec`. It listens on a TCP port of loopback too."""

    def __init__(self, appendfsync: str = "always", *options: str, binary: str | None = None) -> None:
        self.appendfsync = appendfsync
        self.port = free_port()
        self._sizes: deque[tuple[float, Path, int]] = deque()
        self.kept_until_ms: int | None = None
        """The time up to which the last `cut_power` kept the file; None: it removed nothing."""
        super().__init__(
            *("--appendonly", "yes", "--appendfsync", appendfsync, "--auto-aof-rewrite-percentage", "0"),
            *("--enable-debug-command", "yes", "--bind", "127.0.0.1", "--port", str(self.port), *options),
            binary=binary,
        )

    @property
    def tcp_url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    @property
    def history_folder(self) -> Path:
        return self._folder / "appendonlydir"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def freeze(self) -> None:
        os.kill(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def note_size(self) -> None:
        """Records the length of the file for `cut_power`. Called many times a second."""
        now = time.time()
        path = max(self.history_folder.glob("*.incr.aof"), key=lambda file: file.stat().st_mtime)
        self._sizes.append((now, path, path.stat().st_size))
        while len(self._sizes) > 1 and now - self._sizes[1][0] > EVERYSEC_WINDOW_S:
            self._sizes.popleft()

    def cut_power(self) -> None:
        """Kills the server, and removes from its file what the operating system may not have written yet.

        With `everysec` that is the last second. A killed process alone loses nothing, since the kernel has its writes.
        """
        self.stop()
        self.kept_until_ms = None
        if self.appendfsync != "everysec" or not self._sizes:
            return
        noted_at, path, size = self._sizes[0]
        if time.time() - noted_at >= EVERYSEC_WINDOW_S:
            os.truncate(path, size)
            self.kept_until_ms = int(noted_at * 1000)
        self._sizes.clear()
