"""`fetchq worker --check`: asks the workers of this machine whether they are alive.

Container platforms run it every few seconds and wait for a second, so it loads no command line, no Redis client and no
event loop.
"""

from __future__ import annotations

import os
import socket
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Final

from fetchq.command.listen_address import ListenAddress, parse_address
from fetchq_worker.health_address import (
    find_sockets,
    is_ours,
    runtime_folder,
    tag_of,
)

DEFAULT_TIMEOUT_S: Final = 0.9
MAX_ANSWER_BYTES: Final = 1 << 16
_VALUES: Final = ("--http", "--namespace", "--queue", "--redis", "--timeout")
"""The flags of a check that take a value. `--redis` has no effect: a check does not ask Redis."""


class Unhealthy(Exception):
    """A worker does not answer, answers that it is not well, or does not exist."""


def run_if_check(arguments: Sequence[str]) -> int | None:
    """Runs `worker --check` and returns its exit status.

    None for any other command line, also one that is not understood here: it is left to the whole command.
    """
    if arguments[:1] != ["worker"] or "--check" not in arguments:
        return None
    given: dict[str, str] = {}
    words = iter(arguments[1:])
    for word in words:
        name, equals, value = word.partition("=")
        if word == "--check":
            continue
        if name not in _VALUES:
            return None
        if not equals and (value := next(words, "")) == "":
            return None
        given[name] = value
    try:
        timeout_s = float(given.pop("--timeout", DEFAULT_TIMEOUT_S))
        return check({flag.removeprefix("--"): value for flag, value in given.items()}, timeout_s)
    except ValueError:
        return None


def check(flags: Mapping[str, str], timeout_s: float) -> int:
    """Asks the address `http`, or without one the workers of this user on this machine: those of `queue`, or all.

    These, and `namespace`, are flags or `FETCHQ_` variables. Raises `ValueError` if `http` is not an address.

    Prints a line for each that is alive and returns 0; prints one sentence on stderr and returns 1 as soon as one does
    not answer, says that it is not well, or has been killed without being replaced, and if there is none.
    """
    until = time.monotonic() + timeout_s
    http, queue, namespace = (
        flags.get(name) or os.environ.get(f"FETCHQ_{name.upper()}", "") for name in ("http", "queue", "namespace")
    )
    one = parse_address(http).to_ask() if http else None
    try:
        for address in [one] if one else _addresses(tag_of(queue, namespace) if queue else ""):
            sys.stdout.write(f"{_printable(_ask(address, until))}\n")
    except Unhealthy as problem:
        sys.stderr.write(f"fetchq: {_printable(str(problem))}\n")
        return 1
    sys.stdout.flush()
    return 0


def _addresses(tag: str) -> list[ListenAddress]:
    folder = runtime_folder()
    paths = find_sockets(tag)
    if not paths:
        whose = "of this queue and user" if tag else "of this user"
        raise Unhealthy(f"no worker {whose} runs on this machine: there is no socket in {folder}")
    if not is_ours(folder):
        raise Unhealthy(f"other users can write to {folder}, so the answers in it are not trusted")
    return [ListenAddress("", 0, path) for path in paths]


def _ask(address: ListenAddress, until: float) -> str:
    """The answer of a worker that is alive. Raises `Unhealthy`."""
    left_s = max(0.001, until - time.monotonic())
    try:
        with _connect(address, left_s) as connection:
            connection.sendall(f"GET /livez?timeout_s={left_s:.3f} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            answer = _read(connection, until)
    except (TimeoutError, BlockingIOError):
        raise Unhealthy(f"the worker at {address} does not answer: its event loop or process is stopped") from None
    except ConnectionRefusedError:
        raise Unhealthy(f"nothing listens at {address}: the worker was killed and not replaced, or never ran") from None
    except OSError as problem:
        raise Unhealthy(f"the worker at {address} cannot be asked: {problem.strerror or problem}") from None
    head, _, body = answer.partition(b"\r\n\r\n")
    text = body.decode("utf-8", "replace").strip()
    if head.split(b" ", 2)[1:2] != [b"200"]:
        raise Unhealthy(text or f"the worker at {address} sent no answer to understand")
    return text


def _connect(address: ListenAddress, timeout_s: float) -> socket.socket:
    if not address.path:
        return socket.create_connection((address.host, address.port), timeout_s)
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.settimeout(timeout_s)
        connection.connect(address.path)
    except OSError:
        connection.close()
        raise
    return connection


def _read(connection: socket.socket, until: float) -> bytes:
    """All that the worker sends, by `until`. Raises `OSError`."""
    answer = b""
    while len(answer) < MAX_ANSWER_BYTES:
        left_s = until - time.monotonic()
        if left_s <= 0:
            raise TimeoutError
        connection.settimeout(left_s)
        data = connection.recv(MAX_ANSWER_BYTES)
        if not data:
            break
        answer += data
    return answer


def _printable(text: str) -> str:
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)
