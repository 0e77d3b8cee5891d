"""Signals to `fetchq worker`: real processes, whose jobs wait, block, or ignore their cancellation."""

from __future__ import annotations

import itertools
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from redis import Redis
from tests.support.redis_server import RedisServer

from fetchq import JobFailed, SyncProducer

from .conftest import PATIENCE_S, Fetchq, at, wait_until

SETTINGS = r"""
import asyncio, os, sys, time
from fetchq_worker import worker_settings

def say(ctx):
    os.write(1, f"{ctx['job_id']}\n".encode())  # one write: several processes have this pipe

async def waits(ctx):
    say(ctx)
    await asyncio.sleep(3600)

async def is_deaf(ctx):
    say(ctx)
    while True:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            pass

async def blocks(ctx):
    say(ctx)
    time.sleep(3600)

async def blocks_when_cancelled(ctx):
    say(ctx)
    try:
        await asyncio.sleep(3600)
    finally:
        time.sleep(3600)

async def waits_for_a_thread(ctx):
    say(ctx)
    await asyncio.to_thread(time.sleep, 3600)

async def quick(ctx):
    say(ctx)

async def exits(ctx):
    say(ctx)
    sys.exit(0)

async def ends_its_process(ctx):
    say(ctx)
    if ctx["job_try"] == 1:
        os._exit(0)

async def cancels_all(ctx):
    say(ctx)
    for task in asyncio.all_tasks():
        task.cancel()

async def signals_its_process(ctx):
    say(ctx)
    if ctx["job_try"] == 1:
        os.kill(os.getpid(), 15)

async def hang(ctx):
    await asyncio.sleep(3600)

FUNCTIONS = [waits, is_deaf, blocks, blocks_when_cancelled, waits_for_a_thread, quick, exits, ends_its_process]
FUNCTIONS += [signals_its_process, cancels_all]
Mine = worker_settings(functions=FUNCTIONS)
Hangs = worker_settings(functions=FUNCTIONS, on_shutdown=hang)
"""


class Running:
    """`fetchq worker` with the functions above."""

    def __init__(self, process: subprocess.Popen[str], log: Path) -> None:
        self.process = process
        self._log = log
        self._printed = b""

    def started(self) -> str:
        """The id of the next job that it starts."""
        assert self.process.stdout is not None
        while b"\n" not in self._printed:
            ready, _, _ = select.select([self.process.stdout], [], [], PATIENCE_S)
            assert ready, f"no job has started; {self.log}"
            read = os.read(self.process.stdout.fileno(), 4096)
            assert read, f"the worker has ended; {self.log}"
            self._printed += read
        line, _, self._printed = self._printed.partition(b"\n")
        return line.decode()

    @property
    def log(self) -> str:
        return self._log.read_text()

    def end(self, *numbers: signal.Signals) -> float:
        """Sends the signals, each once the last one has had its line in the log. Returns how long the end took."""
        for count, number in enumerate(numbers, 1):
            self.process.send_signal(number)
            if count < len(numbers):
                self.wait_logged("worker.stopping", count)
        began = time.monotonic()
        assert self.process.wait(PATIENCE_S) == 0, self.log
        return time.monotonic() - began

    def wait_logged(self, event: str, count: int = 1) -> None:
        wait_until(lambda: self.log.count(event) >= count, event)


@contextmanager
def running(
    fetchq: Fetchq, server: RedisServer, *options: str, jobs: tuple[str, ...] = (), name: str = "Mine"
) -> Iterator[Running]:
    """A worker that has started all of `jobs`."""
    (fetchq.folder / "jobs.py").write_text(SETTINGS)
    ids = enqueue(server, *jobs)
    log = fetchq.folder / "log"
    with log.open("w") as stderr:
        process = fetchq.start(
            "worker", "--settings", f"jobs:{name}", *options, stderr=stderr.fileno(), environ=at(server)
        )
    worker = Running(process, log)
    assert {worker.started() for _ in ids} == set(ids), worker.log
    if not ids:
        worker.wait_logged("worker.started")
    yield worker


NUMBERS = itertools.count()


def enqueue(server: RedisServer, *functions: str) -> list[str]:
    """Jobs that start in this order, also if they are enqueued in the same millisecond: equal scores go by id."""
    ids = [f"{next(NUMBERS):06}" for _ in functions]
    with SyncProducer.from_url(server.url) as producer:
        for function, job_id in zip(functions, ids, strict=True):
            producer.enqueue_job(function, _job_id=job_id)
    return ids


def assert_returned(server: RedisServer, count: int) -> None:
    """The jobs wait at their first places, with no try counted."""
    with Redis.from_url(server.url) as client:
        assert client.zcard("arq:queue") == count
        assert client.hlen("fetchq:leases:arq:queue") == 0
        assert client.keys("arq:in-progress:*") == []
        assert client.keys("arq:retry:*") == []
        assert max((score for _, score in client.zrange("arq:queue", 0, -1, withscores=True)), default=0) < (
            time.time() * 1000 + 1000
        )


def status_of(fetchq: Fetchq, server: RedisServer) -> str:
    state = json.loads(fetchq.run("status", "--json", environ=at(server)).stdout)
    return ", ".join(one["state"] for one in state["workers"])


@pytest.mark.parametrize("job", ["is_deaf", "blocks", "blocks_when_cancelled", "waits_for_a_thread"])
def test_a_stopped_worker_ends_although_a_job_does_not(fetchq: Fetchq, redis_server: RedisServer, job: str) -> None:
    with running(fetchq, redis_server, "--grace", "1", jobs=("waits",)) as worker:
        [ignoring] = enqueue(redis_server, job)  # after the other has started, which it could keep from it
        assert worker.started() == ignoring
        took_s = worker.end(signal.SIGTERM)
    assert 1 <= took_s < 10, "the grace time, a last second, and what a process takes to end on a busy machine"
    assert_returned(redis_server, 2)
    if job in ("blocks", "blocks_when_cancelled"):
        assert "worker.forced_exit" in worker.log
        assert f" in {job}" in worker.log, "where it was"


def test_a_stopped_worker_ends_although_its_shutdown_hook_does_not(fetchq: Fetchq, redis_server: RedisServer) -> None:
    with running(fetchq, redis_server, "--grace", "1", jobs=("waits",), name="Hangs") as worker:
        assert worker.end(signal.SIGTERM) < 20
    assert_returned(redis_server, 1)


@pytest.mark.parametrize(
    "numbers",
    [
        (signal.SIGTERM, signal.SIGTERM),
        (signal.SIGINT, signal.SIGINT),
        (signal.SIGTERM, signal.SIGINT),
        (signal.SIGQUIT,),
    ],
    ids=lambda numbers: "+".join(number.name for number in numbers),
)
def test_a_second_signal_or_sigquit_returns_the_jobs_at_once(
    fetchq: Fetchq, redis_server: RedisServer, numbers: tuple[signal.Signals, ...]
) -> None:
    with running(fetchq, redis_server, "--grace", "100", jobs=("waits", "is_deaf")) as worker:
        assert worker.end(*numbers) < 20
    assert_returned(redis_server, 2)
    assert f"worker.stopping signal={numbers[-1].name}: 2 running, returned to the queue now" in worker.log


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2])
def test_other_signals_that_would_end_a_process_stop_a_worker_as_sigterm_does(
    fetchq: Fetchq, redis_server: RedisServer, number: signal.Signals
) -> None:
    with running(fetchq, redis_server, "--grace", "1", jobs=("waits",)) as worker:
        assert worker.end(number) >= 1
    assert_returned(redis_server, 1)
    assert f"worker.stopping signal={number.name}: 1 running, up to 1 s" in worker.log
    assert "worker.stopped" in worker.log


def test_a_stopping_worker_says_so(fetchq: Fetchq, redis_server: RedisServer) -> None:
    with running(fetchq, redis_server, "--grace", "100", jobs=("waits",)) as worker:
        assert status_of(fetchq, redis_server) == "running"
        worker.process.send_signal(signal.SIGTERM)
        wait_until(lambda: status_of(fetchq, redis_server) == "stopping", "the worker's record")
        assert ": stopping, 1 of " in fetchq.run("status", environ=at(redis_server)).stdout
        said = "worker.stopping signal=SIGTERM: 1 running, up to 100 s; signal again to return them now"
        assert said in worker.log
        worker.end(signal.SIGTERM)
    assert status_of(fetchq, redis_server) == ""


def test_sigtstp_makes_a_worker_quiet_and_sigcont_resumes_it(fetchq: Fetchq, redis_server: RedisServer) -> None:
    with running(fetchq, redis_server, "--grace", "100", jobs=("waits",)) as worker:
        worker.process.send_signal(signal.SIGTSTP)
        wait_until(lambda: status_of(fetchq, redis_server) == "quiet", "the worker's record")
        [later] = enqueue(redis_server, "quick")
        state = json.loads(fetchq.run("status", "--json", environ=at(redis_server)).stdout)
        assert (state["due"], state["running"]) == (1, 1), "what runs goes on"
        worker.process.send_signal(signal.SIGCONT)
        assert worker.started() == later
        assert "worker.quiet signal=SIGTSTP: 1 running" in worker.log
        worker.end(signal.SIGQUIT)


def test_a_worker_under_nohup_ignores_sighup(fetchq: Fetchq, redis_server: RedisServer) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # which children inherit
    try:
        with running(fetchq, redis_server) as worker:
            worker.process.send_signal(signal.SIGHUP)
            [quick] = enqueue(redis_server, "quick")
            assert worker.started() == quick
            worker.end(signal.SIGTERM)
    finally:
        signal.signal(signal.SIGHUP, before)
    assert "SIGHUP" not in worker.log


def test_a_job_that_exits_ends_no_worker(fetchq: Fetchq, redis_server: RedisServer) -> None:
    with running(fetchq, redis_server, jobs=("exits",)) as worker:
        [quick] = enqueue(redis_server, "quick")
        assert worker.started() == quick
        worker.end(signal.SIGTERM)
    with SyncProducer.from_url(redis_server.url) as producer:
        assert [one.error for one in producer.dead_letters.list()] != []


def pids_of(fetchq: Fetchq, server: RedisServer) -> set[int]:
    state = json.loads(fetchq.run("status", "--json", environ=at(server)).stdout)
    return {one["pid"] for one in state["workers"]}


def test_a_job_that_exits_is_one_failed_result_and_every_process_lives(
    fetchq: Fetchq, redis_server: RedisServer
) -> None:
    with running(fetchq, redis_server, "--processes", "3") as worker:
        wait_until(lambda: len(pids_of(fetchq, redis_server)) == 3, "three processes")
        pids = pids_of(fetchq, redis_server)
        with SyncProducer.from_url(redis_server.url) as producer:
            with pytest.raises(JobFailed, match="SystemExit: 0"):
                producer.enqueue_job("exits").value(timeout_s=PATIENCE_S)
            assert len(list(producer.dead_letters.list())) == 1
        assert pids_of(fetchq, redis_server) == pids
        for pid in pids:
            os.kill(pid, 0)
        worker.end(signal.SIGTERM)
    assert "worker.ended" not in worker.log


def test_a_process_that_a_job_ends_is_replaced_and_the_job_runs_again(
    fetchq: Fetchq, redis_server: RedisServer
) -> None:
    with running(fetchq, redis_server, "--processes", "2", "--lease", "2", jobs=("ends_its_process",)) as worker:
        worker.wait_logged("worker.ended")
        assert "status=0 run_s=" in worker.log
        assert worker.started() != "", "again"
        worker.wait_logged("fetchq.engine worker.started", 3)  # a record of the ended one may be in Redis still
        worker.end(signal.SIGTERM)


def test_a_process_whose_main_task_a_job_cancels_says_so_and_is_replaced(
    fetchq: Fetchq, redis_server: RedisServer
) -> None:
    with running(fetchq, redis_server, "--processes", "2", jobs=("waits", "waits")) as worker:
        enqueue(redis_server, "cancels_all")
        worker.wait_logged("worker.ended")
        assert "worker.failed in=main" in worker.log
        assert "status=1 run_s=" in worker.log
        worker.wait_logged("fetchq.engine worker.started", 3)  # a record of the ended one may be in Redis still
        worker.end(signal.SIGTERM, signal.SIGTERM)


def test_a_process_that_a_signal_to_it_alone_stops_is_replaced(fetchq: Fetchq, redis_server: RedisServer) -> None:
    with running(fetchq, redis_server, "--processes", "2", jobs=("signals_its_process",)) as worker:
        worker.wait_logged("worker.ended")
        assert "status=0 run_s=" in worker.log
        assert ": a signal to it alone" in worker.log
        worker.wait_logged("fetchq.engine worker.started", 3)  # a record of the ended one may be in Redis still
        worker.end(signal.SIGTERM)


def test_processes_that_all_get_the_same_signal_have_their_grace_time(
    fetchq: Fetchq, redis_server: RedisServer
) -> None:
    """As systemd stops a service: the supervisor's children get the signal from it and from the supervisor."""
    with running(fetchq, redis_server, "--processes", "2", "--grace", "100", jobs=("waits",)) as worker:
        wait_until(lambda: len(pids_of(fetchq, redis_server)) == 2, "two processes")
        pids = pids_of(fetchq, redis_server)
        for pid in (*pids, worker.process.pid):
            os.kill(pid, signal.SIGTERM)
        worker.wait_logged("supervisor.stopping")
        wait_until(lambda: len(pids_of(fetchq, redis_server)) == 1, "the idle process has ended")
        for pid in pids_of(fetchq, redis_server):
            os.kill(pid, signal.SIGTERM)
        assert ": stopping, 1 of " in fetchq.run("status", environ=at(redis_server)).stdout
        assert worker.log.count("worker.stopping signal=SIGTERM: 1 running") == 1
        worker.process.send_signal(signal.SIGTERM)
        assert worker.process.wait(PATIENCE_S) == 0
        assert "worker.stopping signal=SIGQUIT: 1 running, returned to the queue now" in worker.log
    assert_returned(redis_server, 1)


def test_a_second_signal_to_the_supervisor_makes_the_processes_return_their_jobs(
    fetchq: Fetchq, redis_server: RedisServer
) -> None:
    jobs = ("waits", "is_deaf", "waits", "waits")
    options = ("--processes", "2", "--concurrency", "2", "--grace", "100")
    with running(fetchq, redis_server, *options, jobs=jobs) as worker:
        worker.process.send_signal(signal.SIGTERM)
        worker.wait_logged("worker.stopping", 2)
        worker.process.send_signal(signal.SIGTERM)
        assert worker.process.wait(PATIENCE_S) == 0
    assert_returned(redis_server, 4)
    assert "worker.killed" not in worker.log


def test_the_processes_of_a_burst_end_when_the_queue_is_empty(fetchq: Fetchq, redis_server: RedisServer) -> None:
    with running(fetchq, redis_server, "--processes", "2", "--burst", jobs=("quick", "quick")) as worker:
        assert worker.process.wait(PATIENCE_S) == 0
    assert "worker.ended" not in worker.log


def test_run_worker_handles_signals_as_the_command_does(fetchq: Fetchq, redis_server: RedisServer) -> None:
    """A program of one's own that ends with `run_worker`, while a job blocks its event loop."""
    (fetchq.folder / "jobs.py").write_text(SETTINGS)
    enqueue(redis_server, "blocks")
    program = "from jobs import Mine; from fetchq_worker import run_worker; run_worker(Mine, job_completion_wait=1)"
    process = subprocess.Popen(
        [sys.executable, "-c", program],
        cwd=fetchq.folder,
        env={**fetchq._environ(at(redis_server)), "PYTHONPATH": str(fetchq.folder)},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    with process:
        assert process.stdout.readline()
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE_S) == 0
    assert_returned(redis_server, 1)
