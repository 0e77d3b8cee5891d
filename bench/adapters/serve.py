"""The producer's side of the harness's protocol: one JSON object a line in, one out.

Only the standard library, since it runs in every peer's environment. `bullmq_peer.mjs` implements the same protocol.
"""

import asyncio
import json
import random
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, ClassVar

GATHER = 100
"""How many single enqueues are in flight at a time, for peers without a call for many."""


class QueueClient(ABC):
    """A peer's producer, with the calls that the measures need."""

    unfinished: ClassVar[Sequence[Sequence[str]]] = ()
    """Redis commands whose integers add up to the number of unfinished jobs ..."""
    finished: ClassVar[Sequence[Sequence[str]]] = ()
    """... or, for a queue that has no such number, to one that grows by one with each finished job."""
    versions: ClassVar[Mapping[str, str]] = {}

    @abstractmethod
    async def open(self) -> None: ...

    @abstractmethod
    async def close(self) -> None: ...

    @abstractmethod
    async def enqueue(self, job: str, args: list[Any]) -> Any:
        """Enqueues one job. Returns the handle that `result` takes."""

    @abstractmethod
    async def result(self, handle: Any) -> Any:
        """Waits for the result of a job, in the way that the peer's documentation describes."""

    async def reset(self) -> None:  # noqa: B027 - most peers need nothing
        """Writes what the peer needs in Redis before a job can be enqueued. Called after FLUSHALL."""

    async def enqueue_many(self, job: str, args: list[Any], count: int) -> None:
        """Enqueues many jobs, by the peer's own call for many if it has one."""
        for start in range(0, count, GATHER):
            await asyncio.gather(*(self.enqueue(job, args) for _ in range(min(GATHER, count - start))))


async def _enqueue_one(client: QueueClient, command: dict[str, Any]) -> dict[str, Any]:
    started = time.perf_counter()
    for _ in range(command["count"]):
        await client.enqueue(command["job"], command["args"])
    return {"elapsed_s": time.perf_counter() - started}


async def _enqueue_callers(client: QueueClient, command: dict[str, Any]) -> dict[str, Any]:
    async def caller() -> None:
        for _ in range(command["each"]):
            await client.enqueue(command["job"], command["args"])

    started = time.perf_counter()
    await asyncio.gather(*(caller() for _ in range(command["callers"])))
    return {"elapsed_s": time.perf_counter() - started}


async def _enqueue_many(client: QueueClient, command: dict[str, Any]) -> dict[str, Any]:
    started = time.perf_counter()
    await client.enqueue_many(command["job"], command["args"], command["count"])
    return {"elapsed_s": time.perf_counter() - started}


async def _probe(client: QueueClient, command: dict[str, Any]) -> dict[str, Any]:
    """One job at a time, each after a random pause.

    The pause is at most the longest poll interval, so that probes do not synchronise with polls.
    """
    pick_ups_ms: list[float] = []
    round_trips_ms: list[float] = []
    body_bytes = command.get("body_bytes")
    end = time.monotonic() + command["duration_s"]
    while time.monotonic() < end and len(round_trips_ms) < command["limit"]:
        await asyncio.sleep(random.uniform(0.0, command["gap_s"]))
        started_ns = time.monotonic_ns()
        handle = await client.enqueue(command["job"], command["args"])
        value = await asyncio.wait_for(client.result(handle), command["patience_s"])
        round_trips_ms.append((time.monotonic_ns() - started_ns) / 1e6)
        if command["job"] == "stamp":
            pick_ups_ms.append((value - started_ns) / 1e6)
        elif value["status"] != 200 or len(value["body"]) != body_bytes:
            raise ValueError(f"not the page that was asked for: {str(value)[:200]}")
    return {"pick_ups_ms": pick_ups_ms, "round_trips_ms": round_trips_ms}


async def _load(client: QueueClient, command: dict[str, Any]) -> dict[str, Any]:
    """An open loop: `rate_per_s`, in ticks of 10 ms, whether or not the worker keeps up."""
    started = time.monotonic()
    sent = 0
    while (elapsed := time.monotonic() - started) < command["duration_s"]:
        due = int(elapsed * command["rate_per_s"]) - sent
        if due:
            await client.enqueue_many(command["job"], command["args"], due)
            sent += due
        await asyncio.sleep(0.01)
    return {"sent": sent, "elapsed_s": time.monotonic() - started}


_COMMANDS: dict[str, Callable[[QueueClient, dict[str, Any]], Awaitable[dict[str, Any]]]] = {
    "enqueue_one": _enqueue_one,
    "enqueue_callers": _enqueue_callers,
    "enqueue_many": _enqueue_many,
    "probe": _probe,
    "load": _load,
}


async def serve(client: QueueClient) -> None:
    """Executes commands until the input ends.

    A command that fails is answered with its error; the next one may succeed.
    """
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=1 << 20)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    await client.open()
    try:
        _answer({"unfinished": client.unfinished, "finished": client.finished, "versions": client.versions})
        while line := await reader.readline():
            command = json.loads(line)
            try:
                if command["op"] == "reset":
                    await client.reset()
                    _answer({})
                else:
                    _answer(await _COMMANDS[command["op"]](client, command))
            except Exception as problem:  # noqa: BLE001 - whatever a peer raises is the measure's result
                _answer({"error": f"{type(problem).__name__}: {problem}"[:500]})
    finally:
        await client.close()


def _answer(message: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


def main(client: Callable[[], QueueClient], worker: Callable[[], None], *, on_uvloop: bool = True) -> None:
    """Runs `producer` or `worker`, on uvloop as every asyncio peer here advises."""
    match sys.argv[1:]:
        case ["producer"]:
            if on_uvloop:
                import uvloop

                uvloop.run(_serve_new(client))
            else:
                asyncio.run(_serve_new(client))
        case ["worker"]:
            worker()
        case _:
            sys.exit("say producer or worker")


async def _serve_new(client: Callable[[], QueueClient]) -> None:
    await serve(client())
