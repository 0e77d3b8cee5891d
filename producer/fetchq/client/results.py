"""Waits for results: pushed by the commit, over one connection for any number of waits.

A commit publishes the ids of the jobs that it finished on the channel of their first characters (`Keys.done`). A wait
subscribes, checks once, and then sleeps until its id is published. One round trip checks all ids that need it. A push
can be lost (a broken connection, a stock worker), so all ids are checked again every `check_s`. `WaitList` decides the
next step; `ResultWaiter` executes it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Collection, Sequence
from enum import Enum
from itertools import islice
from typing import Any, Final, NamedTuple

from redis.asyncio.client import PubSub
from redis.exceptions import RedisError

from fetchq.contract.job_ids import PUSH_PREFIX_LEN
from fetchq.errors import FetchqError, JobNotFound, RedisUnavailable, ResultTimeout
from fetchq.store.errors import CONNECTION_ERRORS, address_of, fault_of, translation
from fetchq.store.session import Session
from fetchq.tasks import cancel_and_wait

CHECK_S: Final = 2.0
OUTAGE_S: Final = 10.0
"""How long Redis may be unavailable before the waits fail."""
CHECK_BATCH: Final = 64
"""Ids per round trip. Results are read whole: this bounds the size of a reply."""
LAST_CHECK_S: Final = 1.0
"""How long the check at the end of a wait may take."""
_BACKOFF_S: Final = (0.05, 0.1, 0.2, 0.5, 1.0)


class WaitPhase(Enum):
    """The state of a `WaitList`."""

    IDLE = "idle"
    """No id is waited for, and there is no connection."""
    WAITING = "waiting"
    UNAVAILABLE = "unavailable"
    """Redis does not reply, or replies with an error."""


class Subscribe(NamedTuple):
    """Subscribe to some channels, and leave others."""

    channels: Collection[str]
    leave: Collection[str]


class Check(NamedTuple):
    """Read the results of these ids."""

    ids: list[str]


class Sleep(NamedTuple):
    """Wait until this time, or until an event wakes the waiter."""

    until: float


class Disconnect(NamedTuple):
    """Close the connection."""


Step = Subscribe | Check | Sleep | Disconnect


class WaitList:
    """Which ids are awaited, which of them need a check, and the next step. Pure: uses no event loop and no Redis."""

    def __init__(self, channel_prefix: str, check_s: float, outage_s: float) -> None:
        self._channel_prefix: Final = channel_prefix
        self.check_s = check_s
        self.outage_s = outage_s
        self.phase = WaitPhase.IDLE
        self.ids: dict[str, set[str]] = {}
        """The ids by channel."""
        self.unchecked: dict[str, None] = {}
        """The ids to be checked, in order."""
        self.unseen: set[str] = set()
        """The ids that were never checked."""
        self.subscribed: set[str] = set()
        """Channels for which a subscription was sent."""
        self.confirmed: set[str] = set()
        """Channels whose subscription Redis has confirmed: no push on them is missed."""
        self._next_check = 0.0
        self._unavailable_since = 0.0
        self.failures = 0
        """In a row."""

    def add(self, job_id: str, now: float) -> None:
        """Starts to wait for an id; `IDLE` becomes `WAITING`."""
        channel = self._channel_of(job_id)
        self.ids.setdefault(channel, set()).add(job_id)
        self.unseen.add(job_id)
        if channel in self.confirmed:
            self.unchecked[job_id] = None
        if self.phase is WaitPhase.IDLE:
            self.phase = WaitPhase.WAITING
            self._next_check = now + self.check_s

    def remove(self, job_id: str) -> None:
        channel = self._channel_of(job_id)
        ids = self.ids[channel]
        ids.discard(job_id)
        if not ids:
            del self.ids[channel]
        self.unchecked.pop(job_id, None)
        self.unseen.discard(job_id)

    def on_subscribed(self, channel: str) -> None:
        """Redis has confirmed the subscription and no push is missed any more: all ids on the channel are checked."""
        self.confirmed.add(channel)
        self._recheck(self.ids.get(channel, ()))

    def on_published(self, channel: str, ids: Sequence[str]) -> None:
        """A commit has published these ids."""
        self._recheck(self.ids.get(channel, set()).intersection(ids))

    def on_disconnected(self) -> None:
        """All subscriptions are lost, and a push may have been missed."""
        self.subscribed.clear()
        self.confirmed.clear()
        self._recheck_all()

    def on_checked(self, ids: Sequence[str]) -> None:
        """Redis has replied; `UNAVAILABLE` becomes `WAITING`."""
        self.unseen.difference_update(ids)
        if self.phase is WaitPhase.UNAVAILABLE:
            self.phase = WaitPhase.WAITING
        self.failures = 0

    def on_failed(self, now: float, *, reached: bool) -> bool:
        """A step failed: `WAITING` becomes `UNAVAILABLE`. Returns whether the waits must fail now.

        `reached`: Redis has replied before, so this may be an outage that ends.
        """
        self.failures += 1
        self.on_disconnected()
        if self.phase is not WaitPhase.UNAVAILABLE:
            self.phase, self._unavailable_since = WaitPhase.UNAVAILABLE, now
        if reached and now - self._unavailable_since <= self.outage_s:
            return False
        self.phase = WaitPhase.WAITING
        return True

    def next_step(self, now: float) -> Step:
        """The next step. `Disconnect`, after a whole `check_s` without ids, makes the list `IDLE`."""
        if now >= self._next_check:
            self._next_check = now + self.check_s
            if not self.ids:
                self.phase = WaitPhase.IDLE
                self.on_disconnected()
                return Disconnect()
            self._recheck_all()
        missing = self.ids.keys() - self.subscribed
        # A channel without waits (the producer's own) may soon have some again; many such channels would be a leak.
        idle = self.subscribed - self.ids.keys() if len(self.subscribed) > 2 * len(self.ids) + 1 else set()
        if missing or idle:
            self.subscribed = (self.subscribed | missing) - idle
            self.confirmed -= idle
            return Subscribe(missing, idle)
        if self.unchecked:
            batch = list(islice(self.unchecked, CHECK_BATCH))
            for job_id in batch:  # before the check, so that a push during it leads to another
                del self.unchecked[job_id]
            return Check(batch)
        return Sleep(self._next_check)

    def _recheck(self, ids: Collection[str]) -> None:
        self.unchecked.update(dict.fromkeys(ids))

    def _recheck_all(self) -> None:
        for ids in self.ids.values():
            self._recheck(ids)

    def _channel_of(self, job_id: str) -> str:
        return self._channel_prefix + job_id[:PUSH_PREFIX_LEN]


class ResultWaiter:
    """Waits for the results of one producer. It has one task and one connection, and only while there are waits."""

    def __init__(self, session: Session, *, check_s: float = CHECK_S, outage_s: float = OUTAGE_S) -> None:
        self._session: Final = session
        self._redis: Final = session.redis
        self._futures: Final[dict[str, asyncio.Future[bytes]]] = {}
        self._watchers: Final[dict[str, int]] = {}
        self.waits: Final = WaitList(session.keys.done, check_s, outage_s)
        self._wakeup: Final = asyncio.Event()
        self._runner: asyncio.Task[None] | None = None
        self._pubsub: PubSub | None = None
        self._listener: asyncio.Task[None] | None = None
        self._listener_problem: Exception | None = None
        """What ended the subscriptions: a lost connection, or Redis's refusal, which comes as a message."""
        self._outage: FetchqError | None = None

    def __repr__(self) -> str:
        return f"<ResultWaiter {self.waits.phase.value} ids={len(self._futures)} channels={len(self.waits.ids)}>"

    def watch(self, job_id: str) -> asyncio.Future[bytes]:
        """A future of the stored result, shared by all waits for the id. Each `watch` needs its `unwatch`.

        It fails with `JobNotFound`, `RedisUnavailable` or `RedisRefused`. Await it under `asyncio.shield`: it is
        shared.
        """
        self._session.check()
        loop = asyncio.get_running_loop()
        future = self._futures.get(job_id)
        if future is None:
            self.waits.add(job_id, loop.time())
            future = self._futures[job_id] = loop.create_future()
            self._wakeup.set()
            if self._runner is None:
                self._runner = asyncio.create_task(self._run(), name="fetchq-results")
                self._runner.add_done_callback(self._fail_if_broken)
        self._watchers[job_id] = self._watchers.get(job_id, 0) + 1
        return future

    def unwatch(self, job_id: str) -> None:
        """Ends one `watch`. After the last one the id is not waited for any more."""
        count = self._watchers.get(job_id, 0) - 1
        if count > 0:
            self._watchers[job_id] = count
            return
        self._watchers.pop(job_id, None)
        future = self._futures.pop(job_id, None)
        if future is not None:
            self.waits.remove(job_id)
            future.cancel()

    async def wait(self, job_id: str, timeout_s: float | None = None) -> bytes:
        """The stored result, once there is one. Raises what `watch` fails with, and `overdue()` after `timeout_s`."""
        if timeout_s is not None and timeout_s <= 0:
            [found] = await self.check([job_id])
            sentence = f"job {job_id} has no result yet"
        else:
            future = self.watch(job_id)
            try:
                async with asyncio.timeout(timeout_s):
                    return await asyncio.shield(future)
            except TimeoutError:
                if future.done():  # the reply came together with the timeout
                    return future.result()
                sentence = f"job {job_id} had no result after {timeout_s:g} s"
                [found] = await self.check_late([job_id], sentence) if job_id in self.waits.unseen else [None]
            finally:
                self.unwatch(job_id)
        if isinstance(found, bytes):
            return found
        raise found or self.overdue(sentence)

    async def check(self, job_ids: Sequence[str]) -> list[bytes | JobNotFound | None]:
        """One check of each: its stored result, that there is no such job, or None if it has no result yet."""
        with self._session.guarded():
            return await self._read(job_ids)

    async def check_late(self, job_ids: Sequence[str], sentence: str) -> list[bytes | JobNotFound | None]:
        """`check` at the end of a wait that was too short for a check. Raises `overdue()` if that fails too."""
        if self._outage is None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LAST_CHECK_S):
                    return await self.check(job_ids)
        raise self.overdue(sentence)

    def overdue(self, sentence: str) -> FetchqError:
        """The error of a wait that timed out: that of the outage if Redis is unavailable, else a `ResultTimeout`."""
        return self._outage or ResultTimeout(sentence)

    async def aclose(self) -> None:
        """Ends the task and the connection; waits fail with a `FetchqError`."""
        runner, self._runner = self._runner, None
        if runner is not None:
            await cancel_and_wait(runner)
        await self._disconnect()
        self._fail_all(FetchqError("the producer was closed while a result was waited for"))

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        # Not `while True`: before Python 3.12 `asyncio.wait_for`, which redis-py uses, can lose a cancellation.
        while not self._session.closed:
            self._wakeup.clear()
            step = self.waits.next_step(loop.time())
            if isinstance(step, Disconnect):
                await self._disconnect()
                if self.waits.phase is WaitPhase.IDLE:  # else a wait began in the meantime
                    self._runner = self._outage = None
                    return
                continue
            try:
                await self._do(step)
            except (RedisError, *CONNECTION_ERRORS) as problem:
                await self._disconnect()
                self._on_failed(problem)
                await asyncio.sleep(_BACKOFF_S[min(self.waits.failures, len(_BACKOFF_S)) - 1])

    async def _do(self, step: Subscribe | Check | Sleep) -> None:
        if self._listener_problem is not None:
            raise self._listener_problem
        match step:
            case Sleep(until):
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout_at(until):
                        await self._wakeup.wait()
            case Subscribe(channels, leave):
                await self._subscribe(channels, leave)
            case Check(ids):
                for job_id, outcome in zip(ids, await self._read(ids), strict=True):
                    if outcome is not None:
                        self._complete(job_id, outcome)
                self._session.reached = True
                self.waits.on_checked(ids)

    async def _subscribe(self, channels: Collection[str], leave: Collection[str]) -> None:
        pubsub = self._pubsub = self._pubsub or self._redis.pubsub()
        if channels:
            await pubsub.subscribe(*channels)
        if self._listener is None:
            self._listener = asyncio.create_task(self._listen(pubsub), name="fetchq-pushes")
        if leave:
            await pubsub.unsubscribe(*leave)

    async def _listen(self, pubsub: PubSub) -> None:
        """Passes messages on until the connection breaks or is closed."""
        try:
            while self._pubsub is pubsub:
                message = await pubsub.get_message(timeout=self.waits.check_s)
                if message is not None:
                    self._on_message(message)
        except (RedisError, RuntimeError, *CONNECTION_ERRORS) as problem:
            self._listener_problem = None if isinstance(problem, RuntimeError) else problem  # redis-py's: no connection
            self._pubsub = self._listener = None
            self.waits.on_disconnected()
            self._wakeup.set()
            await _close(pubsub)

    def _on_message(self, message: dict[str, Any]) -> None:
        channel = _text(message["channel"])
        if message["type"] == "subscribe":
            self.waits.on_subscribed(channel)
        elif message["type"] == "message":
            self.waits.on_published(channel, _text(message["data"]).split("\n"))
        if self.waits.unchecked:
            self._wakeup.set()

    async def _read(self, job_ids: Sequence[str]) -> list[bytes | JobNotFound | None]:
        keys = self._session.keys
        async with self._redis.pipeline(transaction=True) as pipe:
            pipe.mget([keys.result + job_id for job_id in job_ids])
            pipe.zmscore(keys.pending, list(job_ids))
            stored, scores = await pipe.execute()
        self._outage = None
        return [
            result if result is not None else JobNotFound(job_id) if score is None else None
            for job_id, result, score in zip(job_ids, stored, scores, strict=True)
        ]

    def _complete(self, job_id: str, outcome: bytes | FetchqError) -> None:
        future = self._futures.pop(job_id, None)
        if future is None:
            return
        self.waits.remove(job_id)
        if isinstance(outcome, bytes):
            future.set_result(outcome)
        else:
            future.set_exception(outcome)
            future.exception()  # marks it as retrieved, so that asyncio does not log it if no wait remains

    def _on_failed(self, problem: Exception) -> None:
        why: FetchqError = translation(self._redis, problem)
        reached = self._session.reached and fault_of(problem).passes  # a refusal is no outage that ends
        self._outage = why
        if self.waits.on_failed(asyncio.get_running_loop().time(), reached=reached):
            if reached and isinstance(why, RedisUnavailable):
                why = RedisUnavailable(f"Redis at {address_of(self._redis)} is unavailable: {problem}")
            self._outage = None
            self._fail_all(why)

    def _fail_if_broken(self, runner: asyncio.Task[None]) -> None:
        if not runner.cancelled() and (problem := runner.exception()) is not None:
            self._runner = None
            self._fail_all(FetchqError(f"the wait for results failed: {problem!r}"))

    def _fail_all(self, problem: FetchqError) -> None:
        for job_id in list(self._futures):
            self._complete(job_id, problem)

    async def _disconnect(self) -> None:
        pubsub, listener = self._pubsub, self._listener
        self._pubsub = self._listener = self._listener_problem = None
        self.waits.on_disconnected()
        if listener is not None:
            await cancel_and_wait(listener)
        if pubsub is not None:
            await _close(pubsub)


async def _close(pubsub: PubSub) -> None:
    with contextlib.suppress(RedisError, *CONNECTION_ERRORS):  # it is discarded, broken or not
        await pubsub.aclose()  # type: ignore[no-untyped-call]  # redis-py 5 leaves it untyped


def _text(value: bytes | str) -> str:
    return value if isinstance(value, str) else value.decode("utf-8", "surrogateescape")
