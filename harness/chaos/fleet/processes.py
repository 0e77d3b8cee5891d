"""The processes of a chaos run: workers and producers. A process that dies is replaced."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
from asyncio.subprocess import DEVNULL, Process
from pathlib import Path
from typing import Final

import msgspec

from fetchq.command.exit_status import ExitStatus

from .coroutines import RUNS_FOLDER_ENV
from .producing import Plan

REPOSITORY: Final = Path(__file__).parents[3]
GRACE_S: Final = 3
NUMBERS_EACH: Final = 1 << 32
"""Difference between the first job numbers of two producers."""
NUMBERS_IN_DOUBT: Final = 1 << 20
STOP_S: Final = 60.0
"""How long a worker may take to stop: its grace time, a coroutine that ignores cancellation, and its last commit."""


class Fleet:
    """Several `fetchq worker` processes. A killed one is replaced at once, as by a supervisor."""

    def __init__(
        self,
        redis_url: str,
        folder: Path,
        *,
        size: int,
        concurrency: int,
        lease_s: float,
        rng: random.Random,
        settings: str = "harness.chaos.fleet.coroutines:Settings",
    ) -> None:
        self._folder = folder
        self._size = size
        self._rng = rng
        self._command = (
            *(str(Path(sys.executable).with_name("fetchq")), "worker", "--redis", redis_url),
            *("--settings", settings, "--concurrency", str(concurrency)),
            *("--lease", str(lease_s), "--grace", str(GRACE_S), "--allow-net", "127.0.0.0/8"),
        )
        self._env = {**os.environ, RUNS_FOLDER_ENV: str(folder), "PYTHONUNBUFFERED": "1"}
        self._workers: list[Process] = []
        self._logs: dict[int, Path] = {}
        """By process id."""
        self._ending: set[asyncio.Task[None]] = set()
        self.failures: list[str] = []
        """Workers that exited by themselves, with a wrong status, or later than `STOP_S` after a signal."""

    async def start(self) -> None:
        for _ in range(self._size):
            await self._start_one()

    async def _start_one(self) -> None:
        path = self._folder / f"worker-{len(self._logs)}.log"
        with path.open("wb") as log:
            process = await asyncio.create_subprocess_exec(
                *self._command, stdin=DEVNULL, stdout=log, stderr=log, env=self._env, cwd=REPOSITORY
            )
        self._workers.append(process)
        self._logs[process.pid] = path

    @property
    def pids(self) -> list[int]:
        """The running workers, in the order of their starts."""
        return [worker.pid for worker in self._workers]

    async def pick(self) -> Process:
        """A random worker."""
        await self._note_deaths()
        return self._rng.choice(self._workers)

    async def replace(self, worker: Process, number: signal.Signals) -> None:
        """Ends a worker by a signal, and starts another one."""
        self._workers.remove(worker)
        worker.send_signal(number)
        task = asyncio.create_task(self._wait_end(worker, 0 if number == signal.SIGTERM else -number))
        self._ending.add(task)
        await self._start_one()

    async def _wait_end(self, worker: Process, expected: int) -> None:
        try:
            async with asyncio.timeout(STOP_S):
                status = await worker.wait()
        except TimeoutError:
            self.failures.append(f"worker {worker.pid} did not end within {STOP_S:g} s of a signal")
            worker.kill()
            await worker.wait()
            return
        if status != expected and not (expected == 0 and self._ended_at_its_start(worker, status)):
            self.failures.append(f"worker {worker.pid} ended with status {status}, not {expected}")

    def _ended_at_its_start(self, worker: Process, status: int) -> bool:
        """Whether a worker got a signal before its handlers were installed, or found no Redis before its first job."""
        log = self._logs[worker.pid].read_text(errors="replace")
        if status == -signal.SIGTERM:
            return "worker.started" not in log
        return status == ExitStatus.NO_REDIS and ("worker.stopped" not in log or " complete=0 " in log)

    async def _note_deaths(self) -> None:
        """Starts workers again that could not start while Redis was unavailable."""
        for worker in tuple(self._workers):
            if worker.returncode is not None:
                self._workers.remove(worker)
                if self._ended_at_its_start(worker, worker.returncode):
                    await self._start_one()
                else:
                    self.failures.append(f"worker {worker.pid} ended by itself with status {worker.returncode}")

    async def stop(self) -> None:
        await self._note_deaths()
        for worker in self._workers:
            worker.send_signal(signal.SIGCONT)
            worker.send_signal(signal.SIGTERM)
            self._ending.add(asyncio.create_task(self._wait_end(worker, 0)))
        self._workers.clear()
        await asyncio.gather(*self._ending)
        for path in self._logs.values():
            text = path.read_text(errors="replace")
            for sign in ("never retrieved", "Task was destroyed", "Unhandled exception"):
                if sign in text:
                    self.failures.append(f"{path.name} has {sign!r}")


class Producers:
    """Several producer processes, each with its own range of job numbers.

    The replacement of a killed one continues its range.
    """

    def __init__(self, plan: Plan, folder: Path, *, size: int, rng: random.Random) -> None:
        self._plan = plan
        self._folder = folder
        self._size = size
        self._rng = rng
        self._processes: dict[int, tuple[Plan, Process]] = {}

    async def start(self) -> None:
        share = self._plan.count // self._size
        for number in range(self._size):
            await self._start_one(number, msgspec.structs.replace(self._plan, first=number * NUMBERS_EACH, count=share))

    async def _start_one(self, number: int, plan: Plan) -> None:
        path = self._folder / f"{number}-{plan.first}.acknowledged"
        plan = msgspec.structs.replace(plan, acknowledged=str(path), seed=self._rng.getrandbits(32))
        command = (sys.executable, "-m", "harness.chaos.fleet.producing", msgspec.json.encode(plan).decode())
        with (self._folder / "producers.log").open("ab") as log:
            process = await asyncio.create_subprocess_exec(*command, stdin=DEVNULL, stderr=log, cwd=REPOSITORY)
        self._processes[number] = plan, process

    async def kill_one(self) -> None:
        """Kills a running producer, and starts one that enqueues the remaining jobs."""
        at_work = [n for n, (_, process) in self._processes.items() if process.returncode is None]
        if not at_work:
            return
        number = self._rng.choice(at_work)
        plan, process = self._processes[number]
        process.kill()
        await process.wait()
        written = read_acknowledged(Path(plan.acknowledged))
        # Jobs may have been enqueued without an acknowledgement: the next producer uses other numbers.
        first = max((job.number for job in written), default=plan.first) + NUMBERS_IN_DOUBT
        if len(written) < plan.count:
            await self._start_one(number, msgspec.structs.replace(plan, first=first, count=plan.count - len(written)))

    async def wait(self) -> None:
        """Returns when all producers have finished."""
        while running := [process for _, process in self._processes.values() if process.returncode is None]:
            await asyncio.gather(*(process.wait() for process in running))

    async def stop(self) -> None:
        for _, process in self._processes.values():
            if process.returncode is None:
                process.terminate()
        await self.wait()

    def failures(self) -> list[str]:
        text = (self._folder / "producers.log").read_text(errors="replace")
        return [f"a producer says: {text.strip().splitlines()[-1]}"] if text.strip() else []


class Acknowledged(msgspec.Struct, frozen=True, gc=False):
    """An acknowledged job: its `enqueue` has returned."""

    number: int
    id: bytes
    kind: str
    at_ms: int = 0
    """When the acknowledgement was logged."""
    sent_ms: int = 0
    """When `enqueue` was called."""


def read_acknowledged(path: Path) -> list[Acknowledged]:
    if not path.exists():
        return []
    lines = path.read_bytes().splitlines(keepends=True)
    fields = (line.split() for line in lines if line.endswith(b"\n"))
    return [
        Acknowledged(int(number), job_id, kind.decode(), int(at_ms), int(sent_ms))
        for number, job_id, kind, sent_ms, at_ms in fields
    ]
