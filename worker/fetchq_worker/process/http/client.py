"""Asks the listeners on unix sockets, and finds the sockets of those that have ended."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from http import HTTPStatus
from pathlib import Path
from typing import Final

from .messages import Reply

LISTENING_S: Final = 5.0
"""Maximum time between the creation of a socket's file and the moment from which it accepts connections."""


async def get(path: str, target: str, timeout_s: float, *, accept: str = "*/*") -> Reply:
    """Asks a listener on a unix socket. Raises `OSError`, also for no answer within `timeout_s`."""
    async with asyncio.timeout(timeout_s):
        reader, writer = await asyncio.open_unix_connection(path)
        try:
            lines = (f"GET {target} HTTP/1.1", "Host: localhost", f"Accept: {accept}", "", "")
            writer.write("\r\n".join(lines).encode("latin-1", "replace"))
            head, _, body = (await reader.read(-1)).partition(b"\r\n\r\n")
        finally:
            writer.close()
    status, *fields = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value for name, _, value in (field.partition(": ") for field in fields)}
    try:
        found = Reply(HTTPStatus(int(status.split(" ", 2)[1])), body.decode(), headers["content-type"])
        if int(headers["content-length"]) != len(body):
            raise ConnectionError("the answer was cut")
    except (IndexError, KeyError, ValueError) as problem:
        raise ConnectionError("no answer") from problem
    return found._replace(text=found.text.removesuffix("\n"))


async def is_in_use(path: str) -> bool:
    try:
        _, writer = await asyncio.open_unix_connection(path)
    except (ConnectionRefusedError, FileNotFoundError):
        return False
    writer.close()
    return True


def is_abandoned(path: Path) -> bool:
    """Whether the process that made the socket, named `PID.child` or `...-PID.sock`, has ended without removing it."""
    with socket.socket(socket.AF_UNIX) as probe:
        probe.setblocking(False)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            return not _may_be_new(path)
        except OSError:  # many connections wait already
            return False
    return False


def _may_be_new(path: Path) -> bool:
    """Whether the socket may have been made just now, and its process is about to listen on it."""
    try:
        os.kill(int(path.stem.rpartition("-")[2]), 0)
        return time.time() - path.stat().st_mtime < LISTENING_S
    except (ValueError, OSError):  # of another user's process too, which has the id of one that has ended
        return False
