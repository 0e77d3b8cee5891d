"""A queue as the engine's scripts see it, with the clock in the test's hand."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from typing import Any, NamedTuple, Self

from arq.connections import ArqRedis

from fetchq.contract import wire
from fetchq.contract.job_ids import PUSH_PREFIX_LEN
from fetchq.store.engine_scripts import Script, Scripts
from fetchq.store.keys import Keys
from fetchq.store.scripts import load_script

T0 = 1_800_000_000_000
"""The first moment of every test, in ms since the epoch."""

LEASE_MS = 15_000
DAY_MS = 86_400_000


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
    passed: int
    jobs: list[Claimed]

    @property
    def ids(self) -> list[str]:
        return [job.id for job in self.jobs]


class Queue:
    """Calls the scripts as the engine does, at `now_ms`."""

    def __init__(self, redis: ArqRedis, scripts: Scripts) -> None:
        self.redis: Any = redis  # redis-py 5 types each reply as `Awaitable | value`
        self.scripts = scripts
        self.keys = Keys()
        self._enqueue = load_script(redis, "jobs/enqueue")
        self._cancel = load_script(redis, "jobs/cancel")
        self._set_limits = load_script(redis, "hosts/set_limits")
        self.now_ms = T0
        self.letter_ttl_ms = DAY_MS
        self.letter_max = 1000
        self._traced: dict[tuple[str, str], bool] = {}
        self.turn_ms = -1
        """What the last admission said of the next turn."""
        self.deadline_passed: list[str] = []
        """Which jobs the last admission let pass since their deadline is over."""

    @classmethod
    async def open(cls, redis: ArqRedis) -> Self:
        return cls(redis, await Scripts.open(redis, timeout_s=60))

    async def add(self, *job_ids: str, due_ms: int | None = None, ttl_ms: int | None = None) -> None:
        """Puts jobs on the queue; without `due_ms` each a millisecond after the one before, all of them due."""
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
        passed: int = 0,
        max_bytes: int = 1 << 20,
        aborts: bool = True,
        lanes: str = "hdl",
    ) -> Claim:
        keys = self.keys
        queued, more, wait_ms, passed, _, ids, payloads, scores, unlike_most = await self.scripts.claim(
            (keys.pending, keys.leases, keys.lease_ends, keys.abort, keys.wake, keys.paused, *keys.frontier),
            (
                self.now_ms, token, LEASE_MS, count, max_bytes, passed, DAY_MS, "1" if aborts else "",
                keys.job, keys.retry, keys.in_progress, keys.waiting, lanes, *only,
            ),
        )  # fmt: skip
        scores = scores * len(ids) if len(scores) == 1 else scores
        jobs = [
            Claimed(job_id.decode(), payload, int(float(score)), 1, False)
            for job_id, payload, score in zip(ids, payloads, scores, strict=True)
        ]
        for job in jobs:
            self._traced[job.id, token] = False
        for i in range(0, len(unlike_most), 3):
            place, tries, aborted = unlike_most[i : i + 3]
            jobs[place] = jobs[place]._replace(tries=tries, aborted=aborted == 1)
            self._traced[jobs[place].id, token] = True
        return Claim(queued, more == 1, wait_ms, passed, jobs)

    def traced(self, job_id: str, token: str) -> bool:
        """Whether that claim said that there is more of the job than payload and lease."""
        return self._traced[job_id, token]

    async def commit(self, *outcomes: Sequence[Any]) -> tuple[list[bytes], list[bytes], bytes]:
        """Each outcome: id, token, verb, time, marker, result, note, letter; the last ones may be left away."""
        lost, refused, refusal, _ = await self.commit_whole(*outcomes)
        return lost, refused, refusal

    async def commit_whole(self, *outcomes: Sequence[Any]) -> tuple[list[bytes], list[bytes], bytes, int]:
        """The same, with the ms until a job that waited may be claimed."""
        keys = self.keys
        args: list[Any] = [
            self.now_ms, keys.job, keys.retry, keys.in_progress, keys.result, keys.attempts, keys.done, PUSH_PREFIX_LEN,
            keys.waiting, keys.dead_letter, self.letter_ttl_ms, self.letter_max,
        ]  # fmt: skip
        for outcome in outcomes:
            job_id, token, verb, time, marker, result, note, letter = [*outcome, *("", "", "", "", "")][:8]
            args += (1, token, verb, time, marker, note, letter, job_id, result)
        lost, refused, refusal, turn_ms = await self.scripts.commit(
            (keys.pending, keys.leases, keys.lease_ends, keys.abort, keys.wake, *keys.frontier, keys.dead), args
        )
        return lost, refused, refusal, turn_ms

    async def enqueue(self, *jobs: tuple[str, str, str, str]) -> list[Any]:
        """Each job: id, due as the script takes it, limit key, lane and deadline."""
        keys = self.keys
        args: list[Any] = [keys.job, keys.result, self.now_ms, keys.waiting, "", ""]
        for job_id, due, limit_key, note in jobs:
            args += (job_id, b"payload", due, limit_key, note)
        taken, *_ = await self._enqueue(keys=[keys.pending, keys.wake, *keys.frontier], args=args)
        return list(taken)

    async def set_limits(self, name: str, verb: str, words: str = "", *looked_at: str) -> list[Any]:
        """Changes the limits of `name`, and looks again at the keys `looked_at`."""
        keys = self.keys
        reply: list[Any] = await self._set_limits(
            keys=[keys.pending, keys.wake, *keys.frontier],
            args=[self.now_ms, keys.waiting, name, verb, words, *looked_at],
        )
        return reply

    async def tokens(self) -> int:
        """How many idle workers are being woken."""
        count: int = await self.redis.llen(self.keys.wake)
        return count

    async def cancel(self, job_id: str, limit_key: str = "") -> int:
        keys = self.keys
        args: list[Any] = [keys.job, keys.result, keys.in_progress, keys.retry, keys.attempts, keys.done]
        args += [PUSH_PREFIX_LEN, self.now_ms, keys.waiting, job_id, b"cancelled", 3_600_000, limit_key]
        [answer] = await self._cancel(
            keys=[keys.pending, keys.abort, keys.leases, *keys.frontier, keys.wake], args=args
        )
        return int(answer)

    async def admit(self, *jobs: Sequence[Any]) -> list[str]:
        """Each job: id, token, limit key; and, if it has them, its deadline in ms and another key that it heeds.

        Gives those that may not start.
        """
        keys = self.keys
        args: list[Any] = [self.now_ms, keys.job, keys.retry, keys.in_progress, keys.waiting]
        for job in jobs:
            args += [*job, "", ""][:5]
        refused, self.turn_ms, deadline_passed = await self.scripts.admit(
            (keys.pending, keys.leases, keys.lease_ends, keys.wake, *keys.frontier), args
        )
        self.deadline_passed = [job_id.decode() for job_id in deadline_passed]
        return [job_id.decode() for job_id in refused]

    async def finish(self, job_id: str, token: str = "w.1", result: str = "done") -> tuple[Any, ...]:
        """As a worker does whose run left nothing behind."""
        verb = "finish" if self._traced.get((job_id, token), True) else "clean"
        return await self.commit((job_id, token, verb, 3_600_000, "", result))

    async def cool(self, key: str, for_ms: int | str = "", *, first_ms: int = 60_000, most_ms: int = DAY_MS) -> int:
        """In how many ms the cooling-off ends that begins now."""
        script = Script(self.redis, "hosts/cooldown", flags=False, timeout_s=60)
        keys = (self.keys.pending, self.keys.wake, *self.keys.frontier)
        left_ms: int = await script(keys, (self.now_ms, self.keys.waiting, key, for_ms, first_ms, most_ms))
        return left_ms

    async def bury(self, job_id: str, token: str = "w.1", said: dict[str, Any] | None = None) -> tuple[Any, ...]:
        """Finishes a job that is claimed, with a dead letter that says `said`."""
        failed = {"f": "work", "t": 1, "s": False, "r": {"type": "ValueError", "message": "no"}}
        letter = wire.serialize(failed if said is None else said)
        return await self.commit((job_id, token, "finish", 3_600_000, "", "failed", "", letter))

    async def trim_dead(self, *, most_a_call: int = 100) -> int:
        args = (self.now_ms, self.keys.dead_letter, self.letter_ttl_ms, self.letter_max, most_a_call)
        trimmed: int = await self.scripts.trim_dead((self.keys.dead,), args)
        return trimmed

    async def renew(self, *held: tuple[str, str]) -> list[bytes]:
        keys = self.keys
        args: list[Any] = [self.now_ms, LEASE_MS, keys.in_progress, keys.waiting, keys.retry]
        for job_id, token in held:
            args += (job_id, token)
        lost: list[bytes] = await self.scripts.renew((keys.pending, keys.leases, keys.lease_ends, *keys.frontier), args)
        return lost

    async def give_back(self, *tokens: str) -> int:
        keys = self.keys
        given: int = await self.scripts.give_back(
            (keys.pending, keys.leases, keys.lease_ends, keys.wake, *keys.frontier),
            (self.now_ms, keys.job, keys.retry, keys.in_progress, keys.waiting, *tokens),
        )
        return given

    async def keep(self, *, page: int = 100, gap_ms: int = 0) -> int:
        keys = self.keys
        kept: int = await self.scripts.keep(
            (keys.pending, keys.leases, keys.lease_ends, keys.maintenance_cursor, *keys.frontier),
            (self.now_ms, gap_ms, page, keys.job, DAY_MS, keys.waiting),
        )
        return kept

    async def look_at_aborts(self, *, mine: str = "w.", passed: int = 0, count: int = 100) -> list[Any]:
        keys = self.keys
        reply: list[Any] = await self.scripts.aborts(
            (keys.abort, keys.pending, keys.leases),
            (self.now_ms, mine, keys.job, keys.in_progress, 60_000, passed, count),
        )
        return reply

    async def lease_ends(self) -> dict[str, int]:
        """How many leases have records that begin so, token and end; each entry stands at its end."""
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

    async def take_over(self, job_id: str, *, token: str = "heir.1") -> None:
        """Claims a running job as another worker does after its lease has ended, whatever the clock says."""
        seconds, _ = await self.redis.time()
        self.now_ms = (seconds + 1_000_000) * 1000
        await self.forget_in_progress(job_id)
        claim = await self.claim(only=[], token=token)
        assert job_id in claim.ids

    async def forget_in_progress(self, *job_ids: str) -> None:
        """As the TTL of the in-progress keys does, which the test's clock does not move."""
        await self.redis.delete(*(self.keys.in_progress + job_id for job_id in job_ids))
