"""Child processes: each in its own group, with stderr in a file, and stopped in bounded time."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Final, Self

from .failure import BenchFailure

REPO: Final = Path(__file__).resolve().parents[2]

STOP_S: Final = 3.0
"""The time between SIGTERM and SIGKILL."""

_PASSED_ON: Final = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "CI")
_LINE_BYTES: Final = 64 << 20

Argv = Sequence[str | Path]


class Child:
    """A process that the bench started. Leaving its context ends it and all processes that it started."""

    def __init__(
        self,
        name: str,
        argv: Argv,
        folder: Path,
        *,
        env: Mapping[str, str] | None = None,
        talks: bool = False,
    ) -> None:
        """`folder` contains the file of its stderr. `talks`: its stdin and stdout are pipes."""
        self.name = name
        self._argv = [str(part) for part in argv]
        self._env = {key: os.environ[key] for key in _PASSED_ON if key in os.environ}
        self._env |= {"PYTHONPATH": str(REPO), "PYTHONUNBUFFERED": "1", **(env or {})}
        self._talks = talks
        self._errors: IO[bytes] = (folder / f"{name}.log").open("ab")
        self._errors_path = folder / f"{name}.log"
        self._process: asyncio.subprocess.Process | None = None

    def __repr__(self) -> str:
        return f"<Child {self.name} pid={self._process.pid if self._process else None}>"

    async def __aenter__(self) -> Self:
        pipe = asyncio.subprocess.PIPE if self._talks else asyncio.subprocess.DEVNULL
        self._process = await asyncio.create_subprocess_exec(
            *self._argv,
            stdin=pipe,
            stdout=pipe if self._talks else self._errors,
            stderr=self._errors,
            env=self._env,
            cwd=REPO,
            start_new_session=True,
            limit=_LINE_BYTES,
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        try:
            await self.stop()
        finally:
            self._errors.close()

    @property
    def process(self) -> asyncio.subprocess.Process:
        assert self._process is not None, "entered first"
        return self._process

    def check(self) -> None:
        """Raises `BenchFailure` with its last output if the process has exited."""
        if self.process.returncode is not None:
            raise BenchFailure(f"{self.name} ended with status {self.process.returncode}: {self.last_words()}")

    def last_words(self) -> str:
        lines = [line.strip() for line in self._errors_path.read_text(errors="replace").splitlines() if line.strip()]
        return lines[-1][:300] if lines else "it said nothing"

    async def communicate(self, given: bytes | None, timeout_s: float) -> str:
        """Sends its input, waits for its end, and returns its output. Raises `BenchFailure`."""
        try:
            async with asyncio.timeout(timeout_s):
                output, _ = await self.process.communicate(given)
        except TimeoutError:
            raise BenchFailure(f"{self.name} took longer than {timeout_s:g} s") from None
        if self.process.returncode != 0:
            raise BenchFailure(f"{self.name} ended with status {self.process.returncode}: {self.last_words()}")
        return output.decode()

    async def stop(self) -> None:
        """Sends SIGTERM, and SIGKILL to the whole group if that is not enough."""
        if self.process.returncode is None:
            self._signal(signal.SIGTERM)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(STOP_S):
                    await self.process.wait()
        await self.kill()

    async def kill(self) -> None:
        """Sends SIGKILL to its whole group."""
        self._signal(signal.SIGKILL)
        await self.process.wait()

    def _signal(self, number: int) -> None:
        # The group may outlive its leader; without both there is nothing to signal.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)


def stop_on_signals() -> None:
    """Ctrl-C and SIGTERM cancel the current task once, so that every context is closed.

    A second Ctrl-C changes nothing: all clean-up is bounded by `STOP_S`.
    """
    task = asyncio.current_task()
    assert task is not None
    stopped = False

    def stop() -> None:
        nonlocal stopped
        if not stopped:
            stopped = True
            task.cancel()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop)


async def run(name: str, argv: Argv, folder: Path, *, timeout_s: float, env: Mapping[str, str]) -> str:
    """Runs to the end and returns the output. Raises `BenchFailure` on failure or timeout."""
    async with Child(name, argv, folder, env=env, talks=True) as child:
        return await child.communicate(None, timeout_s)


def free_port() -> int:
    """A free port on loopback, which another process could still take."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
