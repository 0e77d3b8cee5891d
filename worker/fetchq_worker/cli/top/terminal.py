"""The terminal of a live view: its mode, its alternate screen, and what is written to it."""

from __future__ import annotations

import asyncio
import codecs
import contextlib
import os
import re
import select
import sys
from collections.abc import Callable, Sequence
from typing import Any, Final

if sys.platform != "win32":
    import termios

_ENTER: Final = "\x1b[?1049h\x1b[?25l\x1b[?7l\x1b[2J"
"""The alternate screen, no cursor, no wrapping at the right edge; erase."""
_LEAVE: Final = "\x1b[0m\x1b[?7h\x1b[?25h\x1b[?1049l"
_ESCAPE_WAIT_S: Final = 0.05
"""For how long the rest of a key's sequence may take, over a slow connection."""
_UNFINISHED: Final = re.compile(r"\x1b(\[[0-9;?<]*|O)?\Z")
_READ_BYTES: Final = 1024
_LEAVE_S: Final = 1.0
"""For how long a terminal that takes nothing may delay the end."""
_MAX_PENDING: Final = 256 * 1024


class Terminal:
    """A terminal from `enter` to `leave`. `leave` gives it back as it was, and can be called at any time.

    Between them `on_text` is called with what is typed, and `on_end` if the terminal is gone.
    """

    def __init__(self, in_fd: int, out_fd: int, on_text: Callable[[str], None], on_end: Callable[[], None]) -> None:
        self._keys: Final = _Keys(in_fd, on_text, on_end)
        self._in: Final = in_fd
        self._out: Final = _own_descriptor(out_fd)
        self._owns_out: Final = self._out != out_fd
        self._saved: list[Any] | None = None
        self._shown: list[str] = []
        self._pending = b""
        """What the terminal did not take yet."""
        self._is_waiting = False

    def size(self) -> tuple[int, int]:
        """Columns and lines."""
        try:
            columns, lines = os.get_terminal_size(self._out)
        except OSError:
            return 80, 24
        return columns or 80, lines or 24

    def enter(self) -> None:
        """Keys come one by one and are not echoed; Ctrl-C and Ctrl-Z stay signals.

        Does nothing in the background: it would stop the process, which could then not be ended by SIGTERM.
        """
        if os.tcgetpgrp(self._in) != os.getpgrp():
            return
        if self._saved is None:
            self._saved = termios.tcgetattr(self._in)
        mode = termios.tcgetattr(self._in)
        mode[0] &= ~(termios.IXON | termios.ICRNL)  # Ctrl-S would stop the output, and Ctrl-J and Enter differ
        mode[3] &= ~(termios.ECHO | termios.ICANON | termios.IEXTEN)
        mode[6][termios.VMIN], mode[6][termios.VTIME] = 1, 0
        termios.tcsetattr(self._in, termios.TCSADRAIN, mode)
        self._shown = []
        self._keys.listen()
        self._write(_ENTER)

    def leave(self) -> None:
        """Gives the terminal back. One that is gone is left alone."""
        if self._saved is None:
            return
        saved, self._saved = self._saved, None
        self._keys.stop()
        self._stop_waiting()
        self._pending = b""
        with contextlib.suppress(OSError):
            select.select([], [self._out], [], _LEAVE_S)
            os.write(self._out, _LEAVE.encode())
        with contextlib.suppress(termios.error):
            termios.tcsetattr(self._in, termios.TCSANOW, saved)

    def close(self) -> None:
        self.leave()
        if self._owns_out:
            os.close(self._out)

    def show(self, lines: Sequence[str], *, again: bool = False) -> None:
        """Shows lines that are as wide as the screen at most: writes those that have changed, or with `again` all.

        While the terminal has not taken the last frame, a new one is left out.
        """
        if self._saved is None:
            self.enter()  # a shell sends no signal to a job that it brings from the background
        if self._pending or self._saved is None:
            return
        changed = [] if not again else ["\x1b[2J"]
        before = [] if again else self._shown
        for row, line in enumerate(lines):
            if row >= len(before) or before[row] != line:
                changed.append(f"\x1b[{row + 1};1H\x1b[0m\x1b[2K{line}")
        if len(before) > len(lines):
            changed.append(f"\x1b[{len(lines) + 1};1H\x1b[0m\x1b[J")
        self._shown = list(lines)
        if changed:
            self._write("".join(changed))

    def _write(self, text: str) -> None:
        self._pending = (self._pending + text.encode("utf-8", "replace"))[-_MAX_PENDING:]
        self._flush()

    def _flush(self) -> None:
        try:
            while self._pending:
                self._pending = self._pending[os.write(self._out, self._pending) :]
        except BlockingIOError:
            if not self._is_waiting:
                self._is_waiting = True
                asyncio.get_running_loop().add_writer(self._out, self._flush)
            return
        except OSError:
            self._pending = b""  # it is gone: reading from it says so
        self._stop_waiting()

    def _stop_waiting(self) -> None:
        if self._is_waiting:
            self._is_waiting = False
            asyncio.get_running_loop().remove_writer(self._out)


class _Keys:
    """Reads what is typed. A sequence that begins with ESC is passed on as a whole."""

    def __init__(self, fd: int, on_text: Callable[[str], None], on_end: Callable[[], None]) -> None:
        self._fd: Final = fd
        self._on_text: Final = on_text
        self._on_end: Final = on_end
        self._decoder: Final = codecs.getincrementaldecoder("utf-8")("replace")
        self._held = ""
        self._timer: asyncio.TimerHandle | None = None

    def listen(self) -> None:
        asyncio.get_running_loop().add_reader(self._fd, self._on_readable)

    def stop(self) -> None:
        asyncio.get_running_loop().remove_reader(self._fd)
        self._stop_timer()

    def _on_readable(self) -> None:
        try:
            data = os.read(self._fd, _READ_BYTES)
        except BlockingIOError:
            return
        except OSError:  # its other end is closed
            data = b""
        if not data:
            self.stop()
            self._on_end()
            return
        self._stop_timer()
        self._held += self._decoder.decode(data)
        if _UNFINISHED.search(self._held):
            self._timer = asyncio.get_running_loop().call_later(_ESCAPE_WAIT_S, self._release)
        else:
            self._release()

    def _release(self) -> None:
        text, self._held = self._held, ""
        if text:
            self._on_text(text)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def _own_descriptor(fd: int) -> int:
    """A descriptor of the same terminal that does not block, so that a slow connection delays no signal.

    `O_NONBLOCK` on `fd` itself would concern the shell as well. Where the terminal cannot be opened, `fd` itself.
    """
    try:
        return os.open(os.ttyname(fd), os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY)
    except OSError:
        return fd
