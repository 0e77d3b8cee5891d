"""Cancels jobs: by their ids, or all that match a tag or a host."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Sequence
from typing import Any, Final

from fetchq.client.write.batch import BATCH_JOBS
from fetchq.client.write.writer import now_in_ms
from fetchq.contract import wire
from fetchq.contract.job_ids import check_id
from fetchq.contract.placement import limit_key_of, stored_limits_of
from fetchq.contract.request import DEFAULT_RESULT_TTL_S
from fetchq.contract.urls import find_host
from fetchq.errors import FetchqError, InvalidRequest
from fetchq.store.commands import CancelJob, JobCommands
from fetchq.store.hosts import waiting_ids
from fetchq.store.session import Session
from fetchq.telemetry.ends import cancelled_field

from .handles import CancelOutcome
from .limits import name_of

_OUTCOMES: Final = (
    CancelOutcome.NOT_FOUND,
    CancelOutcome.CANCELLED,
    CancelOutcome.REQUESTED,
    CancelOutcome.FINISHED,
)


class Canceller:
    """Cancels jobs of one queue."""

    def __init__(self, session: Session) -> None:
        self._session: Final = session
        self._redis: Final = session.redis
        self._keys: Final = session.keys
        self._commands: Final = JobCommands(session.keys)

    async def cancel_many(self, job_ids: Sequence[str]) -> list[CancelOutcome]:
        """Cancels the jobs of these ids, a thousand a round trip, and returns the outcome of each."""
        if isinstance(job_ids, str):
            raise InvalidRequest("job_ids", "takes a list of ids; for a single job call cancel() of its handle")
        for job_id in job_ids:
            check_id(job_id)
        outcomes: list[CancelOutcome] = []
        for start in range(0, len(job_ids), BATCH_JOBS):
            batch = job_ids[start : start + BATCH_JOBS]
            outcomes += await self._cancel_batch(batch, await self._payloads(batch))
        return outcomes

    async def cancel_all(self, tag: str | None, host: str | None) -> AsyncGenerator[dict[CancelOutcome, int], None]:
        """Cancels all jobs that match, in batches, and yields the outcomes of each batch, counted."""
        host = None if host is None else host_to_cancel(host)
        matches = match_filter(tag=tag, host=host)
        async with contextlib.aclosing(self._all_ids(host)) as batches:
            async for ids in batches:
                payloads = await self._payloads(ids)
                chosen = [pair for pair in zip(ids, payloads, strict=True) if matches(pair[1])]
                if chosen:
                    outcomes = await self._cancel_batch([one for one, _ in chosen], [one for _, one in chosen])
                    yield dict(Counter(outcomes))

    async def _all_ids(self, first_of: str | None) -> AsyncGenerator[list[str], None]:
        """The ids of the queue in batches, those parked for the host `first_of` first. Some may come twice."""
        if first_of is not None:
            async for waiting in waiting_ids(self._session, first_of):
                yield [_text(job_id) for job_id in waiting]
        cursor, more = 0, True
        while more:
            with self._session.guarded():
                cursor, scored = await self._redis.zscan(self._keys.pending, cursor, count=BATCH_JOBS)
            more = cursor != 0
            if scored:
                yield [_text(job_id) for job_id, _ in scored]

    async def _payloads(self, job_ids: Sequence[str]) -> list[bytes | None]:
        with self._session.guarded():
            return await self._redis.mget([self._keys.job + job_id for job_id in job_ids]) if job_ids else []

    async def _cancel_batch(self, job_ids: Sequence[str], payloads: Sequence[bytes | None]) -> list[CancelOutcome]:
        jobs = [
            CancelJob(job_id, *cancelled(job_id, payload, self._keys.queue))
            for job_id, payload in zip(job_ids, payloads, strict=True)
        ]
        with self._session.guarded():
            codes = await self._commands.cancel(self._session.runner, jobs)
        return [_OUTCOMES[code] for code in codes]


def host_to_cancel(host: str) -> str:
    """The host as it is spelled in URLs; raises `InvalidRequest`."""
    name = name_of(host)
    if name.startswith(("*", "key:")):
        raise InvalidRequest("host", f"takes one host such as example.org, not {host[:80]!r}")
    return name


def match_filter(*, tag: str | None, host: str | None) -> Callable[[bytes | None], bool]:
    """A predicate of payloads: whether the job is a fetch with this tag and this host. None matches any."""

    def matches(payload: bytes | None) -> bool:
        if tag is None and host is None:
            return True
        try:
            job = wire.deserialize(payload or b"")
            [request] = job["a"]
            tags, url = request.get("tags", ()), request.get("url", "")
        except (FetchqError, ValueError, AttributeError, KeyError, TypeError):  # not a fetch
            return False
        if job["f"] != wire.FETCH_FUNCTION:  # its argument may look like a request
            return False
        if tag is not None and not (isinstance(tags, list) and tag in tags):
            return False
        return host is None or (isinstance(url, str) and find_host(url) == host)

    return matches


def cancelled(job_id: str, payload: bytes | None, queue: str) -> tuple[bytes, int, str, str]:
    """For a job that is cancelled before it ran: its result, the result's TTL in ms, its limit key, and its figure."""
    now_ms = now_in_ms()
    job: dict[str, Any] = {"f": "<unknown>", "a": [], "k": {}, "et": now_ms}
    ttl_s, limit_key = DEFAULT_RESULT_TTL_S, ""
    if payload is not None:
        try:
            job = wire.deserialize(payload)
            if job["f"] == wire.FETCH_FUNCTION:
                request = wire.decode_request(job["a"][0])
                ttl_s, limit_key = request.result_ttl_s, limit_key_of(request)
            else:
                limit_key, _ = stored_limits_of(job)
        except (FetchqError, LookupError):  # not readable: cancelled too
            pass
    ended = {**job, "t": 0, "st": now_ms, "ft": now_ms, "q": queue, "id": job_id}
    return wire.encode_cancelled(ended, payload or b""), round(ttl_s * 1000), limit_key, cancelled_field(job.get("f"))


def _text(job_id: bytes) -> str:
    return job_id.decode("utf-8", "surrogateescape")
