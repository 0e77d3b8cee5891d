"""What Redis holds of the frontier, read whole, and what must be true of it at any time."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any, Self

from fetchq.store.keys import Keys

PARKED = 2**52
DEFAULT_CONCURRENCY = 8
PACE = 1.03
CATCH_UP_MS = 20.0
LOOK_AGAIN_MS = 1000


@dataclass(frozen=True)
class Limits:
    """Of one key, at one time, worked out as `frontier.limits_of` and `pace` in `lua/frontier.lua` are to."""

    concurrency: int = DEFAULT_CONCURRENCY
    interval_ms: float = 0.0
    burst: int = 1
    tolerance_ms: float = 0.0
    paused: bool = False


@dataclass(frozen=True)
class Record:
    running: int = 0
    standing: int = 0
    waiting: int = 0
    tat_us: int = 0
    cools_until_ms: int = 0
    strikes: int = 0
    fails: int = 0
    delay_ms: int = 0
    turn_ms: int = 0

    @classmethod
    def parse(cls, text: str) -> Self:
        return cls(*(int(number) for number in text.split(" ", 9)[:9]))


@dataclass
class FrontierState:
    """All of it, of one queue."""

    records: dict[str, Record] = field(default_factory=dict)
    waiting: dict[str, dict[str, float]] = field(default_factory=dict)
    turns: dict[str, float] = field(default_factory=dict)
    depths: dict[str, float] = field(default_factory=dict)
    cooling: dict[str, float] = field(default_factory=dict)
    running: dict[str, str] = field(default_factory=dict)
    limits: dict[str, str] = field(default_factory=dict)
    pending: dict[str, float] = field(default_factory=dict)
    parts: dict[str, int] = field(default_factory=dict)
    """How many there are of each key's queue, where there are several."""
    misses_jobs: bool = False
    """A queue of waiting jobs was found lost, and all that is parked is to be brought back."""

    @classmethod
    async def read(cls, redis: Any, keys: Keys) -> Self:
        queues = [key.decode() for key in await redis.keys(keys.waiting + "*")]
        async with redis.pipeline(transaction=True) as pipe:
            for name in (keys.hosts, keys.running, keys.limits):
                pipe.hgetall(name)
            for name in (keys.due_hosts, keys.backlog, keys.cooldowns, keys.pending, *queues):
                pipe.zrange(name, 0, -1, withscores=True)
            hosts, running, limits, *sets = await pipe.execute()
        turns, depths, cooling, pending, *found = ({name.decode(): score for name, score in one} for one in sets)
        waiting, parts = _joined(
            {name.removeprefix(keys.waiting): one for name, one in zip(queues, found, strict=True)}
        )
        return cls(
            {key.decode(): Record.parse(text.decode()) for key, text in hosts.items() if key},
            waiting,
            turns,
            depths,
            cooling,
            {job_id.decode(): key.decode() for job_id, key in running.items()},
            {key.decode(): text.decode() for key, text in limits.items()},
            pending,
            parts,
            b"" in hosts,
        )

    def record(self, key: str) -> Record:
        return self.records.get(key, Record())

    def limits_of(self, key: str) -> Limits:
        parts = key.split(".")
        names = [key, *("*." + ".".join(parts[place:]) for place in range(1, len(parts))), "*"]
        found: dict[str, int] = {}
        for name in names:
            for letter, number in re.findall(r"(\w)=(\d+)", self.limits.get(name, "")):
                found.setdefault(letter, int(number))
        rate_ms, delay_ms = found.get("r", 0) / 1000, max(found.get("d", 0), self.record(key).delay_ms)
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
        """Fails unless the records say how many run and wait, and every index agrees with them."""
        assert not self.misses_jobs, "a queue was taken for lost"
        counted = Counter(key for key in self.running.values() if not key.startswith("#"))
        for key in self.records.keys() | self.waiting.keys() | counted.keys() | self.depths.keys():
            record = self.record(key)
            assert record.running == counted[key], f"{key}: {record} but {counted[key]} run"
            depth = len(self.waiting.get(key, ()))
            assert record.waiting == depth, f"{key}: {record} but {depth} wait"
            assert self.depths.get(key, 0) == depth, f"{key}: depths says {self.depths.get(key)}, and {depth} wait"
            assert self.cooling.get(key, 0) == record.cools_until_ms, f"{key}: {record} in cooling by {self.cooling}"
        for key in self.turns.keys() - self.records.keys():  # who changes limits asks for a look, needed or not
            is_asked_for = self.turns[key] <= now_ms
            assert is_asked_for or key.startswith("#"), f"a turn of {key}, of which there is no record"

    def check_that_whoever_waits_is_looked_at(self) -> None:
        """Fails where jobs wait for a key that has neither a turn nor a run whose end would give them one."""
        for key, ids in self.waiting.items():
            record, limits = self.record(key), self.limits_of(key)
            if limits.paused or not any(self.pending.get(job_id, 0) >= PARKED for job_id in ids):
                continue
            has_turn = key in self.turns
            assert has_turn or record.running > 0, f"{key}: {record}: who is to look at {sorted(ids)}?"
        for job_id, score in self.pending.items():
            is_parked = score >= PARKED
            is_found = any(job_id in ids for ids in self.waiting.values()) or f"#{job_id}" in self.turns
            assert not is_parked or is_found, f"{job_id} is parked, and in no queue"

    def check_that_nobody_waits_in_vain(self, now_ms: int, reserved: Collection[str] = ()) -> None:
        """After all that may be claimed has been: fails where a slot is free, and yet a job waits.

        `reserved`: keys of which a job is claimed and not admitted yet. Its slot is kept for it, but not for long.
        """
        for key, ids in self.waiting.items():
            record, limits = self.record(key), self.limits_of(key)
            has_slot = record.running < (1 if record.strikes else limits.concurrency)
            starts_at_ms = (record.tat_us / 1000) - (limits.burst - 1) * limits.interval_ms
            has_turn = not limits.interval_ms or starts_at_ms <= now_ms
            if limits.paused or record.cools_until_ms > now_ms or not has_slot or not has_turn:
                continue
            if key in reserved and now_ms < record.turn_ms <= now_ms + LOOK_AGAIN_MS:
                continue
            left = sorted(job_id for job_id in ids if self.pending.get(job_id, 0) >= PARKED)
            assert not left, f"{key} has room for {left}: {record} {limits}"


def _joined(sets: dict[str, dict[str, float]]) -> tuple[dict[str, dict[str, float]], dict[str, int]]:
    """The queue of each key out of its parts, and how many there are. Fails where these are not as they must be."""
    queues = {name: dict(one) for name, one in sets.items() if not name.startswith("#")}
    indexes = {name[1:]: sorted(one.values()) for name, one in sets.items() if name[0] == "#" and " " not in name}
    parts = {key: [queues[key], *(sets[f"#{begin:.0f} {key}"] for begin in begins)] for key, begins in indexes.items()}
    assert len(sets) == len(queues) + sum(map(len, parts.values())), f"a part that no index knows: {sets.keys()}"
    for key, ordered in parts.items():
        for part, begin in zip(ordered[1:], indexes[key], strict=True):
            assert min(part.values()) >= begin, f"{key}: {part} begins at {begin}"
        for part, begin in zip(ordered, indexes[key], strict=False):
            assert max(part.values()) < begin, f"{key}: {part} reaches into {begin}"
        assert sum(map(len, ordered)) == len(set().union(*ordered)), f"{key}: a job is in two parts of its queue"
        for part in ordered[1:]:
            queues[key] |= part
    return queues, {key: len(ordered) for key, ordered in parts.items()}
