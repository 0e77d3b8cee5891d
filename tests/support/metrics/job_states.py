"""In which state each job of a queue is: one by one, from all of its keys. What `lua/queue/state.lua` computes without
looking at the jobs must agree."""

from __future__ import annotations

from typing import Any, NamedTuple

from fetchq.store.keys import Keys
from fetchq.store.records import LeaseRecord
from fetchq.store.scores import PARKED, read_score

ABORTED = 1
"""The score that a stock client's abort gives to a job that is not due."""


class JobStates(NamedTuple):
    """How many jobs are in each state, and the oldest due time of those that a worker could claim as they are."""

    due: int
    waiting: int
    deferred: int
    running: int
    oldest_ready_ms: int | None

    @classmethod
    async def read(cls, redis: Any, keys: Keys, now_ms: int) -> JobStates:
        leases = {job_id: LeaseRecord.parse(text) for job_id, text in (await redis.hgetall(keys.leases)).items()}
        due_singles = {
            member[1:]
            for member, at_ms in await redis.zrange(keys.due_hosts, 0, -1, withscores=True)
            if member.startswith(b"#") and at_ms <= now_ms
        }
        counts = {"due": 0, "waiting": 0, "deferred": 0, "running": 0}
        ready_since: list[int] = []
        for job_id, raw_score in await redis.zrange(keys.pending, 0, -1, withscores=True):
            lease, score = leases.get(job_id), read_score(raw_score)
            is_parked = raw_score >= PARKED
            if lease is not None and lease.end_ms > now_ms:
                counts["running"] += 1
            elif (is_parked and job_id in due_singles) or (not is_parked and score.due_ms <= now_ms):
                counts["due"] += 1
                if not is_parked and raw_score != ABORTED:
                    ready_since.append(score.due_ms)
            elif score.due_ms > now_ms:
                counts["deferred"] += 1
            else:
                counts["waiting"] += 1
        return cls(**counts, oldest_ready_ms=min(ready_since, default=None))
