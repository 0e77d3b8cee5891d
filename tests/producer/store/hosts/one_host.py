"""Short calls for tests of a single limit key."""

from __future__ import annotations

from tests.support.scripted_queue import Queue

KEY = "example.org"


async def enqueue(queue: Queue, *job_ids: str, key: str = KEY, due: str = "", note: str = "") -> None:
    assert await queue.enqueue(*[(job_id, due, key, note) for job_id in job_ids]) == []


async def claim_and_admit(queue: Queue, count: int = 10, *, key: str = KEY, token: str = "w.1") -> list[str]:
    """Returns the ids of the jobs that start."""
    claim = await queue.claim(count, token=token)
    refused = await queue.admit(*[(job_id, token, key) for job_id in claim.ids]) if claim.ids else []
    return [job_id for job_id in claim.ids if job_id not in refused]


async def set_limit(queue: Queue, limits: str, key: str = KEY) -> None:
    await queue.redis.hset(queue.keys.limits, key, limits)


def ids_of(count: int) -> list[str]:
    return [f"job{number:05}" for number in range(count)]
