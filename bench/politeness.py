"""`python -m bench.politeness`: how soon all workers stop for a host that responds 429, and when they continue.

Two workers of two processes each fetch from one host as fast as its limits permit. At some moment it responds to one
request with 429 and `Retry-After: 5`, and records by its own clock when each request arrives.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Final

import msgspec

from bench.testbed.failure import BenchFailure
from bench.testbed.processes import Child, stop_on_signals
from bench.testbed.redis_server import RedisServer, redis_server
from fetchq import Producer
from fetchq.store.keys import Keys

WORKERS: Final = 2
PROCESSES: Final = 2
RETRY_AFTER_S: Final = 5
WARM_UP_S: Final = 2.0
SETTLE_S: Final = 3.0
STOP_WITHIN_S: Final = 0.1
GO_ON_WITHIN_S: Final = 1.0
_SMALL: Final = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nwell"
_BUSY: Final = b"HTTP/1.1 429 Busy\r\nContent-Length: 0\r\nRetry-After: %d\r\n\r\n" % RETRY_AFTER_S


class Pause(msgspec.Struct, frozen=True):
    """The effect of one 429, in seconds from the moment at which it was sent."""

    before: int
    """Requests in the second before it."""
    last_after_s: float
    """The last request that was started before the workers learned of it."""
    late: int
    """Requests later than `STOP_WITHIN_S` but before the cooldown ended."""
    resumed_s: float
    """The first request after the cooldown, counted from its end."""


class Host:
    """A server that responds at once, until it must refuse one request."""

    def __init__(self) -> None:
        self.came: list[float] = []
        self.refused_at = 0.0
        self.flows = asyncio.Event()
        """Set by the request that is the `goal`-th."""
        self.goal = 0
        self.refused = asyncio.Event()
        self._refuse = False
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Host:
        self._server = await asyncio.start_server(self._converse, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()

    @property
    def port(self) -> int:
        assert self._server is not None
        return int(self._server.sockets[0].getsockname()[1])

    def expect(self, more: int) -> None:
        """`flows` waits for this many more requests."""
        self.flows.clear()
        self.goal = len(self.came) + more

    def refuse_next(self) -> None:
        self.refused.clear()
        self._refuse = True

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                await reader.readuntil(b"\r\n\r\n")
                self.came.append(time.monotonic())
                if len(self.came) == self.goal:
                    self.flows.set()
                if self._refuse:
                    self._refuse = False
                    writer.write(_BUSY)
                    self.refused_at = time.monotonic()
                    self.refused.set()
                else:
                    writer.write(_SMALL)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()


async def measure(rounds: int, concurrency: int, jobs: int) -> list[Pause]:
    """One cooldown a round, all with the same processes."""
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="fetchq-politeness-")))
        redis: RedisServer = await stack.enter_async_context(redis_server(folder))
        host = await stack.enter_async_context(Host())
        url = f"redis://127.0.0.1:{redis.port}"
        producer = await stack.enter_async_context(Producer.from_url(url))
        client: Any = redis.client  # redis-py 5 types each reply as `Awaitable | value`
        await client.hset(Keys().limits, "*", f"c={concurrency}")
        for number in range(WORKERS):
            argv: list[str | Path] = [
                Path(sys.executable).parent / "fetchq",
                "worker",
                "--redis",
                url,
                "--allow-net",
                "127.0.0.0/8",
            ]
            argv += ["--processes", str(PROCESSES)]
            await stack.enter_async_context(Child(f"worker-{number}", argv, folder))
        pauses = []
        for number in range(rounds):
            await _fill(producer, host, jobs, number)
            pauses.append(await _one(host))
        return pauses


async def _fill(producer: Producer, host: Host, jobs: int, number: int) -> None:
    urls = (f"http://127.0.0.1:{host.port}/{number}/{n}" for n in range(jobs))
    await producer.enqueue_many(urls)


async def _one(host: Host) -> Pause:
    host.expect(200)
    async with asyncio.timeout(60):
        await host.flows.wait()
    await asyncio.sleep(WARM_UP_S)
    host.refuse_next()
    async with asyncio.timeout(10):
        await host.refused.wait()
    await asyncio.sleep(RETRY_AFTER_S + SETTLE_S)
    at = host.refused_at
    after = [came - at for came in host.came if came > at]
    early = [came for came in after if came < RETRY_AFTER_S]
    going_on = [came for came in after if came >= RETRY_AFTER_S]
    return Pause(
        before=sum(at - 1 < came <= at for came in host.came),
        last_after_s=max(early, default=0.0),
        late=sum(came > STOP_WITHIN_S for came in early),
        resumed_s=min(going_on, default=float("inf")) - RETRY_AFTER_S,
    )


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.politeness", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--concurrency", type=int, default=32, help="of the host, over all workers")
    parser.add_argument("--jobs", type=int, default=20_000, help="a round")
    given = parser.parse_args()

    async def run() -> list[Pause]:
        stop_on_signals()
        return await measure(given.rounds, given.concurrency, given.jobs)

    try:
        pauses = asyncio.run(run())
    except BenchFailure as problem:
        print(f"bench: {problem}", file=sys.stderr)
        return 1
    print(f"{WORKERS} workers of {PROCESSES} processes, one host, 429 with Retry-After: {RETRY_AFTER_S}")
    print("requests/s before   last one after   later than 100 ms   on again after its end")
    for it in pauses:
        last_ms, resumed_ms = it.last_after_s * 1000, it.resumed_s * 1000
        print(f"{it.before:17}   {last_ms:11.1f} ms   {it.late:17}   {resumed_ms:19.0f} ms")
    well = all(not pause.late and 0 <= pause.resumed_s <= GO_ON_WITHIN_S for pause in pauses)
    return 0 if well else 1


if __name__ == "__main__":
    sys.exit(main())
