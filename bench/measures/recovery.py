"""Time until a killed worker's jobs run again. All peers are measured at once, each on its own Redis."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec

from bench.adapters.settings import Settings
from bench.report.results import Results
from bench.testbed import adapter_process as talk
from bench.testbed.environments import ensure
from bench.testbed.failure import BenchFailure
from bench.testbed.peers import FETCHQ, Peer
from bench.testbed.redis_server import redis_server
from bench.testbed.stage import Stage

from .measure import Measure, say

JOBS: Final = 10
HOLD_S: Final = 300.0
"""How long a job occupies the first worker: longer than any peer's recovery is waited for."""
START_S: Final = 30.0
LONGEST_S: Final = 130.0
SHORT_LEASE_S: Final = 2.0
_POLL_S: Final = 0.02


class Trial(msgspec.Struct, frozen=True):
    peer: Peer
    figure: str
    number: int
    lease_s: float | None = None


class Recovery(Measure):
    """A worker starts ten `hold` jobs, a second worker waits, and the first is killed with SIGKILL."""

    name = "recovery"
    figures = ("recovery", "recovery_short")

    def covers(self, peer: Peer) -> bool:
        return peer.is_queue

    def figures_of(self, peer: Peer) -> tuple[str, ...]:
        return self.figures if peer.name == FETCHQ else ("recovery",)

    async def take(self, stage: Stage, peer: Peer) -> dict[str, float]:
        raise NotImplementedError("taken all at once by `run`")

    async def run(self, stage: Stage, peers: Sequence[Peer], results: Results) -> None:
        trials: list[Trial] = []
        for peer in filter(self.takes, peers):
            if peer.recovers_s is not None:
                self.note(results, peer, f"{peer.recovers_s:g} s by its documents, not waited for: {peer.recovers_why}")
                continue
            try:
                await ensure(peer.environment, stage.folder)
            except BenchFailure as problem:
                self.note(results, peer, str(problem))
                continue
            for number in range(1, (results.rounds if peer.name == FETCHQ else 1) + 1):
                trials.append(Trial(peer, "recovery", number))
                if peer.name == FETCHQ:
                    trials.append(Trial(peer, "recovery_short", number, SHORT_LEASE_S))
        async with asyncio.TaskGroup() as group:
            for trial in trials:
                group.create_task(self._try(stage, trial, results))

    async def _try(self, stage: Stage, trial: Trial, results: Results) -> None:
        series = results.series(trial.figure, trial.peer.name)
        try:
            took_s = await _recovery_s(stage, trial)
        except BenchFailure as problem:
            series.problem = str(problem)
            print(f"  {trial.figure}: {trial.peer.title}: {problem}", flush=True)
        else:
            series.samples.append(took_s)
            say(self.name, trial.number, trial.peer, {trial.figure: took_s})


async def _recovery_s(stage: Stage, trial: Trial) -> float:
    folder = stage.folder / f"{trial.figure}-{trial.peer.name}-{trial.number}"
    folder.mkdir()
    starts = folder / "starts"
    starts.touch()
    peer = trial.peer
    async with redis_server(folder) as server:
        settings = Settings(
            redis_port=server.port,
            concurrency=stage.options.concurrency,
            tuned=peer.tuned,
            lease_s=trial.lease_s,
            hold_s=HOLD_S,
        )
        async with talk.producer(peer, settings, folder) as producer:
            await producer.ask("enqueue_many", job="hold", args=[str(starts)], count=JOBS)
        async with talk.worker(peer, settings, folder) as first:
            await _wait_starts(starts, JOBS, START_S)
            second = talk.worker(peer, Settings(**{**vars(settings), "hold_s": 0.0}), folder)
            async with second:
                await asyncio.sleep(2.0)  # the second worker waits; a worker does not report that it has started
                first.check()
                killed_ns = time.monotonic_ns()
                await first.kill()
                again_ns = (await _wait_starts(starts, 2 * JOBS, LONGEST_S))[JOBS : 2 * JOBS]
                return (max(again_ns) - killed_ns) / 1e9


async def _wait_starts(path: Path, count: int, timeout_s: float) -> list[int]:
    """The times in the file, once there are `count`."""
    deadline = time.monotonic() + timeout_s
    while len(lines := path.read_text().split()) < count:
        if time.monotonic() > deadline:
            raise BenchFailure(f"{len(lines)} of {count} starts after {timeout_s:g} s")
        await asyncio.sleep(_POLL_S)
    return sorted(int(line) for line in lines)
