"""Readings of a queue, made up for tests."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from fetchq import HostState
from fetchq.inspect.queue import QueueState
from fetchq.inspect.workers import WorkerRecord, WorkerState
from fetchq_worker.cli.top.view import MinuteCounts, Rates, ServerState, Snapshot, View

NOW_MS: Final = 1_795_874_400_000
"""2026-11-28, 14:00:00 UTC."""
MINUTE: Final = NOW_MS // 60_000


def worker(number: int, **fields: Any) -> WorkerRecord:
    known: dict[str, Any] = {
        "id": f"w{number}",
        "host": f"node-{number}",
        "pid": 4000 + number,
        "version": "0.1.0",
        "queue": "arq:queue",
        "concurrency": 100,
        "running": 60,
        "heartbeat_s": 5.0,
        "completed": 120_000,
        "failed": 812,
        "started_at_ms": NOW_MS - 7_500_000,
        "heartbeat_ms": NOW_MS - 2_300,
    }
    return WorkerRecord(**(known | fields))


def state(**fields: Any) -> QueueState:
    known: dict[str, Any] = {
        "queue": "arq:queue",
        "due": 0,
        "waiting": 0,
        "deferred": 0,
        "running": 0,
        "demand": 0,
        "oldest_due_s": None,
        "dead_letters": 0,
        "hosts_waiting": 0,
        "hosts_cooling": 0,
        "hosts_paused": 0,
        "paused": False,
        "now_ms": NOW_MS,
        "slots": 0,
        "workers": (),
        "redis_memory_bytes": 300 << 20,
        "redis_max_memory_bytes": 1 << 30,
    }
    known |= fields
    return QueueState(**(known | {"slots": sum(one.concurrency for one in known["workers"])}))


def view(snapshot: Snapshot | None = None, **fields: Any) -> View:
    """A live view of an empty queue with a worker, unless `snapshot` is another."""
    calm = Snapshot(state=state(workers=(worker(1, running=0),)))
    known: dict[str, Any] = {"queue": "arq:queue", "redis": "redis://redis.internal:6379/0", "interval_s": 2.0}
    return View(snapshot=snapshot or calm, **(known | fields))


def with_state(**fields: Any) -> View:
    return view(Snapshot(state=state(**fields)))


def busy() -> View:
    """A queue with every kind of trouble but an outage."""
    hosts = (
        HostState(host="shop.example", waiting=4198, due=2, running=2, last_outcome="OK"),
        HostState(
            host="api.example.org", waiting=310, running=1, next_start_s=1.94, crawl_delay_s=2.0, last_outcome="OK"
        ),
        HostState(
            host="broken.example", waiting=96, cooldown_s=58.2, failed_connections=5, last_outcome="CONNECT_ERROR"
        ),
        HostState(host="busy.example", waiting=12, cooldown_s=12.0, consecutive_throttles=2, last_outcome="HTTP_ERROR"),
        HostState(host="held.example", waiting=7, paused=True, last_outcome="OK"),
        HostState(host="key:tenant-ü", waiting=0, running=8, last_outcome="TIMEOUT"),
    )
    workers = (
        worker(1, heartbeat_ms=NOW_MS - 12_400),
        worker(2, state=WorkerState.QUIET, running=3),
        worker(3, running=100),
    )
    snapshot = Snapshot(
        state=state(
            due=40,
            waiting=4623,
            deferred=1200,
            running=163,
            demand=203,
            oldest_due_s=3.2,
            dead_letters=14,
            hosts_waiting=5,
            hosts_cooling=2,
            hosts_paused=1,
            workers=workers,
        ),
        hosts=hosts,
        minutes=tuple(
            MinuteCounts(
                MINUTE - 60 + place, finished=(place * 37) % 100 * 50, failed=(place % 7) * 10 if place > 40 else 0
            )
            for place in range(61)
        ),
        rates=Rates(enqueued=812.4, finished=790.0, failed=0.4, span_s=10.0),
        p50_s=0.121,
        p95_s=1.43,
        recent={"OK": 18_000, "CONNECT_ERROR": 96, "HTTP_ERROR": 12, "ok": 4},
        server=ServerState(),
    )
    return view(snapshot)


def changed(seen: View, **fields: Any) -> View:
    """The view with other fields of its screen."""
    return msgspec.structs.replace(seen, screen=msgspec.structs.replace(seen.screen, **fields))
