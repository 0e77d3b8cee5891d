"""The whole state of limit keys in Redis, and its invariants."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any, Self

from fetchq.store.keys import Keys
from fetchq.store.records import HostRecord
from fetchq.store.scores import PARKED

DEFAULT_CONCURRENCY = 8
PACE = 1.03
CATCH_UP_MS = 20.0
LOOK_AGAIN_MS = 60_000
"""The most for which the check of a key comes later while older jobs wait for a worker (`due_hosts.lua`)."""


@dataclass(frozen=True)
class Limits:
    """The effective limits of one key: a model of what `limits.of` and `rate` in `lua/include` compute."""

    concurrency: int = DEFAULT_CONCURRENCY
    interval_ms: float = 0.0
    burst: int = 1
    tolerance_ms: float = 0.0
    paused: bool = False


@dataclass
class FrontierState:
    """The state of one queue."""

    records: dict[str, HostRecord] = field(default_factory=dict)
    waiting: dict[str, dict[str, float]] = field(default_factory=dict)
    due_hosts: dict[str, float] = field(default_factory=dict)
    backlog: dict[str, float] = field(default_factory=dict)
    cooldowns: dict[str, float] = field(default_factory=dict)
    running: dict[str, str] = field(default_factory=dict)
    limits: dict[str, str] = field(default_factory=dict)
    pending: dict[str, float] = field(default_factory=dict)
    chunks: dict[str, int] = field(default_factory=dict)
    """The number of chunks of each queue that has several."""
    jobs_were_lost: bool = False
    """A host queue was deleted, and all parked jobs must be requeued."""

    @classmethod
    async def read(cls, redis: Any, keys: Keys) -> Self:
        queues = [key.decode() for key in await redis.keys(keys.waiting + "*")]
        async with redis.pipeline(transaction=True) as pipe:
            for name in (keys.hosts, keys.running, keys.limits):
                pipe.hgetall(name)
            for name in (keys.due_hosts, keys.backlog, keys.cooldowns, keys.pending, *queues):
                pipe.zrange(name, 0, -1, withscores=True)
            hosts, running, limits, *sets = await pipe.execute()
        due_hosts, backlog, cooldowns, pending, *found = ({name.decode(): score for name, score in one} for one in sets)
        waiting, chunks = _joined(
            {name.removeprefix(keys.waiting): one for name, one in zip(queues, found, strict=True)}
        )
        return cls(
            {key.decode(): _parsed(text) for key, text in hosts.items() if key},
            waiting,
            due_hosts,
            backlog,
            cooldowns,
            {job_id.decode(): key.decode() for job_id, key in running.items()},
            {key.decode(): text.decode() for key, text in limits.items()},
            pending,
            chunks,
            b"" in hosts,
        )

    def record(self, key: str) -> HostRecord:
        return self.records.get(key, HostRecord())

    def limits_of(self, key: str) -> Limits:
        labels = key.split(".")
        names = [key, *("*." + ".".join(labels[place:]) for place in range(1, len(labels))), "*"]
        found: dict[str, int] = {}
        for name in names:
            for code, number in re.findall(r"(\w)=(\d+)", self.limits.get(name, "")):
                found.setdefault(code, int(number))
        rate_ms, delay_ms = found.get("r", 0) / 1000, max(found.get("d", 0), self.record(key).crawl_delay_ms)
        burst = max(1, found.get("b", 1))
        if delay_ms >= rate_ms:
            interval_ms, burst, tolerance_ms = float(delay_ms), 1, 0.0
        elif burst > 1:
            interval_ms, tolerance_ms = rate_ms, 0.0
        else:
            interval_ms = rate_ms * PACE
            tolerance_ms = min(interval_ms / 2, CATCH_UP_MS)
        concurrency = found.get("c", DEFAULT_CONCURRENCY)
        return Limits(concurrency, interval_ms, burst, tolerance_ms + 1, found.get("p") == 1)

    def check_counters(self, now_ms: int) -> None:
        """Fails unless the records count running and waiting jobs correctly, and every index agrees with them."""
        assert not self.jobs_were_lost, "a host queue was taken for deleted"
        counted = Counter(key for key in self.running.values() if not key.startswith("#"))
        for key in self.records.keys() | self.waiting.keys() | counted.keys() | self.backlog.keys():
            record = self.record(key)
            assert record.running == counted[key], f"{key}: {record} but {counted[key]} run"
            waiting = len(self.waiting.get(key, ()))
            assert record.waiting == waiting, f"{key}: {record} but {waiting} wait"
            assert self.backlog.get(key, 0) == waiting, (
                f"{key}: the backlog says {self.backlog.get(key)}, and {waiting} wait"
            )
            assert self.cooldowns.get(key, 0) == record.cooldown_until_ms, (
                f"{key}: {record}, cooldowns {self.cooldowns}"
            )
        for key in self.due_hosts.keys() - self.records.keys():  # a change of limits makes a key due, needed or not
            is_due = self.due_hosts[key] <= now_ms
            assert is_due or key.startswith("#"), f"{key} is in due_hosts and has no record"

    def check_waiting_keys_become_due(self) -> None:
        """Fails if jobs wait for a key that is not in `due_hosts` and has no run whose end would release them."""
        for key, ids in self.waiting.items():
            record, limits = self.record(key), self.limits_of(key)
            if limits.paused or not any(self.pending.get(job_id, 0) >= PARKED for job_id in ids):
                continue
            is_due = key in self.due_hosts
            assert is_due or record.running > 0, f"{key}: {record}: nothing will release {sorted(ids)}"
        for job_id, score in self.pending.items():
            is_parked = score >= PARKED
            is_found = any(job_id in ids for ids in self.waiting.values()) or f"#{job_id}" in self.due_hosts
            assert not is_parked or is_found, f"{job_id} is parked, and in no queue"

    def check_free_slots_are_used(self, now_ms: int, reserved: Collection[str] = ()) -> None:
        """Fails if a job waits although its key has a free slot, after all claimable jobs were claimed.

        `reserved`: keys with a job that is claimed and not admitted yet. A slot is reserved for it until the key is
        checked: later than after a second if there were older jobs at the last check, as if all workers were busy.
        """
        for key, ids in self.waiting.items():
            record, limits = self.record(key), self.limits_of(key)
            has_slot = record.running < (1 if record.consecutive_throttles else limits.concurrency)
            starts_at_ms = (record.tat_us / 1000) - (limits.burst - 1) * limits.interval_ms
            may_start = not limits.interval_ms or starts_at_ms <= now_ms
            if limits.paused or record.cooldown_until_ms > now_ms or not has_slot or not may_start:
                continue
            if key in reserved and now_ms < record.due_at_ms <= now_ms + LOOK_AGAIN_MS:
                continue
            left = sorted(job_id for job_id in ids if self.pending.get(job_id, 0) >= PARKED)
            assert not left, f"{key} has free slots for {left}: {record} {limits}"


def _parsed(text: bytes) -> HostRecord:
    record = HostRecord.parse(text)
    assert record is not None, text
    return record


def _joined(sets: dict[str, dict[str, float]]) -> tuple[dict[str, dict[str, float]], dict[str, int]]:
    """Joins the chunks of each queue and counts them. Fails for a chunk with wrong content."""
    queues = {name: dict(one) for name, one in sets.items() if not name.startswith("#")}
    indexes = {name[1:]: sorted(one.values()) for name, one in sets.items() if name[0] == "#" and " " not in name}
    chunks = {key: [queues[key], *(sets[f"#{start:.0f} {key}"] for start in starts)] for key, starts in indexes.items()}
    assert len(sets) == len(queues) + sum(map(len, chunks.values())), f"a chunk that is in no index: {sets.keys()}"
    for key, ordered in chunks.items():
        for chunk, start in zip(ordered[1:], indexes[key], strict=True):
            assert min(chunk.values()) >= start, f"{key}: {chunk} starts at {start}"
        for chunk, start in zip(ordered, indexes[key], strict=False):
            assert max(chunk.values()) < start, f"{key}: {chunk} reaches into {start}"
        assert sum(map(len, ordered)) == len(set().union(*ordered)), f"{key}: a job is in two chunks"
        for chunk in ordered[1:]:
            queues[key] |= chunk
    return queues, {key: len(ordered) for key, ordered in chunks.items()}
