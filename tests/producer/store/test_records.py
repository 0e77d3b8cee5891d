"""The records of leases, limit keys and limits: Python reads what the scripts write."""

from __future__ import annotations

import pytest
from tests.support.scripted_queue import LEASE_MS, T0, Queue

from fetchq.store.records import HostRecord, LeaseRecord, LimitsEntry

HOST = "a.example"
HOUR_MS = 3_600_000


@pytest.mark.asyncio
async def test_a_lease_is_read_as_a_claim_writes_it(queue: Queue) -> None:
    await queue.add("a", due_ms=T0 - 7)
    await queue.add("b", due_ms=T0 - 7, ttl_ms=HOUR_MS)
    await queue.claim()
    plain, limited = map(_lease, await queue.redis.hmget(queue.keys.leases, "a", "b"))
    assert plain == LeaseRecord(b"w.1", T0 + LEASE_MS, T0 - 7, None)
    assert limited.payload_expires_ms is not None
    assert 0 <= T0 + HOUR_MS - limited.payload_expires_ms < 60_000  # Redis's own clock goes on meanwhile
    assert [plain.format(), limited.format()] == await queue.redis.hmget(queue.keys.leases, "a", "b")


def _lease(record: bytes) -> LeaseRecord:
    lease = LeaseRecord.parse(record)
    assert lease is not None
    return lease


@pytest.mark.parametrize("record", [b"", b"w.1", b"w.1|x|5|", b"w.1|5|x|", b"w.1|5|-|", b"w.1|5|5|5|5", b"\xff|\x00||"])
def test_what_no_worker_writes_is_no_lease(record: bytes) -> None:
    assert LeaseRecord.parse(record) is None


@pytest.mark.asyncio
async def test_a_limit_key_is_read_as_the_scripts_write_it(queue: Queue) -> None:
    await queue.set_limits(HOST, "set", "c=1 r=2000000")
    await queue.enqueue(("a", "", HOST, ""), ("b", "", HOST, ""), ("c", "", HOST, ""))
    await queue.claim(1)
    assert await queue.admit(("a", "w.1", HOST)) == []
    record = HostRecord.parse(await queue.redis.hget(queue.keys.hosts, HOST))
    assert record is not None
    assert (record.running, record.ready, record.waiting) == (1, 0, 2)
    assert T0 * 1000 < record.tat_us <= (T0 + 2100) * 1000
    await queue.commit(("a", "w.1", "finish", 1000, "", "x", "-CONNECT_ERROR"))
    await queue.start_cooldown(HOST, 5000)
    record = HostRecord.parse(await queue.redis.hget(queue.keys.hosts, HOST))
    assert record is not None
    assert (record.running, record.cooldown_until_ms, record.last) == (0, T0 + 5000, "CONNECT_ERROR")
    assert (record.consecutive_throttles, record.consecutive_failures) == (1, 1)


def test_what_no_script_writes_is_no_record_of_a_limit_key() -> None:
    assert HostRecord.parse(b"1 2 3") is None
    assert HostRecord.parse(b"1 2 3 4 5 6 7 8 x OK") is None


@pytest.mark.asyncio
async def test_limits_are_read_as_they_are_stored(queue: Queue) -> None:
    entry = LimitsEntry(concurrency=2, interval_us=500_000, burst=3, delay_ms=0, paused=True)
    reply = await queue.set_limits(HOST, "set", entry.format())
    assert reply.limits.decode() == entry.format() == "c=2 r=500000 b=3 d=0 p=1"
    assert LimitsEntry.parse(reply.limits) == entry
    assert LimitsEntry.parse(b"") == LimitsEntry()
