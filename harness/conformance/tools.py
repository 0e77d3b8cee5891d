"""Tries tools made for arq: each with arq's command, with fetchq's, and with fetchq's class in the place of arq's.

A tool must observe the same under all three. What it observes is in its module of `tool_cases`.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec
from arq.connections import ArqRedis
from tests.support.ports import free_port
from tests.support.redis_server import RedisServer

from . import environment

CASES: Final = "harness.conformance.tool_cases"
STOCK: Final = "arq"
WAYS: Final[Mapping[str, Sequence[str]]] = {
    STOCK: ("-m", "arq"),
    "fetchq worker": ("-c", "from fetchq_worker.cli import main; main()", "worker", "--settings"),
    "fetchq's class": ("-m", f"{CASES}.swapped"),
}
TIMEOUT_S: Final = 60
POLL_S: Final = 0.02

Jobs = tuple[tuple[str, tuple[Any, ...], dict[str, Any]], ...]


class Case(msgspec.Struct, frozen=True):
    """A module of `tool_cases`, and the jobs that are enqueued for it."""

    name: str
    jobs: Jobs


TOOLS: Final = (
    Case("sentry", (*(("fail", (n,), {}) for n in range(100)), ("again", (), {}), ("well", (), {"name": "n"}))),
    Case("opentelemetry", (("parent", (), {}), ("broken", (), {}))),
    Case("logfire", tuple(("speak", (n,), {"_job_id": f"j{n}"}) for n in range(20))),
    Case("prometheus", tuple(("work", (n,), {}) for n in range(4))),
    Case("dishka", (("work", (1,), {}),)),
    Case("modern_di", tuple(("work", (), {}) for _ in range(2))),
    Case("z4j", tuple(("work", (n,), {"_job_id": f"j{n}"}) for n in range(3))),
)
INSPECTED: Final = Case(
    "inspected",
    (
        *(("work", (what,), {"_job_id": what}) for what in ("done", "failed", "running")),
        ("work", ("later",), {"_job_id": "later", "_defer_by": 3600}),
    ),
)
SHOWN_WHEN: Final = ("arq:result:done", "arq:result:failed", "arq:in-progress:running")
"""The keys that exist when each of these jobs is in its state."""
INSPECTORS: Final = ((environment.TOOLS, "show_django"), (environment.DASHBOARD, "show_dashboard"))


def try_tools() -> list[str]:
    """What a tool observes otherwise under fetchq than under arq, as sentences; empty if it is the same."""
    problems = []
    for case in TOOLS:
        problems += compare(case.name, {way: asyncio.run(_observe(case, way)) for way in WAYS})
    shown = {way: asyncio.run(_inspect(way)) for way in WAYS}
    for _, name in INSPECTORS:
        problems += compare(name, {way: shown[way][name] for way in WAYS})
    return problems


def compare(name: str, observed: Mapping[str, Any]) -> list[str]:
    """The differences from what was observed under arq."""
    stock = observed[STOCK]
    if not stock:
        return [f"{name}: nothing was observed under arq (logs are in {environment.FOLDER.name})"]
    same = [way for way in observed if observed[way] == stock]
    print(f"  {name}: the same with {', '.join(same)}", flush=True)
    return [f"{name}: with {way} {_difference(stock, it)}" for way, it in observed.items() if way not in same]


def _difference(stock: Any, other: Any) -> str:
    if isinstance(stock, list) and isinstance(other, list):
        missing, added = [it for it in stock if it not in other], [it for it in other if it not in stock]
        return f"{len(stock)} became {len(other)}: missing {missing[:3]}, added {added[:3]}"
    if isinstance(stock, dict) and isinstance(other, dict):
        differing = [key for key in stock if stock[key] != other.get(key)]
        return "; ".join(f"{key}: {_difference(stock[key], other.get(key))}" for key in differing)
    return f"{stock!r} became {other!r}"


class _Place:
    """A Redis of its own for one command, and the file of its report."""

    def __init__(self) -> None:
        self.port = free_port()
        self.report = environment.FOLDER / f"report-{self.port}.json"
        self.env = {name: it for name, it in os.environ.items() if not name.startswith(("PYTEST_", "FETCHQ_"))}
        self.env |= {"TOOL_REDIS_PORT": str(self.port), "TOOL_REPORT": str(self.report)}
        self.redis = RedisServer("--bind", "127.0.0.1", "--port", str(self.port))

    def start(self, name: str, way: str) -> subprocess.Popen[bytes]:
        command = [str(environment.TOOLS.python), *WAYS[way], f"{CASES}.{name}.WorkerSettings"]
        with (environment.FOLDER / f"{name}, {way}.log").open("wb") as log:
            return subprocess.Popen(command, cwd=environment.ROOT, env=self.env, stdout=log, stderr=log)

    def result(self) -> Any:
        """The report; None if the command has written none."""
        return json.loads(self.report.read_text(encoding="utf-8")) if self.report.exists() else None

    def remove(self) -> None:
        self.redis.remove()
        self.report.unlink(missing_ok=True)


async def _enqueue(redis: ArqRedis, jobs: Jobs) -> None:
    for function, arguments, options in jobs:
        await redis.enqueue_job(function, *arguments, **options)


async def _observe(case: Case, way: str) -> Any:
    place = _Place()
    try:
        async with ArqRedis(port=place.port) as redis:
            await _enqueue(redis, case.jobs)
        worker = place.start(case.name, way)
        await _wait(worker)
        return place.result()
    finally:
        place.remove()


async def _inspect(way: str) -> dict[str, Any]:
    """What each inspector shows while a job runs."""
    place = _Place()
    try:
        async with ArqRedis(port=place.port) as redis:
            await _enqueue(redis, INSPECTED.jobs)
            worker = place.start(INSPECTED.name, way)
            while worker.poll() is None and await redis.exists(*SHOWN_WHEN) < len(SHOWN_WHEN):
                await asyncio.sleep(POLL_S)
            shown = {name: await _show(where, name, place.env) for where, name in INSPECTORS}
            await redis.set("gate", "open")
            await _wait(worker)
            return shown
    finally:
        place.remove()


async def _show(where: environment.Environment, name: str, env: Mapping[str, str]) -> Any:
    def run() -> subprocess.CompletedProcess[str]:
        command = [str(where.python), "-m", f"{CASES}.{name}"]
        return subprocess.run(
            command, cwd=environment.ROOT, env=env, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
        )

    shown = await asyncio.to_thread(run)
    return shown.stderr[-1000:] if shown.returncode else json.loads(shown.stdout)


async def _wait(worker: subprocess.Popen[bytes]) -> None:
    try:
        await asyncio.to_thread(worker.wait, TIMEOUT_S)
    finally:
        worker.kill()
