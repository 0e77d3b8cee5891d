"""The dead letters of a queue: to look at, to run again, to throw away.

What ends as one is the worker's to say; it is written by the commit that ends the job.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncGenerator, Sequence
from typing import TYPE_CHECKING, Any, Final, TypedDict, Unpack

import msgspec
from redis.asyncio import Redis

from fetchq.contract.dead_letter import DeadLetter, RetryOutcome, decode_dead_letter, payload_for_retry
from fetchq.contract.job_ids import check_id
from fetchq.contract.placement import lane_and_deadline_of, limit_key_of
from fetchq.contract.status import FetchStatus
from fetchq.contract.urls import find_host
from fetchq.contract.validation import check_seconds
from fetchq.errors import DeadLetterNotFound, InvalidRequest
from fetchq.store.commands import DeadLetterCommands, RetryJob
from fetchq.store.runner import ClientRunner

from .batch import BATCH_BYTES, BATCH_JOBS

if TYPE_CHECKING:
    from .producer import Producer

MAX_AGE_S: Final = 10 * 366 * 86_400.0


class DeadFilter(TypedDict, total=False):
    """Which letters are meant: those that all of these hold for; without any, all."""

    status: FetchStatus | str | None
    host: str | None
    """The host of the URL, exactly."""
    tag: str | None
    older_than_s: float | None
    newer_than_s: float | None


class _Wanted(msgspec.Struct, frozen=True):
    """A filter that has been understood."""

    status: FetchStatus | None = None
    host: str | None = None
    tag: str | None = None
    older_than_s: float | None = None
    newer_than_s: float | None = None

    @property
    def by_age_alone(self) -> bool:
        return self.status is None and self.host is None and self.tag is None

    def holds(self, letter: DeadLetter) -> bool:
        return (
            (self.status is None or letter.status is self.status)
            and (self.host is None or letter.host == self.host)
            and (self.tag is None or self.tag in letter.tags)
        )


class _Place(msgspec.Struct, frozen=True):
    """Where a letter stands."""

    id: bytes
    ended_ms: int


class DeadLetters:
    """The dead letters of a producer's queue, as `Producer.dead`.

    async for letter in producer.dead.letters(status="TIMEOUT", newer_than_s=3600):
        print(letter.id, letter.url, letter.error)
    """

    def __init__(self, producer: Producer, redis: Redis) -> None:
        self._producer = producer
        self._redis = redis
        self._keys: Final = producer.keys
        self._runner: Final = ClientRunner(redis)
        self._commands: Final = DeadLetterCommands(self._keys)

    async def count(self) -> int:
        """How many there are, of any age; some that have just passed their time may be among them."""
        with self._producer._guarded():
            return int(await self._redis.zcard(self._keys.dead))

    async def get(self, job_id: str) -> DeadLetter:
        """The letter of a job; raises `DeadLetterNotFound`."""
        [(place, data)] = await self._read_batch(await self._places([job_id]))
        if data is None:
            raise DeadLetterNotFound(job_id)
        return _decoded(place, data)

    async def letters(
        self, *, newest_first: bool = False, **wanted: Unpack[DeadFilter]
    ) -> AsyncGenerator[DeadLetter, None]:
        """The letters that the filter holds for, in the order in which they died. Raises `InvalidRequest`.

        Those that die while they are gone through are left out.
        """
        which = _understood(wanted)
        async for places in self._pages(which, newest_first=newest_first):
            async for letters in self._read_all(places, which):
                for letter in letters:
                    yield letter

    async def retry_many(self, job_ids: Sequence[str]) -> list[RetryOutcome]:
        """Puts jobs back on the queue under their old ids, due now, and says of each what came of it.

        Their tries begin anew, their old results are gone, and a deadline that they had is lifted. Each batch is put
        back as a whole, and so is each of its jobs.
        """
        outcomes: list[RetryOutcome] = []
        for start in range(0, len(_many(job_ids)), BATCH_JOBS):
            left = await self._places(job_ids[start : start + BATCH_JOBS])
            while left:
                read = await self._read_batch(left)
                left = left[len(read) :]
                outcomes += await self._retry_batch([_decoded(place, data) for place, data in read])
        return outcomes

    async def retry_all(self, **wanted: Unpack[DeadFilter]) -> AsyncGenerator[dict[RetryOutcome, int], None]:
        """`retry_many` of all that the filter holds for, oldest first, in batches; gives each batch's count.

        One that dies again meanwhile is left for another call. Raises `InvalidRequest`.
        """
        which = _understood(wanted)
        async for places in self._pages(which):
            async for letters in self._read_all(places, which):
                if letters:
                    yield dict(Counter(await self._retry_batch(letters)))

    async def purge_many(self, job_ids: Sequence[str]) -> list[bool]:
        """Throws letters away, a thousand a round trip, and says of each whether it was there."""
        purged: list[bool] = []
        for start in range(0, len(_many(job_ids)), BATCH_JOBS):
            batch = job_ids[start : start + BATCH_JOBS]
            for job_id in batch:
                check_id(job_id)
            with self._producer._guarded():
                purged += await self._commands.purge(self._runner, ((job_id, None) for job_id in batch))
        return purged

    async def purge_all(self, **wanted: Unpack[DeadFilter]) -> AsyncGenerator[int, None]:
        """`purge_many` of all that the filter holds for, in batches; gives how many went with each.

        Raises `InvalidRequest`.
        """
        which = _understood(wanted)
        async for places in self._pages(which):
            if which.by_age_alone:  # they need not be read
                yield await self._purge_places(places)
                continue
            async for letters in self._read_all(places, which):
                yield await self._purge_places([_place_of(letter) for letter in letters])

    async def _pages(self, wanted: _Wanted, *, newest_first: bool = False) -> AsyncGenerator[list[_Place], None]:
        """The letters of the age that is wanted, a page at a time; the end is set when it begins.

        A page begins at the ms at which the last one ended, and leaves out what was seen of it: letters may go and come
        meanwhile, and none is passed over.
        """
        with self._producer._guarded():
            seconds, micros = await self._redis.time()
        now_ms = seconds * 1000 + micros // 1000
        low: int | str = "-inf" if wanted.newer_than_s is None else now_ms - round(wanted.newer_than_s * 1000)
        high = now_ms - round((wanted.older_than_s or 0) * 1000)
        seen: set[bytes] = set()
        at_ms: int | None = None
        while True:
            limit = BATCH_JOBS + len(seen)
            with self._producer._guarded():
                if newest_first:
                    top = high if at_ms is None else at_ms
                    found = await self._redis.zrevrangebyscore(self._keys.dead, top, low, 0, limit, withscores=True)
                else:
                    bottom = low if at_ms is None else at_ms
                    found = await self._redis.zrangebyscore(self._keys.dead, bottom, high, 0, limit, withscores=True)
            places = [_Place(job_id, round(score)) for job_id, score in found]
            fresh = [place for place in places if place.id not in seen]
            page = fresh[:BATCH_JOBS]
            if page:
                yield page
            if len(places) < limit and len(page) == len(fresh):
                return
            if page[-1].ended_ms != at_ms:
                seen.clear()
                at_ms = page[-1].ended_ms
            seen.update(place.id for place in page if place.ended_ms == at_ms)

    async def _places(self, job_ids: Sequence[str]) -> list[_Place]:
        """Where letters stand; one that is nowhere stands at 0."""
        for job_id in job_ids:
            check_id(job_id)
        with self._producer._guarded():
            scores = await self._redis.zmscore(self._keys.dead, list(job_ids))
        return [
            _Place(job_id.encode(), 0 if score is None else round(score))
            for job_id, score in zip(job_ids, scores, strict=True)
        ]

    async def _read_all(self, places: Sequence[_Place], wanted: _Wanted) -> AsyncGenerator[list[DeadLetter], None]:
        """The letters that stand at `places` and are wanted, as many at a time as one reply holds."""
        while places:
            read = await self._read_batch(places)
            places = places[len(read) :]
            letters = [_decoded(place, data) for place, data in read if data is not None]  # None: it has expired
            yield [letter for letter in letters if wanted.holds(letter)]

    async def _read_batch(self, places: Sequence[_Place]) -> list[tuple[_Place, bytes | None]]:
        """The first letters of `places`, one at least."""
        with self._producer._guarded():
            found = await self._commands.read(self._runner, [place.id for place in places], max_bytes=BATCH_BYTES)
        return [(_Place(place.id, letter.ended_ms), letter.data) for place, letter in zip(places, found, strict=False)]

    async def _retry_batch(self, letters: Sequence[DeadLetter]) -> list[RetryOutcome]:
        jobs = []
        for letter in letters:
            place = _place_of(letter)
            jobs.append(RetryJob(place.id, place.ended_ms, payload_for_retry(letter), *_limits_of(letter)))
        with self._producer._guarded():
            return await self._commands.retry(self._runner, jobs)

    async def _purge_places(self, places: Sequence[_Place]) -> int:
        if not places:
            return 0
        with self._producer._guarded():
            return sum(await self._commands.purge(self._runner, ((place.id, place.ended_ms) for place in places)))


def _understood(wanted: DeadFilter) -> _Wanted:
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
    return _Wanted(**given)


def _host(name: object) -> str:
    """A host as a URL of it has it: in lower case, in ASCII, an address in its one form."""
    host = find_host(f"http://{name}/") if isinstance(name, str) and not set(name) & set("/?#@\\") else None
    if host is None:
        raise InvalidRequest("host", f"{name!r} is not the name of a host")
    return host


def _limits_of(letter: DeadLetter) -> tuple[str, str]:
    """The limit key and the lane of a letter's job, as far as its request tells."""
    request = letter.request
    if request is None:
        return "", ""
    return limit_key_of(request), lane_and_deadline_of(msgspec.structs.replace(request, deadline=None))


def _many(job_ids: Sequence[str]) -> Sequence[str]:
    if isinstance(job_ids, str):
        raise InvalidRequest("job_ids", "takes many; one alone is given as [job_id]")
    return job_ids


def _decoded(place: _Place, data: bytes | None) -> DeadLetter:
    return decode_dead_letter(place.id.decode("utf-8", "surrogateescape"), place.ended_ms, data)


def _place_of(letter: DeadLetter) -> _Place:
    return _Place(letter.id.encode("utf-8", "surrogateescape"), round(letter.died_at.timestamp() * 1000))
