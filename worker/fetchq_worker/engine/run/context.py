"""The context of one run of a job, `ctx["fetchq"]`: what the engine provides, and what the run reports back.

arq's own keys (`job_id`, `job_try`, `enqueue_time`, `score`, `redis`) are in `ctx` too.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import msgspec

KEY: Final = "fetchq"


class ReportedFailure(NamedTuple):
    """What is told of a job that failed for good although its coroutine returned."""

    error: str
    attempts: int
    url: str


class RunContext(msgspec.Struct, eq=False, gc=False):
    """One run. The first fields are set by the engine; the coroutine sets those from `extra_keys` on."""

    lease_token: str = ""
    """The fencing token of the lease; empty under the stock `arq` command, which has no leases."""
    limit_key: str = ""
    """The limit key under which the job runs; empty: none."""
    was_parked: bool = False
    """The job waited in the queue of its limit key. `ctx["score"]` is then the time at which it left that queue."""
    clock_behind_s: float = 0.0
    """By how much this machine's clock is behind Redis's."""
    deadline_passed: bool = False
    """The job's deadline has passed, or it was aborted: it runs without limits and must not do its work."""
    extra_keys: list[str] = []
    """Names under `Keys.attempts` that the run reads or writes. They are removed when the job ends."""
    result_ttl_s: float | None = None
    """How long the result is kept, 0 not at all; None: as the function or the worker says."""
    host_outcome: str = ""
    """The outcome for the limit key's record: `+` healthy, `-` unreachable, `=` neither; then a text to display."""
    dead_letter: Any = None
    """For a coroutine that returns although its job failed for good: the failure that the dead letter records in place
    of the returned value. None: no dead letter."""
    failure: ReportedFailure | None = None
    """For a coroutine that returns although its job failed for good."""
    uncounted: bool = False
    """The job goes back to the queue and this try is not counted. Read under the stock `arq` command only; the engine
    learns of it from `Snooze`."""


def run_context(ctx: dict[Any, Any]) -> RunContext:
    """The context of the run that `ctx` belongs to. Under the stock `arq` command the first call makes it."""
    run: RunContext | None = ctx.get(KEY)
    if run is None:
        run = ctx[KEY] = RunContext()
    return run
