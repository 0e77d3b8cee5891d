"""Waits for results: pushed by the commit, over one connection for any number of waits.

A commit publishes the ids of the jobs that it finished on the channel of their first characters (`Keys.done`). A wait
subscribes, checks once, and then sleeps until its id is published. Checks are shared: all ids that need one go in one
round trip. A push can be lost (a broken connection, a worker that pushes nothing), so all ids still waited for are
checked again every `check_s`. `WaitList` decides what is next; `ResultWaiter` does it.
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
from fetchq.store.errors import CONNECTION_ERRORS, place_of, translation
from fetchq.store.session import Session
from fetchq.tasks import cancel_and_wait

CHECK_S: Final = 2.0
OUTAGE_S: Final = 10.0
"""How long Redis may be away before the waits fail."""
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
    AWAY = "away"
    """Redis does not answer, or with an error."""


class Subscribe(NamedTuple):
    """Subscribe to some channels, and leave others."""

    channels: Collection[str]
    leave: Collection[str]


class Check(NamedTuple):
    """Read the results of these ids."""

    ids: list[str]


class Sleep(NamedTuple):
    """Nothing to do before this time, unless something happens."""

    until: float


class Disconnect(NamedTuple):
    """Close the connection."""


Step = Subscribe | Check | Sleep | Disconnect


class WaitList:
    """Which ids are waited for, what is known of them, and what is to be done next. Knows no loop and no Redis."""

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
        """Channels on which no push can be missed any more."""
        self._next_check = 0.0
        self._away_since = 0.0
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
        """From now on no push on the channel is missed: all that wait on it are checked for the first time."""
        self.confirmed.add(channel)
        self._recheck(self.ids.get(channel, ()))

    def on_published(self, channel: str, ids: Sequence[str]) -> None:
        """A commit has published these ids."""
        self._recheck(self.ids.get(channel, set()).intersection(ids))

    def on_disconnected(self) -> None:
        """No subscription is left, and a push may have been missed."""
        self.subscribed.clear()
        self.confirmed.clear()
        self._recheck_all()

    def on_checked(self, ids: Sequence[str]) -> None:
        """Redis has answered; `AWAY` becomes `WAITING`."""
        self.unseen.difference_update(ids)
        if self.phase is WaitPhase.AWAY:
            self.phase = WaitPhase.WAITING
        self.failures = 0

    def on_failed(self, now: float, *, reached: bool) -> bool:
        """A step failed: `WAITING` becomes `AWAY`. Returns whether the waits are to fail.

        `reached`: Redis has answered at some time before, so it may come back.
        """
        self.failures += 1
        self.on_disconnected()
        if self.phase is not WaitPhase.AWAY:
            self.phase, self._away_since = WaitPhase.AWAY, now
        if reached and now - self._away_since <= self.outage_s:
            return False
        self.phase = WaitPhase.WAITING
        return True

    def next_step(self, now: float) -> Step:
        """What is to be done now; `Disconnect` makes it `IDLE`, and no id was waited for during a whole `check_s`."""
        if now >= self._next_check:
            self._next_check = now + self.check_s
            if not self.ids:
                self.phase = WaitPhase.IDLE
                self.on_disconnected()
                return Disconnect()
            self._recheck_all()
        missing = self.ids.keys() - self.subscribed
        # One channel without waits may soon have some again (a producer's own); many would be a leak.
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
    """The results that one producer waits for. It has a task and a connection only while there are waits."""

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
        self._away_why: FetchqError | None = None

    def __repr__(self) -> str:
        return f"<ResultWaiter {self.waits.phase.value} ids={len(self._futures)} channels={len(self.waits.ids)}>"

    def watch(self, job_id: str) -> asyncio.Future[bytes]:
        """A future of the stored result, shared by all waits for the id. Each `watch` needs its `unwatch`.

        It fails with `JobNotFound`, `RedisUnavailable` or `RedisRefused`. Since it is shared, await it shielded.
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
        """Ends one `watch`; the last one forgets the id."""
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
        """The stored result, once there is one. Raises what `watch` fails with, and after `timeout_s` `overdue`."""
        if timeout_s is not None and timeout_s <= 0:
            [found] = await self.look([job_id])
            sentence = f"job {job_id} has no result yet"
        else:
            future = self.watch(job_id)
            try:
                async with asyncio.timeout(timeout_s):
                    return await asyncio.shield(future)
            except TimeoutError:
                sentence = f"job {job_id} had no result after {timeout_s:g} s"
                [found] = await self.look_late([job_id], sentence) if job_id in self.waits.unseen else [None]
            finally:
                self.unwatch(job_id)
        if isinstance(found, bytes):
            return found
        raise found or self.overdue(sentence)

    async def look(self, job_ids: Sequence[str]) -> list[bytes | JobNotFound | None]:
        """One check of each: its stored result, that there is no such job, or None if it has no result yet."""
        with self._session.guarded():
            return await self._read(job_ids)

    async def look_late(self, job_ids: Sequence[str], sentence: str) -> list[bytes | JobNotFound | None]:
        """`look` at the end of a wait whose time was too short for any check. Raises `overdue`."""
        if self._away_why is None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LAST_CHECK_S):
                    return await self.look(job_ids)
        raise self.overdue(sentence)

    def overdue(self, sentence: str) -> FetchqError:
        """The error of a wait that took too long: Redis's absence where that is why, else a `ResultTimeout`."""
        return self._away_why or ResultTimeout(sentence)

    async def aclose(self) -> None:
        """Ends the task and the connection; waits fail with a `FetchqError`."""
        runner, self._runner = self._runner, None
        if runner is not None:
            await cancel_and_wait(runner)
        await self._disconnect()
        self._fail_all(FetchqError("the producer was closed while a result was waited for"))

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        # A cancellation can be lost: before Python 3.12 wait_for(), with which redis-py sends, drops some.
        while not self._session.closed:
            self._wakeup.clear()
            step = self.waits.next_step(loop.time())
            if isinstance(step, Disconnect):
                await self._disconnect()
                if self.waits.phase is WaitPhase.IDLE:  # else a wait began meanwhile
                    self._runner = self._away_why = None
                    return
                continue
            try:
                await self._do(step)
            except (RedisError, *CONNECTION_ERRORS) as problem:
                await self._disconnect()
                self._on_failed(problem)
                await asyncio.sleep(_BACKOFF_S[min(self.waits.failures, len(_BACKOFF_S)) - 1])

    async def _do(self, step: Subscribe | Check | Sleep) -> None:
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
        except (RedisError, RuntimeError, *CONNECTION_ERRORS):  # RuntimeError: redis-py's, without a connection
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
        self._away_why = None
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
            future.exception()  # marks it as retrieved: nothing is logged if no wait is left

    def _on_failed(self, problem: Exception) -> None:
        why: FetchqError = translation(self._redis, problem)
        reached = self._session.reached
        self._away_why = why
        if self.waits.on_failed(asyncio.get_running_loop().time(), reached=reached):
            if reached and isinstance(why, RedisUnavailable):
                why = RedisUnavailable(f"Redis at {place_of(self._redis)} has gone away: {problem}")
            self._away_why = None
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
        self._pubsub = self._listener = None
        self.waits.on_disconnected()
        if listener is not None:
            await cancel_and_wait(listener)
        if pubsub is not None:
            await _close(pubsub)


async def _close(pubsub: PubSub) -> None:
    with contextlib.suppress(RedisError, *CONNECTION_ERRORS):  # it is given up, broken or not
        await pubsub.aclose()  # type: ignore[no-untyped-call]  # redis-py 5 leaves it untyped


def _text(value: bytes | str) -> str:
    return value if isinstance(value, str) else value.decode("utf-8", "surrogateescape")
