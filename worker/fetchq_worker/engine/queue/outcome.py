"""The outcome of a run: what the commit does with the job."""

from __future__ import annotations

import asyncio
from enum import StrEnum
from typing import Final

import msgspec

from .lease import Lease


class Action(StrEnum):
    """What `lua/jobs/commit.lua` does with the job."""

    FINISH = "finish"
    CLEAN = "clean"
    """Finished in its first try, with nothing in Redis but payload and lease: there is less to remove."""
    MISSING = "missing"
    """Finished because its payload is missing. An existing result stays: its id was enqueued again after it
    finished."""
    RETRY = "retry"
    REQUEUE = "requeue"
    """Back to the queue, and the try is not counted."""
    REQUEUE_WITH_KEYS = "requeue_with_keys"
    """The same for a job with extra keys, so that the next claim reports them and they are removed at its end."""


ENDING: Final = (Action.CLEAN, Action.FINISH, Action.MISSING)
"""The actions that end the job."""


class Outcome(msgspec.Struct, eq=False, gc=False):
    """The outcome of one run."""

    lease: Lease
    action: Action
    result: bytes = b""
    result_ttl_ms: int | None = 0
    """How long the result is stored; None: without expiry; 0: not at all."""
    defer_ms: int | None = None
    """In how many ms a job that is not finished is due; None: at its original score."""
    marker_ms: int | None = None
    """How long the in-progress key outlasts the job: arq's guard against a cron job that runs twice."""
    host_outcome: str = ""
    """The outcome for the limit key's record (`run.context.RunContext.host_outcome`)."""
    dead_letter: bytes = b""
    """The dead letter of a job that ends here (`run.dead_letters`); empty: none."""
    figure: str = ""
    """The field that counts the job if it ends here (`fetchq.telemetry.ends`)."""
    committed: asyncio.Future[None] | None = None
    """Set by a caller that waits for the commit; done when the outcome is in Redis."""
    size_bytes: int = 0
    """Bytes that it adds to a commit: the result, and a dead letter with its copy of the payload. Set by the
    committer."""
