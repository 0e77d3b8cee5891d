"""How a worker stops: on which signal, what it says, and what happens if it cannot."""

from __future__ import annotations

import asyncio
import logging
import signal
from signal import Signals
from typing import Final, Protocol

from redis.asyncio import Redis

from fetchq.inspect.workers import WorkerState
from fetchq.store.connection import connect_again
from fetchq.store.runner import ScriptRunners
from fetchq_worker.engine.queue.commit import Committer
from fetchq_worker.engine.queue.lease import Leases
from fetchq_worker.engine.queue.outcome import Action, Outcome

from .drain import CANCELLED_RUN_S, LAST_COMMIT_S
from .exit_guard import ExitGuard
from .signals import REQUESTS, Request, SignalListener

logger = logging.getLogger("fetchq.engine")

MARGIN_S: Final = 0.5
"""A worker that is not stuck is done with a step within this time after its limit."""
LAST_HOOK_S: Final = 3.0
"""For signing off and `on_shutdown`, once the worker was told to stop."""
APART_TIMEOUT_S: Final = 2.0


class StopHost(Protocol):
    """The worker, as its stop sees it."""

    loop: asyncio.AbstractEventLoop
    stopping: bool
    leases: Leases
    committer: Committer

    @property
    def pool(self) -> Redis: ...

    @property
    def running_count(self) -> int: ...

    @property
    def is_active(self) -> bool:
        """It runs or is being closed: a signal is for it."""

    def handle_sig(self, signum: Signals) -> None: ...

    def handle_sig_wait_for_completion(self, signum: Signals) -> None: ...

    def on_state_change(self) -> None:
        """Writes the worker's record soon, and claims again if it may."""


class Stop:
    """The signals of one worker, and the guard that ends its process."""

    def __init__(self, host: StopHost, *, grace_s: float) -> None:
        self._host = host
        self.grace_s = grace_s
        self.requested = False
        """A signal asked the worker to stop."""
        self.quiet = False
        """A signal asked it to claim no more."""
        self.again_hurries = True
        """Whether a second signal to stop asks to stop at once. Not for the child of a supervisor: that says so."""
        self._told = 0
        self._listener = SignalListener(at_once=self._expect_end, in_loop=self._obey)
        self._guard = ExitGuard(self._return_jobs)

    @property
    def state(self) -> WorkerState:
        if self.requested or self._host.stopping:
            return WorkerState.STOPPING
        return WorkerState.QUIET if self.quiet else WorkerState.RUNNING

    def listen(self) -> None:
        """Called when the worker begins, also once more after it was stopped."""
        self.requested = self.quiet = False
        self._told = 0
        self._listener.start(self._host.loop)

    def main_ended(self) -> None:
        """The process may go on with other work until `close` is called."""
        self._guard.disarm()

    def close_begins(self) -> None:
        if self.requested:
            self._guard.arm(CANCELLED_RUN_S + MARGIN_S)

    def runs_ended(self) -> None:
        if self.requested:
            self._guard.arm(LAST_COMMIT_S + LAST_HOOK_S + MARGIN_S)

    def closed(self) -> None:
        self._guard.disarm()
        self._listener.stop()

    def end_process(self) -> None:
        """The process has only to exit, and does so although a thread or a task of a job has not ended."""
        if self.requested:
            self._guard.arm(MARGIN_S)

    def _expect_end(self, number: Signals) -> None:
        """Called by the signal handler: no locks, no log."""
        request = REQUESTS[number]
        if request not in (Request.STOP, Request.STOP_NOW):
            return
        if self._host.is_active:
            if self._told and not self._is_at_once(request, again=True):
                return
            grace_s = 0.0 if self._is_at_once(request, again=self._told > 0) else self.grace_s
            self._guard.arm(grace_s + CANCELLED_RUN_S + MARGIN_S)
        self._told += 1

    def _obey(self, number: Signals) -> None:
        """Called in the event loop."""
        host, request = self._host, REQUESTS[number]
        if request is Request.QUIET or request is Request.RESUME:
            self._set_quiet(request is Request.QUIET, number)
            return
        running = host.running_count
        if not (host.is_active or running):  # it is not this worker that is told
            self._listener.stop()
            signal.raise_signal(number)
            return
        again, self.requested = self.requested, True
        at_once = self._is_at_once(request, again=again)
        if again and not at_once:
            return
        if not running:
            logger.info("worker.stopping signal=%s: 0 running", number.name)
            host.handle_sig(number)
        elif at_once or not self.grace_s:
            logger.info("worker.stopping signal=%s: %d running, returned to the queue now", number.name, running)
            host.handle_sig(number)
        else:
            logger.info(
                "worker.stopping signal=%s: %d running, up to %g s; signal again to return them now",
                number.name,
                running,
                self.grace_s,
            )
            host.handle_sig_wait_for_completion(number)
        host.on_state_change()

    def _is_at_once(self, request: Request, *, again: bool) -> bool:
        return request is Request.STOP_NOW or (again and self.again_hurries)

    def _set_quiet(self, quiet: bool, number: Signals) -> None:
        if quiet == self.quiet or self.requested:
            return
        self.quiet = quiet
        if quiet:
            logger.info(
                "worker.quiet signal=%s: %d running, and no more are claimed until SIGCONT",
                number.name,
                self._host.running_count,
            )
        else:
            logger.info("worker.resumed signal=%s", number.name)
        self._host.on_state_change()

    def _return_jobs(self) -> int:
        """Called in a thread of the guard, while the worker's event loop is blocked or its hooks do not end."""
        return asyncio.run(self._return_apart()) if self._host.is_active else 0

    async def _return_apart(self) -> int:
        host = self._host
        redis = connect_again(host.pool)
        try:
            async with asyncio.timeout(APART_TIMEOUT_S):
                runners = ScriptRunners.on(redis, timeout_s=APART_TIMEOUT_S, heartbeat_timeout_s=APART_TIMEOUT_S)
                requeued = (Outcome(lease, Action.REQUEUE) for lease in tuple(host.leases))
                return await host.committer.commit_apart(runners.jobs, requeued)
        finally:
            await redis.aclose()
