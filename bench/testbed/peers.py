"""The peers: name, start of the adapter, and documented recovery times that are not waited for."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Final

import msgspec

from .environments import ENVIRONMENTS, python_of
from .failure import Unavailable
from .processes import REPO


class Peer(msgspec.Struct, frozen=True, kw_only=True):
    """One column of the comparison."""

    name: str
    title: str
    environment: str
    adapter: str
    """The module in `bench.adapters`, or a file of Node's."""
    tuned: bool = True
    poll_s: float = 0.01
    """The interval of its slowest poll: probes come at random points of it."""
    set_up: str
    """A sentence for the page that says how it is run."""
    measures: tuple[str, ...] = ()
    """The measures in which it takes part; none means all that apply."""
    most_rounds: int = 99
    recovers_s: float | None = None
    """The documented time until a killed worker's jobs run again, if it is too long to wait for."""
    recovers_why: str = ""

    @property
    def is_queue(self) -> bool:
        """Whether it has a producer and a worker."""
        return self.name not in (BARE, SCRAPY, PLAIN_SET)

    def command(self, role: str) -> list[str | Path]:
        """The command that starts its `producer` or `worker`. Raises `Unavailable`."""
        if self.adapter.endswith(".mjs"):
            node = shutil.which("node")
            if node is None:
                raise Unavailable("node is missing; install Node 20 or newer")
            return [node, REPO / "bench" / "adapters" / self.adapter, role]
        return [python_of(self.environment), "-m", f"bench.adapters.{self.adapter}", role]

    def environ(self) -> dict[str, str]:
        if self.adapter.endswith(".mjs"):
            return {"FETCHQ_BENCH_MODULES": str(ENVIRONMENTS / self.environment), "NODE_ENV": "production"}
        return {}


FETCHQ: Final = "fetchq"
ARQ_TUNED: Final = "arq-tuned"
BULLMQ: Final = "bullmq"
BARE: Final = "bare"
SCRAPY: Final = "scrapy"
PLAIN_SET: Final = "set"

_ESSENTIAL: Final = ("fetch_2k", "empty", "enqueue", "latency", "memory", "recovery")
"""For peers of another kind, so that a whole run stays within half an hour."""

QUEUES: Final = (
    Peer(
        name=FETCHQ,
        title="fetchq",
        environment="fetchq",
        adapter="fetchq_peer",
        set_up="this tree as it comes: msgpack contract, egress guard, leases and token checks on; uvloop",
    ),
    Peer(
        name="arq",
        title="arq, default",
        environment="arq",
        adapter="arq_peer",
        tuned=False,
        poll_s=0.5,
        most_rounds=3,
        set_up="every option at its default: 10 jobs at a time, a poll every 0.5 s, pickle; uvloop",
        recovers_s=310.0,
        recovers_why="job_timeout 300 s + 10 s, the life of its in-progress key",
    ),
    Peer(
        name=ARQ_TUNED,
        title="arq, tuned",
        environment="arq",
        adapter="arq_peer",
        set_up="poll_delay 5 ms, queue_read_limit 10 x concurrency, result poll 5 ms, pickle, hiredis; uvloop",
        recovers_s=310.0,
        recovers_why="job_timeout 300 s + 10 s, the life of its in-progress key",
    ),
    Peer(
        name="streaq",
        title="streaq",
        environment="streaq",
        adapter="streaq_peer",
        set_up="enqueue_many, pickle, results by pub/sub; uvloop",
    ),
    Peer(
        name="saq",
        title="SAQ",
        environment="saq",
        adapter="saq_peer",
        set_up="Redis queue, JSON, hiredis, enqueues gathered, result poll 5 ms; uvloop",
    ),
    Peer(
        name="taskiq",
        title="taskiq",
        environment="taskiq",
        adapter="taskiq_peer",
        set_up="taskiq-redis stream broker, orjson, enqueues gathered, result poll 10 ms; uvloop",
        recovers_s=600.0,
        recovers_why="idle_timeout of its stream broker",
    ),
    Peer(
        name=BULLMQ,
        title="BullMQ",
        environment="bullmq",
        adapter="bullmq_peer.mjs",
        set_up="Node, ioredis, undici, addBulk, waitUntilFinished, results kept by age",
    ),
    Peer(
        name="dramatiq",
        title="dramatiq",
        environment="dramatiq",
        adapter="blocking.dramatiq_peer",
        poll_s=1.0,
        measures=_ESSENTIAL,
        most_rounds=3,
        set_up="Redis broker and results backend, hiredis; one process, as many threads as the concurrency; "
        "requests, a session for each thread",
    ),
    Peer(
        name="celery",
        title="Celery",
        environment="celery",
        adapter="blocking.celery_peer",
        measures=_ESSENTIAL,
        most_rounds=3,
        set_up="Redis broker and results, hiredis; pool of threads (gevent was slower), requests; "
        "late acknowledgement, prefetch multiplier 10; no gossip, mingle or heartbeat; one kept producer connection",
        recovers_s=3_600.0,
        recovers_why="visibility_timeout of its Redis transport; without acks_late the jobs are lost",
    ),
)

BARE_LOOP: Final = Peer(
    name=BARE,
    title="bare aiohttp loop",
    environment="bare",
    adapter="bare_peer",
    set_up="no queue: the limit that one Python process has with this client",
)

CRAWLER: Final = Peer(
    name=SCRAPY,
    title="Scrapy",
    environment="scrapy",
    adapter="scrapy_spider",
    set_up="runspider with a JSON Lines feed, no delay, robots.txt off, requests per domain as many as in all; "
    "over TLS 8 per domain, certificates not verified (its default)",
)

SETTER: Final = Peer(
    name=PLAIN_SET,
    title="plain SET",
    environment="fetchq",
    adapter="",
    set_up="no queue: SET of each body with an expiry, pipelined",
)

ALL: Final = (*QUEUES, BARE_LOOP, CRAWLER, SETTER)
