"""Wake tokens: an idle worker blocks on a list until a producer pushes a token."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from redis.asyncio import Redis
from redis.asyncio.connection import AbstractConnection

from fetchq.store.commands import WorkerCommands
from fetchq.store.errors import REDIS_ERRORS, fault_of, reason_of
from fetchq.store.keys import Keys
from fetchq.store.runner import ScriptRunner
from fetchq.tasks import cancel_and_wait, raise_if_cancelled

logger = logging.getLogger("fetchq.engine")

MAX_BLOCK_S: Final = 10.0
"""The timeout of one BLPOP. Never 0, which would block without end on a dead connection."""


class WakeEvent:
    """Wakes the one task that waits for it. Set while no task waits, it ends the next wait at once."""

    def __init__(self) -> None:
        self._is_set = False
        self._waiter: asyncio.Future[None] | None = None

    def set(self) -> None:
        self._is_set = True
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def wait(self, timeout_s: float) -> bool:
        """Returns when the event is set (True) or after `timeout_s`, and clears it."""
        if not self._is_set:
            loop = asyncio.get_running_loop()
            self._waiter = loop.create_future()
            timer = loop.call_later(timeout_s, _end, self._waiter)
            try:
                await self._waiter
            finally:
                timer.cancel()
                self._waiter = None
        was_set, self._is_set = self._is_set, False
        return was_set


def _end(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)


class Waker:
    """Pops wake tokens while the worker is idle, on its own connection, and sets the event for each.

    A busy worker does not listen: it would pop a token that an idle worker needs.
    """

    def __init__(self, redis: Redis, keys: Keys, wake_event: WakeEvent) -> None:
        # Not a connection of the pool: in a small pool, other calls would lack it.
        make: Callable[[], AbstractConnection] = redis.connection_pool.make_connection
        self._connection = make()
        self._key: Final = keys.wake
        self._commands: Final = WorkerCommands(keys)
        self._wake_event = wake_event
        self._idle = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        socket_timeout_s = self._connection.socket_timeout
        self._block_s: Final = MAX_BLOCK_S if socket_timeout_s is None else min(MAX_BLOCK_S, socket_timeout_s / 2)
        self._refused = False
        self.token_taken = False
        """A token was popped and no claim has been made since."""

    def listen(self) -> None:
        """Listens until a token comes or `stop_listening` is called."""
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._listen(), name="fetchq-wake")
        self._idle.set()

    def stop_listening(self) -> None:
        """Ends the listening after the current BLPOP, which may still bring a token."""
        self._idle.clear()

    async def pass_on(self, runner: ScriptRunner) -> None:
        """Puts the token back for another worker, since this one has no free slot."""
        self.token_taken = False
        await self._commands.pass_wake(runner)

    async def aclose(self) -> None:
        if self._task is not None:
            await cancel_and_wait(self._task)
        await self._connection.disconnect(nowait=True)

    async def _listen(self) -> None:
        while True:
            raise_if_cancelled()
            await self._idle.wait()
            try:
                await self._connection.send_command("BLPOP", self._key, self._block_s)
                token = await self._connection.read_response()
            except REDIS_ERRORS as problem:
                # The claim loop's calls fail too, and back off; it calls `listen` when they succeed again.
                # Rights can be missing for BLPOP alone: then jobs start with the next poll.
                level = logging.DEBUG if fault_of(problem).passes or self._refused else logging.ERROR
                self._refused = self._refused or level == logging.ERROR
                logger.log(level, "wake.failed error=%s", reason_of(problem))
                self._idle.clear()
                continue
            if token is not None:
                self.token_taken = True
                self._idle.clear()
                self._wake_event.set()
