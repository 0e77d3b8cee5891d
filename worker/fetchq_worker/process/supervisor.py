"""Runs several worker processes: starts them, restarts those that die, and forwards signals.

No child outlives the supervisor: the stdin of each is a pipe, and when its other end closes, for whatever reason, the
child stops as on SIGTERM (`stop_with_supervisor`).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
from asyncio.subprocess import PIPE, Process
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Final

from fetchq_worker.settings import SUPERVISED_ENV

BACKOFF_S: Final = (0.1, 0.5, 1.0, 5.0, 15.0, 30.0)
"""Delays before the first, second and later restarts of a process that dies repeatedly."""
STABLE_S: Final = 60.0
"""A process that ran this long counts as started; the next restart is the first again."""
FATAL_STATUSES: Final = frozenset({2, 3})
"""Exit statuses for wrong usage and no Redis: a first start that ends with one is not repeated."""
KILL_AFTER_S: Final = 10.0
"""Time after its grace time at which a stopping child is killed."""

_log = logging.getLogger("fetchq.supervisor")


class Supervisor:
    """Runs `command` in `processes` children until they have ended or `stop` is called."""

    def __init__(
        self, command: Sequence[str], processes: int, *, grace_s: float, env: Mapping[str, str] | None = None
    ) -> None:
        self._command = tuple(command)
        self._processes = processes
        self._grace_s = grace_s
        self._env = {**(os.environ if env is None else env), SUPERVISED_ENV: "1"}
        self._children: dict[int, Process] = {}
        self._stopping = asyncio.Event()

    def __repr__(self) -> str:
        return f"<Supervisor running={len(self._children)} of={self._processes}>"

    @property
    def pids(self) -> list[int]:
        """The processes that run."""
        return list(self._children)

    @property
    def missing(self) -> int:
        """How many processes should run and do not: they have died, and their restart is due later."""
        return 0 if self._stopping.is_set() else self._processes - len(self._children)

    async def run(self) -> int:
        """Returns 0, or the exit status of a child that cannot start.

        SIGTERM and SIGINT stop the children; a second signal kills them.
        """
        with self._signals():
            statuses = await asyncio.gather(*(self._keep_running(number) for number in range(self._processes)))
        return next((status for status in statuses if status), 0)

    def stop(self) -> None:
        """Stops the children and restarts none; a second call kills them."""
        again = self._stopping.is_set()
        self._stopping.set()
        for child in self._children.values():
            _send(child, signal.SIGKILL if again else signal.SIGTERM)

    async def _keep_running(self, number: int) -> int:
        """Runs one child, and replaces it whenever it dies. A child that exits with 0 is not replaced."""
        loop = asyncio.get_running_loop()
        deaths = 0
        ever_stable = False
        while not self._stopping.is_set():
            began = loop.time()
            status = await self._run_child(number)
            if status == 0 or self._stopping.is_set():
                break
            ever_stable = ever_stable or loop.time() - began >= STABLE_S
            if status in FATAL_STATUSES and not ever_stable and deaths == 0:
                self.stop()
                return status
            deaths = 0 if loop.time() - began >= STABLE_S else deaths
            delay_s = BACKOFF_S[min(deaths, len(BACKOFF_S) - 1)]
            deaths += 1
            _log.error("worker.died number=%d status=%s restart_in_s=%g", number, _shown(status), delay_s)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(delay_s):
                    await self._stopping.wait()
        return 0

    async def _run_child(self, number: int) -> int:
        # In its own session: Ctrl-C on a terminal must reach the child only through the supervisor.
        child = await asyncio.create_subprocess_exec(*self._command, stdin=PIPE, env=self._env, start_new_session=True)
        self._children[child.pid] = child
        _log.info("worker.started number=%d pid=%d", number, child.pid)
        if self._stopping.is_set():  # `stop` was called while it started
            _send(child, signal.SIGTERM)
        ending = asyncio.create_task(self._kill_when_late(child))
        try:
            return await child.wait()
        finally:
            ending.cancel()
            del self._children[child.pid]
            if child.returncode is None:  # this task was cancelled
                _send(child, signal.SIGKILL)

    async def _kill_when_late(self, child: Process) -> None:
        await self._stopping.wait()
        await asyncio.sleep(self._grace_s + KILL_AFTER_S)
        _log.error("worker.killed pid=%d reason=grace_time_over", child.pid)
        _send(child, signal.SIGKILL)

    @contextmanager
    def _signals(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        for signum in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(signum, self.stop)
        try:
            yield
        finally:
            for signum in (signal.SIGTERM, signal.SIGINT):
                loop.remove_signal_handler(signum)


def stop_with_supervisor() -> None:
    """In a child: sends itself SIGTERM when the supervisor has ended. Without a supervisor, does nothing."""
    if not os.environ.pop(SUPERVISED_ENV, ""):
        return
    loop = asyncio.get_running_loop()

    def on_readable() -> None:
        if not os.read(0, 1):
            loop.remove_reader(0)
            os.kill(os.getpid(), signal.SIGTERM)

    loop.add_reader(0, on_readable)


def _send(child: Process, signum: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):  # it has just ended
        child.send_signal(signum)


def _shown(status: int) -> str:
    return signal.Signals(-status).name if status < 0 else str(status)
