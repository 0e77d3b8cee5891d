"""Which process, and which worker, a signal is for."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
from collections.abc import Iterator
from multiprocessing.connection import Connection
from signal import Signals

import pytest

from fetchq_worker.engine.stopping.signals import REQUESTS, SignalListener


class Told:
    """A listener that notes what it is told."""

    def __init__(self) -> None:
        self.at_once: list[Signals] = []
        self.in_loop: asyncio.Queue[Signals] = asyncio.Queue()
        self.listener = SignalListener(at_once=self.at_once.append, in_loop=self.in_loop.put_nowait)


@pytest.fixture(autouse=True)
def own_handler() -> Iterator[list[int]]:
    """The signals that arrive at the program's own handler of SIGTERM."""
    arrived: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: arrived.append(number))
    yield arrived
    signal.signal(signal.SIGTERM, before)


@pytest.mark.asyncio
async def test_all_workers_of_a_process_are_told_and_the_programs_handlers_come_back(own_handler: list[int]) -> None:
    before = {number: signal.getsignal(number) for number in REQUESTS}
    one, other = Told(), Told()
    for told in (one, other):
        told.listener.start(asyncio.get_running_loop())
    os.kill(os.getpid(), signal.SIGTERM)
    async with asyncio.timeout(10):
        assert {await one.in_loop.get(), await other.in_loop.get()} == {signal.SIGTERM}
    one.listener.stop()
    os.kill(os.getpid(), signal.SIGUSR1)
    async with asyncio.timeout(10):
        assert await other.in_loop.get() is signal.SIGUSR1
    assert one.at_once == [signal.SIGTERM]
    other.listener.stop()
    assert {number: signal.getsignal(number) for number in REQUESTS} == before
    assert own_handler == []


def test_a_worker_whose_loop_has_ended_leaves_the_signal_to_the_program(own_handler: list[int]) -> None:
    told = Told()

    async def end_without_close() -> None:
        told.listener.start(asyncio.get_running_loop())

    asyncio.run(end_without_close())
    signal.raise_signal(signal.SIGTERM)
    assert own_handler == [signal.SIGTERM]
    assert told.at_once == []


@pytest.mark.asyncio
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")  # from Python 3.12
async def test_a_process_that_a_job_has_forked_ends_by_its_own_signal() -> None:
    told = Told()
    told.listener.start(asyncio.get_running_loop())
    fork = multiprocessing.get_context("fork")
    ready, ours = fork.Pipe(duplex=False)
    child = fork.Process(target=_wait_for_signal, args=(ours,))
    child.start()
    try:
        assert await asyncio.to_thread(ready.poll, 20)
        child.terminate()
        await asyncio.to_thread(child.join, 20)
        assert child.exitcode == -signal.SIGTERM
        assert told.at_once == []
        assert told.in_loop.empty()
    finally:
        told.listener.stop()
        child.kill()


def _wait_for_signal(ready: Connection) -> None:
    ready.send("ready")
    signal.pause()


@pytest.mark.asyncio
async def test_a_listener_outside_the_main_thread_hears_nothing() -> None:
    told = Told()
    await asyncio.to_thread(told.listener.start, asyncio.get_running_loop())
    before = signal.getsignal(signal.SIGUSR1)
    assert before is signal.SIG_DFL
    told.listener.stop()
