"""Deadlines: runs that take longer than their timeout are cancelled."""

from __future__ import annotations

import asyncio

from fetchq_worker.engine.queue.lease import Lease


class _Bucket:
    __slots__ = ("started", "timer")

    def __init__(self) -> None:
        self.started: dict[Lease, float] = {}
        self.timer: asyncio.TimerHandle | None = None


class Deadlines:
    """The timeouts of all runs, at the cost of one timer for each length of timeout.

    Runs of one length end in the order in which they began, so that only the first of each needs watching.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._buckets: dict[float, _Bucket] = {}

    def start(self, lease: Lease, timeout_s: float) -> None:
        bucket = self._buckets.get(timeout_s)
        if bucket is None:
            bucket = self._buckets[timeout_s] = _Bucket()
        now = self._loop.time()
        bucket.started[lease] = now
        if bucket.timer is None:
            bucket.timer = self._loop.call_at(now + timeout_s, self._expire, bucket, timeout_s)

    def stop(self, lease: Lease, timeout_s: float) -> None:
        self._buckets[timeout_s].started.pop(lease, None)

    def _expire(self, bucket: _Bucket, timeout_s: float) -> None:
        bucket.timer = None
        now = self._loop.time()
        while bucket.started:
            lease, started = next(iter(bucket.started.items()))
            if started + timeout_s > now:
                bucket.timer = self._loop.call_at(started + timeout_s, self._expire, bucket, timeout_s)
                return
            del bucket.started[lease]
            lease.timed_out = True
            lease.cancel()
