"""Runs several worker processes: starts them, replaces those that end unasked, and forwards signals.

The stdin of each child is a socket to the supervisor. A child says on it how long its running jobs may take, and how
it ends (`Report`): its exit status tells nothing, since a job may end the process with any. No child outlives the
supervisor: when the other end closes, for whatever reason, the child stops as on SIGTERM (`SupervisorLink`).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
from asyncio.subprocess import Process
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from enum import Enum
from signal import Signals
from typing import Final

from fetchq import FetchqError
from fetchq_worker.engine.stopping.signals import ALWAYS_HANDLED, REQUESTS, Request
from fetchq_worker.settings import SUPERVISED_ENV

BACKOFF_S: Final = (0.1, 0.5, 1.0, 5.0, 15.0, 30.0)
"""Delays before the first, second and later restarts of a process that ends repeatedly."""
STABLE_S: Final = 60.0
"""A process that ran this long counts as started; the next restart is the first again."""
KILL_AFTER_S: Final = 15.0
"""Time after its grace time at which a stopping child is killed. Children that can run end themselves before."""

AT_ONCE: Final = getattr(signal, "SIGQUIT", signal.SIGTERM)
MAX_SAID_BYTES: Final = 100

_log = logging.getLogger("fetchq.supervisor")


class Report(Enum):
    """What a child says of its end."""

    FINISHED = b"f"
    """Its burst is over: it is not replaced."""
    STOPPED = b"s"
    """A signal stopped it. If the supervisor did not send it, it is replaced, as every other child."""
    ENDED = b"e"
    """Its main task ended otherwise: it is replaced."""
    CANNOT_START = b"x"
    """Wrong usage, or no Redis: at a first start, the others are not started either."""


class _Child:
    """One worker process, and the supervisor's end of its socket."""

    def __init__(self, number: int, process: Process, link: socket.socket) -> None:
        self.number = number
        self.process = process
        self._link = link
        self._said = b""
        self.began_at = asyncio.get_running_loop().time()

    def send(self, signum: Signals) -> None:
        with contextlib.suppress(ProcessLookupError):  # it has just ended
            self.process.send_signal(signum)

    async def wait(self) -> Report | None:
        """Returns when it has ended. None: it was not asked to, nor did it say why."""
        try:
            await self.process.wait()
            self._listen()
            with contextlib.suppress(ValueError):
                return Report(self._said[-1:])
            return None
        finally:
            self._link.close()

    @property
    def grace_s(self) -> float:
        """The grace time of its worker, which a settings class can set; 0 if it has not said it."""
        self._listen()
        grace_s = self._said.partition(b"\n")[0]
        return float(grace_s) if b"\n" in self._said else 0.0

    def _listen(self) -> None:
        with contextlib.suppress(OSError):
            while data := self._link.recv(MAX_SAID_BYTES - len(self._said)):
                self._said += data

    @property
    def run_s(self) -> float:
        return asyncio.get_running_loop().time() - self.began_at

    @property
    def status(self) -> str:
        """Its exit status, or the name of the signal that ended it."""
        status = self.process.returncode
        return Signals(-status).name if status is not None and status < 0 else f"{status}"


class Supervisor:
    """Runs `command` in `processes` children until they have ended or `stop` is called."""

    def __init__(
        self, command: Sequence[str], processes: int, *, grace_s: float, env: Mapping[str, str] | None = None
    ) -> None:
        self._command = tuple(command)
        self._processes = processes
        self._grace_s = grace_s
        self._env = {**(os.environ if env is None else env), SUPERVISED_ENV: "1"}
        self._children: set[_Child] = set()
        self.missing = 0
        """How many processes should run and do not: they have ended, and their restart is due later."""
        self._stopping = asyncio.Event()
        self._kill_timer: asyncio.TimerHandle | None = None

    def __repr__(self) -> str:
        return f"<Supervisor running={len(self._children)} of={self._processes}>"

    @property
    def pids(self) -> dict[int, int]:
        """The processes that run, by their number from 0. One that replaces another has its number."""
        return {child.number: child.process.pid for child in sorted(self._children, key=lambda child: child.number)}

    async def run(self) -> int:
        """Returns 0; the exit status of a child that cannot start; or 1 if a child was waiting for its restart.

        Signals are forwarded. Those that stop a worker stop all of them: the second one makes the children return
        their jobs at once. A child is killed only if it has not ended `KILL_AFTER_S` after the time that it has.
        """
        try:
            with self._signals():
                statuses = await asyncio.gather(*(self._keep_running(number) for number in range(self._processes)))
        finally:
            if self._kill_timer is not None:
                self._kill_timer.cancel()
        return next((status for status in statuses if status), 0)

    def stop(self, signum: Signals = signal.SIGTERM) -> None:
        """Stops the children and restarts none. A second call makes them return their jobs at once.

        It sends SIGQUIT for that: systemd signals all processes of a service, so a child gets the same signal from it
        and from the supervisor, and twice the same is no second request.
        """
        again = self._stopping.is_set() or REQUESTS.get(signum) is Request.STOP_NOW
        self._stopping.set()
        _log.info("supervisor.stopping signal=%s children=%d", signum.name, len(self._children))
        for child in self._children:
            child.send(AT_ONCE if again else signum)
        if self._kill_timer is not None:
            self._kill_timer.cancel()
        grace_s = 0.0 if again else max([self._grace_s, *(child.grace_s for child in self._children)])
        after_s = grace_s + KILL_AFTER_S
        self._kill_timer = asyncio.get_running_loop().call_later(after_s, self._kill)

    def _kill(self) -> None:
        for child in self._children:
            _log.error("worker.killed number=%d pid=%d: it has not stopped in time", child.number, child.process.pid)
            child.send(signal.SIGKILL)

    async def _keep_running(self, number: int) -> int:
        """Runs one child, and replaces it whenever it ends and was not asked to."""
        deaths = 0
        ever_stable = False
        while not self._stopping.is_set():
            child = await self._start(number)
            report = await self._wait_end(child)
            if report is Report.FINISHED or self._stopping.is_set():
                return 0
            is_stable = child.run_s >= STABLE_S
            ever_stable = ever_stable or is_stable
            if report is Report.CANNOT_START and not ever_stable and deaths == 0:
                self.stop()
                return child.process.returncode or 1
            deaths = 0 if is_stable else deaths
            delay_s = BACKOFF_S[min(deaths, len(BACKOFF_S) - 1)]
            deaths += 1
            _log.error(
                "worker.ended number=%d pid=%d status=%s run_s=%.1f restart_in_s=%g: %s",
                number,
                child.process.pid,
                child.status,
                child.run_s,
                delay_s,
                "a signal to it alone" if report is Report.STOPPED else "nobody told it to stop",
            )
            self.missing += 1
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(delay_s):
                    await self._stopping.wait()
            self.missing -= 1
            if report is Report.STOPPED and self._stopping.is_set():  # the signal was for all of them
                return 0
        return 1

    async def _start(self, number: int) -> _Child:
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        with theirs:
            # In its own session: Ctrl-C on a terminal must reach the child only through the supervisor.
            process = await asyncio.create_subprocess_exec(
                *self._command, stdin=theirs.fileno(), env=self._env, start_new_session=True
            )
        child = _Child(number, process, ours)
        _log.info("worker.started number=%d pid=%d", number, process.pid)
        if self._stopping.is_set():  # `stop` was called while it started
            child.send(signal.SIGTERM)
        return child

    async def _wait_end(self, child: _Child) -> Report | None:
        self._children.add(child)
        try:
            return await child.wait()
        finally:
            self._children.remove(child)
            if child.process.returncode is None:  # this task was cancelled
                child.send(signal.SIGKILL)

    def _on_signal(self, signum: Signals) -> None:
        if REQUESTS[signum] in (Request.STOP, Request.STOP_NOW):
            self.stop(signum)
            return
        for child in self._children:
            child.send(signum)

    @contextmanager
    def _signals(self) -> Iterator[None]:
        """As a worker handles them: some only if they have their default action."""
        loop = asyncio.get_running_loop()
        handled = [one for one in REQUESTS if one in ALWAYS_HANDLED or signal.getsignal(one) is signal.SIG_DFL]
        for signum in handled:
            loop.add_signal_handler(signum, self._on_signal, signum)
        try:
            yield
        finally:
            for signum in handled:
                loop.remove_signal_handler(signum)


class SupervisorLink:
    """A child's end. Without a supervisor, it does nothing."""

    def __init__(self) -> None:
        self.is_supervised = bool(os.environ.pop(SUPERVISED_ENV, ""))
        self._has_reported = False

    def stop_with_supervisor(self) -> None:
        """Sends this process SIGTERM when the supervisor has ended."""
        if not self.is_supervised:
            return
        loop = asyncio.get_running_loop()

        def on_readable() -> None:
            with contextlib.suppress(ConnectionError):
                if os.read(0, 1):
                    return
            loop.remove_reader(0)
            os.kill(os.getpid(), signal.SIGTERM)

        loop.add_reader(0, on_readable)

    @contextmanager
    def reporting_errors(self) -> Iterator[None]:
        """Reports an error of fetchq. Only a start raises one: a worker that runs waits for Redis."""
        try:
            yield
        except FetchqError:
            self.report(Report.CANNOT_START)
            raise

    def report(self, report: Report) -> None:
        """The first report counts."""
        if not self._has_reported:
            self._has_reported = True
            self._say(report.value)

    def report_grace(self, grace_s: float) -> None:
        """To be called once, before `report`."""
        self._say(b"%f\n" % grace_s)

    def _say(self, data: bytes) -> None:
        if self.is_supervised:
            with contextlib.suppress(OSError):  # the supervisor has ended
                os.write(0, data)
