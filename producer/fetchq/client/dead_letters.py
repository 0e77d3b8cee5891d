"""The dead letters of a queue: list, retry and purge them.

The worker decides which jobs end as dead letters, and its commit writes them.
"""

from __future__ import annotations

import builtins
from collections import Counter
from collections.abc import AsyncGenerator, Sequence
from typing import Any, Final, TypedDict, Unpack

import msgspec

from fetchq.client.write.batch import BATCH_BYTES, BATCH_JOBS
from fetchq.contract.dead_letter import DeadLetter, RetryOutcome, decode_dead_letter, payload_for_retry
from fetchq.contract.job_ids import check_id
from fetchq.contract.placement import lane_and_deadline_of, limit_key_of, stored_limits_of
from fetchq.contract.status import FetchStatus
from fetchq.contract.urls import find_host
from fetchq.contract.validation import check_seconds
from fetchq.errors import DeadLetterNotFound, InvalidRequest
from fetchq.store.commands import DeadLetterCommands, RetryJob
from fetchq.store.session import Session

MAX_AGE_S: Final = 10 * 366 * 86_400.0


class DeadFilter(TypedDict, total=False):
    """Selects the dead letters for which all given fields hold; without any, all of them."""

    status: FetchStatus | str | None
    host: str | None
    """The host of the URL, exactly."""
    tag: str | None
    older_than_s: float | None
    newer_than_s: float | None


class _Filter(msgspec.Struct, frozen=True):
    """A `DeadFilter` whose values have been checked."""

    status: FetchStatus | None = None
    host: str | None = None
    tag: str | None = None
    older_than_s: float | None = None
    newer_than_s: float | None = None

    @property
    def by_age_alone(self) -> bool:
        return self.status is None and self.host is None and self.tag is None

    def matches(self, dead_letter: DeadLetter) -> bool:
        return (
            (self.status is None or dead_letter.status is self.status)
            and (self.host is None or dead_letter.host == self.host)
            and (self.tag is None or self.tag in dead_letter.tags)
        )


class _Entry(msgspec.Struct, frozen=True):
    """A member of the sorted set of dead letters."""

    id: bytes
    ended_ms: int


class DeadLetters:
    """The dead letters of a producer's queue, as `Producer.dead_letters`.

    async for dead_letter in producer.dead_letters.list(status="TIMEOUT", newer_than_s=3600):
        print(dead_letter.id, dead_letter.url, dead_letter.error)
    """

    def __init__(self, session: Session) -> None:
        self._session: Final = session
        self._redis: Final = session.redis
        self._keys: Final = session.keys
        self._commands: Final = DeadLetterCommands(session.keys)

    async def count(self) -> int:
        """The number of dead letters; may include some that have just expired."""
        with self._session.guarded():
            return int(await self._redis.zcard(self._keys.dead))

    async def get(self, job_id: str) -> DeadLetter:
        """The dead letter of a job; raises `DeadLetterNotFound`."""
        [(entry, data)] = await self._read_batch(await self._entries([job_id]))
        if data is None:
            raise DeadLetterNotFound(job_id)
        return _decoded(entry, data)

    async def list(
        self, *, newest_first: bool = False, **wanted: Unpack[DeadFilter]
    ) -> AsyncGenerator[DeadLetter, None]:
        """The dead letters that match the filter, oldest first. Raises `InvalidRequest`.

        Dead letters added during the iteration are not included.
        """
        which = _checked(wanted)
        async for entries in self._pages(which, newest_first=newest_first):
            async for dead_letters in self._read_all(entries, which):
                for dead_letter in dead_letters:
                    yield dead_letter

    async def retry_many(self, job_ids: Sequence[str]) -> builtins.list[RetryOutcome]:
        """Enqueues jobs again under their ids, due now, and returns the outcome of each.

        Their tries start at 0, their old results are removed, and their deadlines are lifted. Each batch is atomic.
        """
        outcomes: list[RetryOutcome] = []
        for start in range(0, len(_many(job_ids)), BATCH_JOBS):
            rest = await self._entries(job_ids[start : start + BATCH_JOBS])
            while rest:
                read = await self._read_batch(rest)
                rest = rest[len(read) :]
                outcomes += await self._retry_batch([_decoded(entry, data) for entry, data in read])
        return outcomes

    async def retry_all(self, **wanted: Unpack[DeadFilter]) -> AsyncGenerator[dict[RetryOutcome, int], None]:
        """`retry_many` of all that match the filter, oldest first; yields the outcomes of each batch, counted.

        A job that dies again meanwhile is not retried twice. Raises `InvalidRequest`.
        """
        which = _checked(wanted)
        async for entries in self._pages(which):
            async for dead_letters in self._read_all(entries, which):
                if dead_letters:
                    yield dict(Counter(await self._retry_batch(dead_letters)))

    async def purge_many(self, job_ids: Sequence[str]) -> builtins.list[bool]:
        """Deletes dead letters, a thousand a round trip, and returns for each whether it existed."""
        purged: list[bool] = []
        for start in range(0, len(_many(job_ids)), BATCH_JOBS):
            batch = job_ids[start : start + BATCH_JOBS]
            for job_id in batch:
                check_id(job_id)
            with self._session.guarded():
                purged += await self._commands.purge(self._session.runner, ((job_id, None) for job_id in batch))
        return purged

    async def purge_all(self, **wanted: Unpack[DeadFilter]) -> AsyncGenerator[int, None]:
        """`purge_many` of all that match the filter; yields the number deleted by each batch.

        Raises `InvalidRequest`.
        """
        which = _checked(wanted)
        async for entries in self._pages(which):
            if which.by_age_alone:  # they need not be read
                yield await self._purge_entries(entries)
                continue
            async for dead_letters in self._read_all(entries, which):
                yield await self._purge_entries([_entry_of(dead_letter) for dead_letter in dead_letters])

    async def _pages(
        self, wanted: _Filter, *, newest_first: bool = False
    ) -> AsyncGenerator[builtins.list[_Entry], None]:
        """Pages of the dead letters of the wanted age, without those added after the first page is read.

        A page begins at the last ms of the page before, without the ids already seen: so none is skipped, although
        others are added and removed meanwhile.
        """
        with self._session.guarded():
            seconds, micros = await self._redis.time()
        now_ms = seconds * 1000 + micros // 1000
        low: int | str = "-inf" if wanted.newer_than_s is None else now_ms - round(wanted.newer_than_s * 1000)
        high = now_ms - round((wanted.older_than_s or 0) * 1000)
        seen: set[bytes] = set()
        at_ms: int | None = None
        while True:
            limit = BATCH_JOBS + len(seen)
            with self._session.guarded():
                if newest_first:
                    top = high if at_ms is None else at_ms
                    found = await self._redis.zrevrangebyscore(self._keys.dead, top, low, 0, limit, withscores=True)
                else:
                    bottom = low if at_ms is None else at_ms
                    found = await self._redis.zrangebyscore(self._keys.dead, bottom, high, 0, limit, withscores=True)
            entries = [_Entry(job_id, round(score)) for job_id, score in found]
            fresh = [entry for entry in entries if entry.id not in seen]
            page = fresh[:BATCH_JOBS]
            if page:
                yield page
            if len(entries) < limit and len(page) == len(fresh):
                return
            if page[-1].ended_ms != at_ms:
                seen.clear()
                at_ms = page[-1].ended_ms
            seen.update(entry.id for entry in page if entry.ended_ms == at_ms)

    async def _entries(self, job_ids: Sequence[str]) -> builtins.list[_Entry]:
        """The members of the sorted set for these ids; `ended_ms` is 0 where there is none."""
        for job_id in job_ids:
            check_id(job_id)
        with self._session.guarded():
            scores = await self._redis.zmscore(self._keys.dead, list(job_ids))
        return [
            _Entry(job_id.encode(), 0 if score is None else round(score))
            for job_id, score in zip(job_ids, scores, strict=True)
        ]

    async def _read_all(
        self, entries: Sequence[_Entry], wanted: _Filter
    ) -> AsyncGenerator[builtins.list[DeadLetter], None]:
        """The dead letters at `entries` that match, in batches that fit in one reply."""
        while entries:
            read = await self._read_batch(entries)
            entries = entries[len(read) :]
            dead_letters = [_decoded(entry, data) for entry, data in read if data is not None]  # None: it has expired
            yield [dead_letter for dead_letter in dead_letters if wanted.matches(dead_letter)]

    async def _read_batch(self, entries: Sequence[_Entry]) -> builtins.list[tuple[_Entry, bytes | None]]:
        """The first dead letters of `entries`, at least one."""
        with self._session.guarded():
            found = await self._commands.read(
                self._session.runner, [entry.id for entry in entries], max_bytes=BATCH_BYTES
            )
        return [(_Entry(entry.id, one.ended_ms), one.data) for entry, one in zip(entries, found, strict=False)]

    async def _retry_batch(self, dead_letters: Sequence[DeadLetter]) -> builtins.list[RetryOutcome]:
        jobs = []
        for dead_letter in dead_letters:
            entry = _entry_of(dead_letter)
            jobs.append(RetryJob(entry.id, entry.ended_ms, payload_for_retry(dead_letter), *_limits_of(dead_letter)))
        with self._session.guarded():
            return await self._commands.retry(self._session.runner, jobs)

    async def _purge_entries(self, entries: Sequence[_Entry]) -> int:
        if not entries:
            return 0
        with self._session.guarded():
            ended = ((entry.id, entry.ended_ms) for entry in entries)
            return sum(await self._commands.purge(self._session.runner, ended))


def _checked(wanted: DeadFilter) -> _Filter:
    unknown = wanted.keys() - DeadFilter.__annotations__.keys()
    if unknown:
        raise InvalidRequest(min(unknown), f"no such filter; there are {', '.join(sorted(DeadFilter.__annotations__))}")
    given: dict[str, Any] = {name: value for name, value in wanted.items() if value is not None}
    if "status" in given:
        try:
            given["status"] = FetchStatus(given["status"])
        except ValueError as problem:
            raise InvalidRequest("status", f"takes an outcome such as TIMEOUT: {problem}") from problem
    if "host" in given:
        given["host"] = _host(given["host"])
    for name in ("older_than_s", "newer_than_s"):
        if name in given:
            check_seconds(name, given[name], 0.0, MAX_AGE_S)
    return _Filter(**given)


def _host(name: object) -> str:
    """A host as URLs spell it: in lower case, in ASCII, an address in its canonical form."""
    host = find_host(f"http://{name}/") if isinstance(name, str) and not set(name) & set("/?#@\\") else None
    if host is None:
        raise InvalidRequest("host", f"{name!r} is not the name of a host")
    return host


def _limits_of(dead_letter: DeadLetter) -> tuple[str, str]:
    """The limit key and the lane that the job's payload names."""
    request = dead_letter.request
    if request is None:
        return stored_limits_of(dead_letter.job or {})
    return limit_key_of(request), lane_and_deadline_of(msgspec.structs.replace(request, deadline=None))


def _many(job_ids: Sequence[str]) -> Sequence[str]:
    if isinstance(job_ids, str):
        raise InvalidRequest("job_ids", "takes a list of ids; for a single one pass [job_id]")
    return job_ids


def _decoded(entry: _Entry, data: bytes | None) -> DeadLetter:
    return decode_dead_letter(entry.id.decode("utf-8", "surrogateescape"), entry.ended_ms, data)


def _entry_of(dead_letter: DeadLetter) -> _Entry:
    return _Entry(dead_letter.id.encode("utf-8", "surrogateescape"), round(dead_letter.died_at.timestamp() * 1000))
