"""Waiting for results: pushed by the commit, over one connection for any number of waiters.

A commit announces the ids of the jobs that it finished on the channel of their first characters (`Keys.done`). Whoever
waits subscribes, looks once, and then sleeps until its id is announced. Looks are shared: all ids that want one go in
one round trip. A push can be lost (a connection that broke, a worker that pushes nothing), so all that still wait are
looked at again every `check_s`.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from itertools import islice
from typing import Any, Final

from redis.asyncio.client import PubSub
from redis.exceptions import RedisError

from fetchq.contract.job_ids import PUSH_PREFIX_LEN
from fetchq.errors import FetchqError, JobNotFound, RedisUnavailable, ResultTimeout
from fetchq.store.errors import CONNECTION_ERRORS, place_of, translation
from fetchq.store.session import Session
from fetchq.tasks import cancel_and_wait

CHECK_S: Final = 2.0
OUTAGE_S: Final = 10.0
"""How long Redis may be away before those who wait are told."""
CHECK_BATCH: Final = 64
"""Ids per round trip. Results are read whole: this bounds what one reply can hold."""
_BACKOFF_S: Final = (0.05, 0.1, 0.2, 0.5, 1.0)


class ResultWaiter:
    """The results that one producer waits for. It holds a task and a connection only while somebody waits."""

    def __init__(self, session: Session, *, check_s: float = CHECK_S, outage_s: float = OUTAGE_S) -> None:
        self._session = session
        self._redis = session.redis
        self._keys = session.keys
        self._check_s = check_s
        self._outage_s = outage_s
        self._futures: dict[str, asyncio.Future[bytes]] = {}
        self._watchers: dict[str, int] = {}
        self._ids: dict[str, set[str]] = {}  # by channel
        self._wanted: dict[str, None] = {}  # ids to look at, in order
        self._wakeup = asyncio.Event()
        self._runner: asyncio.Task[None] | None = None
        self._pubsub: PubSub | None = None
        self._listener: asyncio.Task[None] | None = None
        self._subscribed: set[str] = set()  # asked for
        self._confirmed: set[str] = set()  # and confirmed
        self._next_check = 0.0
        self._away_since: float | None = None
        self._away_why: FetchqError | None = None

    def __repr__(self) -> str:
        return f"<ResultWaiter waiting={len(self._futures)} channels={len(self._ids)}>"

    def watch(self, job_id: str) -> asyncio.Future[bytes]:
        """A future of the stored result, shared by all who watch the id. Each `watch` needs its `unwatch`.

        It fails with `JobNotFound`, `RedisUnavailable` or `RedisRefused`. Since it is shared, it is awaited shielded.
        """
        self._session.check()
        future = self._futures.get(job_id)
        if future is None:
            channel = self._channel_of(job_id)
            future = self._futures[job_id] = asyncio.get_running_loop().create_future()
            self._ids.setdefault(channel, set()).add(job_id)
            if channel in self._confirmed:
                self._wanted[job_id] = None
            self._wakeup.set()
            if self._runner is None:
                self._next_check = asyncio.get_running_loop().time() + self._check_s
                self._runner = asyncio.create_task(self._run(), name="fetchq-results")
                self._runner.add_done_callback(self._fail_if_broken)
        self._watchers[job_id] = self._watchers.get(job_id, 0) + 1
        return future

    def unwatch(self, job_id: str) -> None:
        """Ends one `watch`; the last one forgets the id."""
        left = self._watchers.get(job_id, 0) - 1
        if left > 0:
            self._watchers[job_id] = left
            return
        self._watchers.pop(job_id, None)
        future = self._futures.pop(job_id, None)
        if future is not None:
            self._forget(job_id)
            future.cancel()

    async def wait(self, job_id: str, timeout_s: float | None = None) -> bytes:
        """The stored result, once it is there. Raises what `watch` fails with, and after `timeout_s` `overdue`."""
        if timeout_s is not None and timeout_s <= 0:
            [found] = await self.look([job_id])
            if isinstance(found, bytes):
                return found
            raise found or self.overdue(f"job {job_id} has no result yet")
        future = self.watch(job_id)
        try:
            async with asyncio.timeout(timeout_s):
                return await asyncio.shield(future)
        except TimeoutError as problem:
            raise self.overdue(f"job {job_id} had no result after {timeout_s:g} s") from problem
        finally:
            self.unwatch(job_id)

    async def look(self, job_ids: Sequence[str]) -> list[bytes | JobNotFound | None]:
        """One look at each: its stored result, that it is no job, or None where it has no result yet."""
        with self._session.guarded():
            return await self._ask(job_ids)

    def overdue(self, sentence: str) -> FetchqError:
        """The end of a wait that took too long: Redis's absence where that is why, else a `ResultTimeout`."""
        return self._away_why or ResultTimeout(sentence)

    async def aclose(self) -> None:
        """Ends the task and the connection; whoever still waits gets a `FetchqError`."""
        runner, self._runner = self._runner, None
        if runner is not None:
            await cancel_and_wait(runner)
        await self._disconnect()
        self._fail_all(FetchqError("the producer was closed while a result was waited for"))

    async def _run(self) -> None:
        failures = 0
        # A cancellation can be lost: before Python 3.12 wait_for(), with which redis-py sends, drops some.
        while not self._session.closed and await self._wait_for_work():
            try:
                await self._subscribe()
                await self._check()
            except (RedisError, *CONNECTION_ERRORS) as problem:
                await self._disconnect()
                self._note_outage(problem)
                await asyncio.sleep(_BACKOFF_S[min(failures, len(_BACKOFF_S) - 1)])
                failures += 1
                self._wakeup.set()
            else:
                failures = 0
                self._away_since = self._away_why = None
                self._session.reached = True

    async def _wait_for_work(self) -> bool:
        """Sleeps until there is something to do; False when nobody has waited for a whole `check_s`."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(self._next_check):
                await self._wakeup.wait()
        self._wakeup.clear()
        now = asyncio.get_running_loop().time()
        if now < self._next_check:
            return True
        self._next_check = now + self._check_s
        if not self._futures:
            await self._disconnect()
            if not self._futures:  # nobody came meanwhile
                self._runner = None
                return False
        self._wanted.update(dict.fromkeys(self._futures))
        return True

    async def _subscribe(self) -> None:
        """Follows the channels of all who wait, and no other."""
        if self._pubsub is None:
            self._pubsub = self._redis.pubsub()
        missing = self._ids.keys() - self._subscribed
        if missing:
            self._subscribed |= missing
            await self._pubsub.subscribe(*missing)
        if self._listener is None:
            self._listener = asyncio.create_task(self._listen(self._pubsub), name="fetchq-pushes")
        # One channel without waiters may soon have some again (a producer's own); many would be a leak.
        if len(self._subscribed) > 2 * len(self._ids) + 1:
            idle = self._subscribed - self._ids.keys()
            self._subscribed -= idle
            self._confirmed -= idle
            await self._pubsub.unsubscribe(*idle)

    async def _listen(self, pubsub: PubSub) -> None:
        """Turns messages into looks, until the connection breaks or is hung up."""
        try:
            while self._pubsub is pubsub:
                message = await pubsub.get_message(timeout=self._check_s)
                if message is not None:
                    self._on_message(message)
        except (RedisError, RuntimeError, *CONNECTION_ERRORS):  # RuntimeError: redis-py's, without a connection
            self._subscribed.clear()
            self._confirmed.clear()
            self._pubsub = self._listener = None
            self._wanted.update(dict.fromkeys(self._futures))
            self._wakeup.set()
            await _close(pubsub)

    def _on_message(self, message: dict[str, Any]) -> None:
        channel = _text(message["channel"])
        if message["type"] == "subscribe":
            # Only now can no push be missed any more: the first look at all who wait on this channel.
            self._confirmed.add(channel)
            ids = self._ids.get(channel, set())
        elif message["type"] == "message":
            ids = self._ids.get(channel, set()).intersection(_text(message["data"]).split("\n"))
        else:
            return
        if ids:
            self._wanted.update(dict.fromkeys(ids))
            self._wakeup.set()

    async def _check(self) -> None:
        """Looks at all ids that want it; a job that is neither queued nor finished is no job."""
        while self._wanted:
            batch = list(islice(self._wanted, CHECK_BATCH))
            for job_id in batch:  # before the look, so that a push that comes during it is wanted again
                del self._wanted[job_id]
            ids = [job_id for job_id in batch if job_id in self._futures]
            if not ids:
                continue
            try:
                outcomes = await self._ask(ids)
            except (RedisError, *CONNECTION_ERRORS):
                self._wanted.update(dict.fromkeys(ids))
                raise
            for job_id, outcome in zip(ids, outcomes, strict=True):
                if outcome is not None:
                    self._complete(job_id, outcome)

    async def _ask(self, job_ids: Sequence[str]) -> list[bytes | JobNotFound | None]:
        async with self._redis.pipeline(transaction=True) as pipe:
            pipe.mget([self._keys.result + job_id for job_id in job_ids])
            pipe.zmscore(self._keys.pending, list(job_ids))
            stored, scores = await pipe.execute()
        return [
            result if result is not None else JobNotFound(job_id) if score is None else None
            for job_id, result, score in zip(job_ids, stored, scores, strict=True)
        ]

    def _complete(self, job_id: str, outcome: bytes | FetchqError) -> None:
        future = self._futures.pop(job_id, None)
        if future is None:
            return
        self._forget(job_id)
        if isinstance(outcome, bytes):
            future.set_result(outcome)
        else:
            future.set_exception(outcome)
            future.exception()  # whoever waits has it; that nobody does any more is no fault to warn of

    def _forget(self, job_id: str) -> None:
        channel = self._channel_of(job_id)
        ids = self._ids[channel]
        ids.discard(job_id)
        if not ids:
            del self._ids[channel]

    def _note_outage(self, problem: Exception) -> None:
        why = translation(self._redis, problem)
        if not self._session.reached:  # nothing was ever there that could come back
            self._fail_all(why)
            return
        now = asyncio.get_running_loop().time()
        self._away_why = why
        if self._away_since is None:
            self._away_since = now
        elif now - self._away_since > self._outage_s:
            if isinstance(why, RedisUnavailable):
                why = RedisUnavailable(f"Redis at {place_of(self._redis)} has gone away: {problem}")
            self._away_since = self._away_why = None
            self._fail_all(why)

    def _fail_if_broken(self, runner: asyncio.Task[None]) -> None:
        if not runner.cancelled() and (problem := runner.exception()) is not None:
            self._runner = None
            self._fail_all(FetchqError(f"the wait for results has broken: {problem!r}"))

    def _fail_all(self, problem: FetchqError) -> None:
        for job_id in list(self._futures):
            self._complete(job_id, problem)

    async def _disconnect(self) -> None:
        pubsub, listener = self._pubsub, self._listener
        self._pubsub = self._listener = None
        self._subscribed.clear()
        self._confirmed.clear()
        if listener is not None:
            await cancel_and_wait(listener)
        if pubsub is not None:
            await _close(pubsub)

    def _channel_of(self, job_id: str) -> str:
        return self._keys.done + job_id[:PUSH_PREFIX_LEN]


async def _close(pubsub: PubSub) -> None:
    with contextlib.suppress(RedisError, *CONNECTION_ERRORS):  # it is being given up, broken or not
        await pubsub.aclose()  # type: ignore[no-untyped-call]  # redis-py 5 leaves it untyped


def _text(value: bytes | str) -> str:
    return value if isinstance(value, str) else value.decode("utf-8", "surrogateescape")
