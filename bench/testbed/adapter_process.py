"""The harness's side of the protocol with a peer's producer (`adapters/serve.py`), and the start of its workers."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import msgspec

from bench.adapters.settings import VARIABLE, Settings

from .failure import BenchFailure
from .peers import Peer
from .processes import Child
from .redis_server import RedisServer

COMMAND_S: Final = 60.0
"""The timeout of one command; a measure that needs longer sets its own."""


class Hello(msgspec.Struct, frozen=True):
    """The first line of a producer."""

    unfinished: list[list[str]]
    finished: list[list[str]]
    versions: dict[str, str]


class Backlog:
    """How many enqueued jobs are finished, as Redis shows it: results written, jobs removed."""

    def __init__(self, server: RedisServer, hello: Hello, queued: int, base: int) -> None:
        self._server = server
        self._hello = hello
        self._base = base
        self.queued = queued

    @classmethod
    async def of(cls, server: RedisServer, hello: Hello, queued: int) -> Backlog:
        """Made before any worker starts. Raises `BenchFailure` if the queue does not contain the enqueued jobs."""
        if hello.finished:
            return cls(server, hello, queued, await server.total(hello.finished))
        held = await server.total(hello.unfinished)
        if held != queued:
            raise BenchFailure(f"{queued} jobs were enqueued, but the queue holds {held}")
        return cls(server, hello, queued, 0)

    async def finished(self) -> int:
        if self._hello.finished:
            return await self._server.total(self._hello.finished) - self._base
        return self.queued - await self._server.total(self._hello.unfinished)


class Producer:
    """A peer's producer in its own process."""

    def __init__(self, child: Child, hello: Hello) -> None:
        self._child = child
        self.hello = hello

    @property
    def alive(self) -> bool:
        return self._child.process.returncode is None

    async def ask(self, op: str, *, timeout_s: float = COMMAND_S, **command: Any) -> dict[str, Any]:
        """Executes one command. Raises `BenchFailure` with the peer's error."""
        process = self._child.process
        assert process.stdin is not None
        process.stdin.write(json.dumps({"op": op, **command}).encode() + b"\n")
        return await _answer(self._child, timeout_s)


async def _answer(child: Child, timeout_s: float) -> dict[str, Any]:
    assert child.process.stdout is not None
    try:
        async with asyncio.timeout(timeout_s):
            line = await child.process.stdout.readline()
    except TimeoutError:
        await child.kill()  # a late answer would be taken for the next one
        raise BenchFailure(f"no answer within {timeout_s:g} s") from None
    if not line:
        await child.process.wait()
        raise BenchFailure(f"its producer ended: {child.last_words()}")
    try:
        answer: dict[str, Any] = json.loads(line)
    except ValueError:
        await child.kill()  # not a line of the protocol, so later lines cannot be trusted either
        raise BenchFailure(f"its producer said {line[:200]!r} where an answer was due") from None
    if "error" in answer:
        raise BenchFailure(answer["error"])
    return answer


@contextlib.asynccontextmanager
async def producer(peer: Peer, settings: Settings, folder: Path, role: str = "producer") -> AsyncIterator[Producer]:
    """Starts and connects it."""
    child = Child(f"{peer.name}-{role}", peer.command("producer"), folder, env=_environ(peer, settings), talks=True)
    async with child:
        hello = msgspec.convert(await _answer(child, COMMAND_S), Hello)
        yield Producer(child, hello)


def worker(peer: Peer, settings: Settings, folder: Path) -> Child:
    """One worker process; enter it to start it."""
    return Child(f"{peer.name}-worker", peer.command("worker"), folder, env=_environ(peer, settings))


def _environ(peer: Peer, settings: Settings) -> dict[str, str]:
    fields = {name: getattr(settings, name) for name in Settings.__dataclass_fields__}
    return {VARIABLE: json.dumps(fields), **peer.environ()}
