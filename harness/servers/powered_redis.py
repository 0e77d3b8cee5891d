"""A real Redis with a power switch: after a cut, writes that were not synced to the disk are lost.

A killed process loses nothing that it wrote, since the kernel has it. So the server runs under strace, which records
the order of writes to the append-only file and of fdatasync calls. When the power is cut, the file is cut to what the
last completed fdatasync covers.
"""

from __future__ import annotations

import os
import re
import signal
import socket
from pathlib import Path
from typing import Final

from tests.support.redis_server import needed_binary

from .durable_redis import DurableRedis

_WRITE: Final = re.compile(r"^\d+ +write\(\d+<[^>]*\.incr\.aof>, .*\) += (\d+)$")
_WRITE_BEGUN: Final = re.compile(r"^(\d+) +write\(\d+<[^>]*\.incr\.aof>, .*<unfinished \.\.\.>$")
_WRITE_ENDED: Final = re.compile(r"^(\d+) +<\.\.\. write resumed>.*\) += (\d+)$")
_SYNC: Final = re.compile(r"^\d+ +f(?:data)?sync\(\d+<[^>]*\.incr\.aof>\) += 0$")
_SYNC_BEGUN: Final = re.compile(r"^(\d+) +f(?:data)?sync\(\d+<[^>]*\.incr\.aof> <unfinished \.\.\.>$")
_SYNC_ENDED: Final = re.compile(r"^(\d+) +<\.\.\. f(?:data)?sync resumed>\) += 0$")


class PoweredRedis(DurableRedis):
    """`cut_power` may be called once."""

    def __init__(self, appendfsync: str, *options: str, binary: str | None = None) -> None:
        self._strace = needed_binary("strace")
        self._traced = True
        super().__init__(appendfsync, *options, binary=binary)

    @property
    def _trace(self) -> Path:
        return self._folder / "trace"

    @property
    def _log(self) -> Path:
        [path] = self.history_folder.glob("*.incr.aof")
        return path

    def _launcher(self) -> list[str]:
        if not self._traced:
            return []
        what = ("-e", "trace=write,fsync,fdatasync", "-e", "signal=none", "-s", "0", "-y")
        return [self._strace, "-f", "--seccomp-bpf", *what, "-o", str(self._trace)]

    def stop(self) -> None:
        """Kills the server itself; strace ends with it."""
        if self._process is None or not self._traced:
            super().stop()
            return
        try:
            os.kill(self._server_pid(), signal.SIGKILL)
        except OSError:  # it did not start, or has ended
            self._process.terminate()
        self._process.wait()
        self._process = None

    def _server_pid(self) -> int:
        with socket.socket(socket.AF_UNIX) as admin:
            admin.connect(str(self.socket))
            admin.sendall(b"INFO server\r\n")
            said = b""
            while b"process_id:" not in said or not said.endswith(b"\n"):
                said += admin.recv(4096)
        found = re.search(rb"process_id:(\d+)", said)
        assert found is not None
        return int(found[1])

    def cut_power(self) -> None:
        self.stop()
        os.truncate(self._log, durable_bytes(self._trace.read_text()))
        self._traced = False

    def count_syncs(self) -> int:
        """The number of syncs of the append-only file."""
        return sum(1 for line in self._trace.read_text().splitlines() if _SYNC.match(line) or _SYNC_ENDED.match(line))


def durable_bytes(trace: str) -> int:
    """The number of bytes of the append-only file that were synced, from the trace."""
    written = durable = 0
    syncing: dict[str, int] = {}
    writing: set[str] = set()
    for line in trace.splitlines():
        if match := _WRITE.match(line):
            written += int(match[1])
        elif match := _WRITE_BEGUN.match(line):
            writing.add(match[1])
        elif (match := _WRITE_ENDED.match(line)) and match[1] in writing:
            writing.discard(match[1])
            written += int(match[2])
        elif _SYNC.match(line):
            durable = written
        elif match := _SYNC_BEGUN.match(line):
            syncing[match[1]] = written
        elif (match := _SYNC_ENDED.match(line)) and match[1] in syncing:
            durable = max(durable, syncing.pop(match[1]))
    return durable
