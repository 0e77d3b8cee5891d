"""A redis-server of the bench: a free port on loopback, a temporary folder, no persistence."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import msgspec
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError

from .failure import BenchFailure, Unavailable
from .processes import Child, free_port

START_S: Final = 10.0


class Usage(msgspec.Struct, frozen=True):
    """Counters of Redis since its start."""

    trips: int
    """Writes to client sockets. The replies to a pipeline or a script are one write, so this counts round trips. (Reads
    do not: Redis reads 16 KB at a time, so a batch of results takes many.)"""
    commands: int
    """Commands, including those inside scripts."""
    cpu_s: float


class RedisServer:
    """The server, and the harness's client of it."""

    def __init__(self, port: int, client: Redis) -> None:
        self.port = port
        self.client = client

    async def empty(self) -> None:
        await self.client.flushall()

    async def version(self) -> str:
        return str((await self.client.info("server"))["redis_version"])

    async def memory_bytes(self) -> int:
        return int((await self.client.info("memory"))["used_memory"])

    async def usage(self) -> Usage:
        info = await self.client.info("everything")
        return Usage(
            trips=int(info["total_writes_processed"]),
            commands=int(info["total_commands_processed"]),
            cpu_s=float(info["used_cpu_user"]) + float(info["used_cpu_sys"]),
        )

    async def ask(self, *command: str | int) -> Any:
        """The reply to one command."""
        pipe = self.client.pipeline(transaction=False)
        pipe.execute_command(*command)
        [answer] = await pipe.execute()
        return answer

    async def total(self, commands: list[list[str]]) -> int:
        """The sum of the integers that some commands return, in one round trip."""
        pipe = self.client.pipeline(transaction=False)
        for command in commands:
            pipe.execute_command(*command)
        answers: list[Any] = await pipe.execute()
        return sum(int(answer) for answer in answers)


@contextlib.asynccontextmanager
async def redis_server(folder: Path, name: str = "redis") -> AsyncIterator[RedisServer]:
    """Starts it, waits until it replies, and stops it at the end."""
    binary = shutil.which("redis-server")
    if binary is None:
        raise Unavailable("redis-server is missing; install your system's package of that name")
    port = free_port()
    options = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", str(folder)]
    async with Child(name, [binary, *options], folder) as child:
        client = Redis(port=port)
        try:
            await _wait_answers(client, child)
            yield RedisServer(port, client)
        finally:
            await client.aclose()


async def _wait_answers(client: Redis, child: Child) -> None:
    deadline = asyncio.get_running_loop().time() + START_S
    while True:
        child.check()
        try:
            await client.ping()
        except RedisConnectionError as problem:
            if asyncio.get_running_loop().time() > deadline:
                raise BenchFailure(f"redis-server did not answer: {problem}") from problem
            await asyncio.sleep(0.02)  # it gives no event to wait for
        else:
            return
