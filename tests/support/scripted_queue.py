"""A queue driven by the typed commands alone, with a clock that the test sets."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from typing import Any, NamedTuple

from arq.connections import ArqRedis

from fetchq.contract import wire
from fetchq.store.commands import (
    AbortsReply,
    AdmitJob,
    CancelJob,
    CommitGroup,
    CommitReply,
    DeadLetterCommands,
    HostCommands,
    JobCommands,
    LimitsReply,
    NewJob,
)
from fetchq.store.keys import Keys
from fetchq.store.runner import PackedRunner

T0 = 1_800_000_000_000
"""The first moment of every test, in ms since the epoch."""

LEASE_MS = 15_000
DAY_MS = 86_400_000

_FIGURES = (b"fetchq:metrics:", b"fetchq:minute:")


async def job_keys(redis: Any) -> list[bytes]:
    """All keys, sorted, but those of a queue's figures, which stay."""
    return sorted(key for key in await redis.keys("*") if not key.startswith(_FIGURES))


class Claimed(NamedTuple):
    id: str
    payload: bytes | None
    score: int
    tries: int
    aborted: bool


class Claim(NamedTuple):
    queued: int
    more: bool
    wait_ms: int
    offset: int
    jobs: list[Claimed]

    @property
    def ids(self) -> list[str]:
        return [job.id for job in self.jobs]


class Queue:
    """Calls the scripts as the engine does, at `now_ms`."""

    def __init__(self, redis: ArqRedis) -> None:
        self.redis: Any = redis  # redis-py 5 types each reply as `Awaitable | value`
        self.runner = PackedRunner(redis, timeout_s=60)
        self.keys = Keys()
        self._jobs = JobCommands(self.keys)
        self._dead_letters = DeadLetterCommands(self.keys)
        self._hosts = HostCommands(self.keys)
        self.now_ms = T0
        self.dead_letter_ttl_ms = DAY_MS
        self.max_dead_letters = 1000
        self._extra_keys: dict[tuple[str, str], bool] = {}
        self.next_due_ms = -1
        """`next_due_ms` of the last admission."""
        self.deadline_passed: list[str] = []
        """The jobs that the last admission admitted although their deadline has passed."""

    async def add(self, *job_ids: str, due_ms: int | None = None, ttl_ms: int | None = None) -> None:
        """Enqueues jobs as a stock client does; without `due_ms` all are due, one each millisecond."""
        payload = pickle.dumps({"t": None, "f": "work", "a": (), "k": {}, "et": T0})
        for start in range(0, len(job_ids), 5000):
            batch = job_ids[start : start + 5000]
            async with self.redis.pipeline(transaction=False) as pipe:
                for job_id in batch:
                    pipe.set(self.keys.job + job_id, payload, px=ttl_ms)
                first = self.now_ms - len(job_ids) + start
                scores = {job_id: first + place if due_ms is None else due_ms for place, job_id in enumerate(batch)}
                pipe.zadd(self.keys.pending, scores)
                await pipe.execute()

    async def claim(
        self,
        count: int = 10,
        *,
        token: str = "w.1",
        only: Sequence[str] = (),
        offset: int = 0,
        max_bytes: int = 1 << 20,
        aborts: bool = True,
        lanes: str = "hdl",
    ) -> Claim:
        reply = await self._jobs.claim(
            self.runner,
            token=token,
            lease_ms=LEASE_MS,
            count=count,
            max_bytes=max_bytes,
            default_payload_ttl_ms=DAY_MS,
            check_aborts=aborts,
            offset=offset,
            lanes=lanes,
            only=only,
            now_ms=self.now_ms,
        )
        scores = reply.scores * len(reply.ids) if len(reply.scores) == 1 else reply.scores
        jobs = [
            Claimed(job_id.decode(), payload, int(float(score)), 1, False)
            for job_id, payload, score in zip(reply.ids, reply.payloads, scores, strict=True)
        ]
        for job in jobs:
            self._extra_keys[job.id, token] = False
        for place, tries, aborted in reply.reported:
            jobs[place] = jobs[place]._replace(tries=tries, aborted=aborted)
            self._extra_keys[jobs[place].id, token] = True
        return Claim(reply.queued, reply.more, -1 if reply.wait_ms is None else reply.wait_ms, reply.offset, jobs)

    def has_extra_keys(self, job_id: str, token: str) -> bool:
        """Whether that claim reported that Redis may hold more keys of the job than payload and lease."""
        return self._extra_keys[job_id, token]

    async def commit(self, *outcomes: Sequence[Any]) -> tuple[list[bytes], list[bytes], bytes]:
        """Each outcome: id, token, action, time, marker, result, host outcome, dead letter, figure.

        The last ones may be omitted.
        """
        lost, refused, refusal, *_ = await self.commit_whole(*outcomes)
        return lost, refused, refusal

    async def commit_whole(self, *outcomes: Sequence[Any]) -> CommitReply:
        """The same, with the ms until a parked job may be claimed, and the circuits that were opened."""
        groups = []
        for outcome in outcomes:
            whole = [*outcome, *("", "", "", "", b"", "fetch:OK")[len(outcome) - 3 :]]
            job_id, token, action, time, marker, result, note, dead_letter, figure = whole
            time_ms, marker_ms = None if time == "" else time, None if marker == "" else marker
            groups.append(CommitGroup(token, action, time_ms, marker_ms, note, dead_letter, figure, (job_id, result)))
        return await self._jobs.commit(
            self.runner,
            groups,
            dead_letter_ttl_ms=self.dead_letter_ttl_ms,
            max_dead_letters=self.max_dead_letters,
            now_ms=self.now_ms,
        )

    async def enqueue(self, *jobs: tuple[str, str, str, str]) -> Sequence[tuple[int, bytes]]:
        """Each job: id, due as the script takes it, limit key, lane and deadline. Returns those that existed."""
        new = [NewJob(job_id, b"payload", *rest) for job_id, *rest in jobs]
        return (await self._jobs.enqueue(self.runner, new, now_ms=self.now_ms)).existing

    async def set_limits(self, name: str, action: Any, limits: str = "", *recheck: str) -> LimitsReply:
        """Changes the limits of `name`, and applies them to the limit keys `recheck`."""
        return await self._hosts.set_limits(self.runner, name, action, limits, recheck=recheck, now_ms=self.now_ms)

    async def tokens(self) -> int:
        """The number of wake tokens."""
        count: int = await self.redis.llen(self.keys.wake)
        return count

    async def cancel(self, job_id: str, limit_key: str = "") -> int:
        job = CancelJob(job_id, b"cancelled", 3_600_000, limit_key, "fetch:CANCELLED")
        [code] = await self._jobs.cancel(self.runner, [job], now_ms=self.now_ms)
        return code

    async def admit(self, *jobs: Sequence[Any]) -> list[str]:
        """Each job: id, token, limit key, and optionally its deadline in ms and another key that it respects.

        Returns those that may not start.
        """
        new = [AdmitJob(*[*job, "", ""][:5]) for job in jobs]
        reply = await self._jobs.admit(self.runner, new, now_ms=self.now_ms)
        self.next_due_ms = reply.next_due_ms
        self.deadline_passed = [job_id.decode() for job_id in reply.deadline_passed]
        return [job_id.decode() for job_id in reply.refused]

    async def finish(self, job_id: str, token: str = "w.1", result: str = "done") -> tuple[Any, ...]:
        """Commits as a worker does whose run left no extra keys."""
        action = "finish" if self._extra_keys.get((job_id, token), True) else "clean"
        return await self.commit((job_id, token, action, 3_600_000, "", result))

    async def start_cooldown(
        self, key: str, for_ms: int | None = None, *, first_ms: int = 60_000, most_ms: int = DAY_MS
    ) -> int:
        """Returns in how many ms the cooldown ends."""
        reply = await self._hosts.cooldown(
            self.runner, key, asked_ms=for_ms, first_ms=first_ms, max_ms=most_ms, now_ms=self.now_ms
        )
        return reply.remaining_ms

    async def finish_with_dead_letter(
        self, job_id: str, token: str = "w.1", fields: dict[str, Any] | None = None
    ) -> tuple[Any, ...]:
        """Finishes a claimed job, with a dead letter of these fields."""
        failed = {"f": "work", "t": 1, "s": False, "r": {"type": "ValueError", "message": "no"}}
        dead_letter = wire.serialize(failed if fields is None else fields)
        return await self.commit((job_id, token, "finish", 3_600_000, "", "failed", "", dead_letter))

    async def trim_dead_letters(self, *, count: int = 100) -> int:
        return await self._dead_letters.trim(
            self.runner,
            ttl_ms=self.dead_letter_ttl_ms,
            max_count=self.max_dead_letters,
            count=count,
            now_ms=self.now_ms,
        )

    async def renew(self, *held: tuple[str, str]) -> list[bytes]:
        return await self._jobs.renew(self.runner, held, lease_ms=LEASE_MS, now_ms=self.now_ms)

    async def return_claims(self, *tokens: str) -> int:
        return await self._jobs.return_claims(self.runner, tokens, now_ms=self.now_ms)

    async def maintain(self, *, page: int = 100, gap_ms: int = 0) -> int:
        return await self._jobs.maintain(
            self.runner, gap_ms=gap_ms, page=page, default_payload_ttl_ms=DAY_MS, now_ms=self.now_ms
        )

    async def find_aborts(self, *, mine: str = "w.", offset: int = 0, count: int = 100) -> AbortsReply:
        return await self._jobs.find_aborts(
            self.runner, token_prefix=mine, max_age_ms=60_000, offset=offset, count=count, now_ms=self.now_ms
        )

    async def lease_ends(self) -> dict[str, int]:
        """The number of leases by the head of their records (token and end). Checks each entry's score."""
        ends: dict[str, int] = {}
        for head, score in await self.redis.zrange(self.keys.lease_ends, 0, -1, withscores=True):
            end_ms, share = divmod(score, 1)
            assert head.decode().split("|")[1:] == [f"{end_ms:.0f}", ""]
            ends[head.decode()] = int(share * 1024)
        return ends

    async def score(self, job_id: str) -> float | None:
        score: float | None = await self.redis.zscore(self.keys.pending, job_id)
        return score

    async def tries(self, job_id: str) -> int:
        return int(await self.redis.get(self.keys.retry + job_id) or 0)

    async def take_over(self, job_id: str, *, token: str = "other.1") -> None:
        """Claims a running job as another worker does after its lease has ended: the clock is set far ahead."""
        seconds, _ = await self.redis.time()
        self.now_ms = (seconds + 1_000_000) * 1000
        await self.expire_in_progress(job_id)
        claim = await self.claim(only=[], token=token)
        assert job_id in claim.ids

    async def expire_in_progress(self, *job_ids: str) -> None:
        """Does what the TTL of these keys would do: the clock of the test does not move it."""
        await self.redis.delete(*(self.keys.in_progress + job_id for job_id in job_ids))
