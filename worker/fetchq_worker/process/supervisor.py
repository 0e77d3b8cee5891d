"""Several worker processes under one: it starts them, restarts what dies, and passes signals on.

A child that outlived its supervisor would be found by no operator, so each holds one end of a pipe (its stdin) and
stops in good order when the other end closes, whatever closed it (`stop_with_supervisor`).
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

SUPERVISED_ENV: Final = "FETCHQ_SUPERVISED"
"""Set for the children: their stdin is the supervisor's pipe."""

BACKOFF_S: Final = (0.1, 0.5, 1.0, 5.0, 15.0, 30.0)
"""Before the first restart, the second, and so on, of a process that keeps dying."""
SETTLED_S: Final = 60.0
"""A process that has lived for this long did not fail to start."""
HOPELESS: Final = frozenset({2, 3})
"""Wrong usage, no Redis: a first start that ends so would end so again."""
KILL_AFTER_S: Final = 10.0
"""How long after its own grace time a child that was told to stop is killed."""

_log = logging.getLogger("fetchq.supervisor")


class Supervisor:
    """Runs `command` in `processes` children until they have ended or it is told to stop."""

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

    async def run(self) -> int:
        """Returns the exit status for the whole: 0, or that of a child that cannot run at all.

        SIGTERM and SIGINT stop the children and then this; a second one kills them.
        """
        with self._signals():
            statuses = await asyncio.gather(*(self._keep_running(number) for number in range(self._processes)))
        return next((status for status in statuses if status), 0)

    def stop(self) -> None:
        """Tells the children to stop and restarts none of them; called again, kills them."""
        again = self._stopping.is_set()
        self._stopping.set()
        for child in self._children.values():
            _send(child, signal.SIGKILL if again else signal.SIGTERM)

    async def _keep_running(self, number: int) -> int:
        """One place of the `processes`: a child, and another when it dies. A child that ends well is not replaced."""
        loop = asyncio.get_running_loop()
        deaths = 0
        ever_settled = False
        while not self._stopping.is_set():
            began = loop.time()
            status = await self._run_child(number)
            if status == 0 or self._stopping.is_set():
                break
            ever_settled = ever_settled or loop.time() - began >= SETTLED_S
            if status in HOPELESS and not ever_settled and deaths == 0:
                self.stop()
                return status
            deaths = 0 if loop.time() - began >= SETTLED_S else deaths
            delay_s = BACKOFF_S[min(deaths, len(BACKOFF_S) - 1)]
            deaths += 1
            _log.error("worker.died number=%d status=%s restart_in_s=%g", number, _shown(status), delay_s)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(delay_s):
                    await self._stopping.wait()
        return 0

    async def _run_child(self, number: int) -> int:
        # A session of its own: Ctrl-C on a terminal reaches all of this one, and it is ours to pass on.
        child = await asyncio.create_subprocess_exec(*self._command, stdin=PIPE, env=self._env, start_new_session=True)
        self._children[child.pid] = child
        _log.info("worker.started number=%d pid=%d", number, child.pid)
        if self._stopping.is_set():  # told while it was being started
            _send(child, signal.SIGTERM)
        ending = asyncio.create_task(self._kill_when_late(child))
        try:
            return await child.wait()
        finally:
            ending.cancel()
            del self._children[child.pid]
            if child.returncode is None:  # this very task was cancelled
                _send(child, signal.SIGKILL)

    async def _kill_when_late(self, child: Process) -> None:
        await self._stopping.wait()
        await asyncio.sleep(self._grace_s + KILL_AFTER_S)
        _log.error("worker.killed pid=%d it did not stop within its grace time", child.pid)
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
    """In a child: SIGTERM to oneself when the supervisor has gone. Without a supervisor, nothing."""
    if not os.environ.pop(SUPERVISED_ENV, ""):
        return
    loop = asyncio.get_running_loop()

    def heed() -> None:
        if not os.read(0, 1):
            loop.remove_reader(0)
            os.kill(os.getpid(), signal.SIGTERM)

    loop.add_reader(0, heed)


def _send(child: Process, signum: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):  # it has just ended by itself
        child.send_signal(signum)


def _shown(status: int) -> str:
    return signal.Signals(-status).name if status < 0 else str(status)
