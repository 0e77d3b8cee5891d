"""A program on a terminal of its own, as a person sees and uses it."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import pyte

_TAKE_TERMINAL: Final = "import fcntl, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0)"
"""Makes stdin the controlling terminal of the new session: its Ctrl-C and its hang-up are then signals."""
PATIENCE_S: Final = 60.0
"""Maximum duration of any step on a busy machine before it counts as hung."""


class PtyScreen:
    """A process whose standard streams are a terminal, and the screen that it draws."""

    def __init__(
        self,
        script: str,
        arguments: Sequence[str],
        environ: Mapping[str, str],
        folder: Path,
        *,
        columns: int = 80,
        lines: int = 24,
    ) -> None:
        """Runs the Python code `script`."""
        self._master, slave = pty.openpty()
        self.columns, self.lines = columns, lines
        self._set_size()
        self.mode_before = termios.tcgetattr(slave)
        self.raw = b""
        """All that was written."""
        self._screen = pyte.Screen(columns, lines)
        self._stream = pyte.ByteStream(self._screen)
        self.process = subprocess.Popen(
            [sys.executable, "-c", f"{_TAKE_TERMINAL}; {script}", *arguments],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env=dict(environ),
            cwd=folder,
            start_new_session=True,
        )
        self._slave = slave

    def text(self) -> str:
        """The screen, read up to now."""
        self._read(0)
        return "\n".join(line.rstrip() for line in self._screen.display)

    def wait_for(self, *words: str, gone: bool = False) -> str:
        """The screen once it shows all of `words`, or with `gone` none of them."""
        return self.wait_until(lambda text: all((word in text) is not gone for word in words), repr(words))

    def wait_until(self, holds: Callable[[str], bool], what: str) -> str:
        until = time.monotonic() + PATIENCE_S
        while not holds(text := self.text()):
            assert time.monotonic() < until, f"{what} is not on the screen:\n{text}"
            assert self.process.poll() is None or self._readable(0.1), f"the process ended without {what}:\n{text}"
            self._read(0.05)
        return text

    def attributes_of(self, word: str) -> Any:
        """The attributes of the first character of `word` on the screen."""
        for row, line in enumerate(self.text().split("\n")):
            if (column := line.find(word)) >= 0:
                return self._screen.buffer[row][column]
        raise AssertionError(f"{word!r} is not on the screen")

    def send(self, keys: str) -> None:
        os.write(self._master, keys.encode())

    def resize(self, columns: int, lines: int) -> None:
        """As the window of a terminal does, with its signal."""
        self._read(0)
        self.columns, self.lines = columns, lines
        self._screen.resize(lines, columns)
        self._set_size()

    def wait_end(self) -> int:
        """Waits for the end of the process, and reads what it wrote to its last byte."""
        until = time.monotonic() + PATIENCE_S
        while self.process.poll() is None:
            assert time.monotonic() < until, f"it does not end:\n{self.text()}"
            self._read(0.05)
        self._read(0)
        return self.process.returncode

    def is_as_before(self) -> bool:
        """Whether the mode of the terminal, its screen and its cursor are as before the process."""
        private = {"1049": b"", "25": b"", "7": b""}
        for name in private:
            found = [(self.raw.rfind(f"\x1b[?{name}{end}".encode()), end) for end in "hl"]
            private[name] = max(found)[1].encode() if max(found)[0] >= 0 else b""
        restored = private["1049"] in (b"", b"l") and private["25"] in (b"", b"h") and private["7"] in (b"", b"h")
        return restored and termios.tcgetattr(self._slave) == self.mode_before

    def hang_up(self) -> None:
        """Closes the terminal, as a connection that is lost."""
        os.close(self._slave)
        os.close(self._master)
        self._master = self._slave = -1

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.kill()
        self.process.wait()
        for fd in {self._master, self._slave} - {-1}:
            os.close(fd)

    def _set_size(self) -> None:
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", self.lines, self.columns, 0, 0))

    def _readable(self, timeout_s: float) -> bool:
        return self._master >= 0 and bool(select.select([self._master], [], [], timeout_s)[0])

    def _read(self, timeout_s: float) -> None:
        while self._readable(timeout_s):
            try:
                data = os.read(self._master, 65536)
            except OSError:  # no process has the terminal open
                return
            self.raw += data
            self._stream.feed(data)
            timeout_s = 0
