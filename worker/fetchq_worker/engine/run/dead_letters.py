"""Dead letters: the record of a job that failed for good, from which it can be examined and run again.

The commit that ends the job writes its dead letter too, from the payload in Redis and from what is encoded here
(`lua/jobs/commit.lua`; docs/job-contract.md). Producers read, retry and purge them.
"""

from __future__ import annotations

import logging
from typing import Any, Final

from fetchq.contract.wire import as_failure, serialize
from fetchq.store.commands import DeadLetterCommands
from fetchq.store.keys import Keys
from fetchq.store.runner import ScriptRunner

from .job import Job, now_ms

logger = logging.getLogger("fetchq.engine")

DEFAULT_TTL_S: Final = 30 * 86_400.0
MAX_ENCODED_BYTES: Final = 256 << 10
"""Maximum size of a reported failure; a larger one is replaced by a sentence."""
MAX_MESSAGE_CHARS: Final = 4000
TRIMMED_A_CALL: Final = 1000


class DeadLetterWriter:
    """Encodes and trims the dead letters of a queue: kept for `ttl_s`, the newest `max_count`; 0: none at all."""

    def __init__(self, keys: Keys, *, ttl_s: float, max_count: int) -> None:
        """Raises `ValueError`."""
        if not ttl_s > 0:
            raise ValueError(f"dead_letter_ttl_s is {ttl_s}, not a time above 0; dead_letter_max=0 keeps none")
        if max_count < 0:
            raise ValueError(f"dead_letter_max is {max_count}, not a number of dead letters or 0")
        self.max_count: Final = max_count
        self.ttl_ms: Final = max(1, round(ttl_s * 1000))
        self._commands: Final = DeadLetterCommands(keys)

    def __repr__(self) -> str:
        return f"<DeadLetterWriter ttl_ms={self.ttl_ms} max_count={self.max_count}>"

    async def trim(self, runner: ScriptRunner) -> None:
        """Deletes dead letters that are too old or exceed `max_count`, some at a time."""
        if self.max_count:
            await self._commands.trim(runner, ttl_ms=self.ttl_ms, max_count=self.max_count, count=TRIMMED_A_CALL)

    def encoded_report(self, job: Job) -> bytes:
        """The dead letter of a job whose coroutine returned; empty if it reported no failure or none are kept."""
        reported = job.run.dead_letter if job.run is not None and self.max_count else None
        return b"" if reported is None else _encoded(job, True, reported)

    def encoded_failure(self, job: Job, problem: BaseException) -> bytes:
        """The dead letter of a job that raised or that could not be run; empty if none are kept."""
        return _encoded(job, False, _bounded(problem)) if self.max_count else b""


def _encoded(job: Job, success: bool, value: Any) -> bytes:
    head: dict[str, Any] = {"f": job.name[:MAX_MESSAGE_CHARS], "t": job.tries, "st": job.start_ms, "ft": now_ms()}
    try:
        encoded = serialize({**head, "s": success, "r": value})
    except (TypeError, ValueError, OverflowError, RecursionError) as problem:
        encoded, why = b"", f"the failure that the job reported cannot be encoded: {problem}"
    else:
        why = f"the failure that the job reported has {len(encoded)} bytes, {MAX_ENCODED_BYTES} is the most"
    if encoded and len(encoded) <= MAX_ENCODED_BYTES:
        return encoded
    logger.error("dead_letter.cut job=%s: %s", job.lease.id, why)
    return serialize({**head, "s": False, "r": {"type": "DeadLetterCut", "message": why[:MAX_MESSAGE_CHARS]}})


def _bounded(problem: BaseException) -> dict[str, str]:
    """The failure as in a result, its message cut."""
    failure = as_failure(problem)
    message = failure["message"]
    if len(message) > MAX_MESSAGE_CHARS:
        message = f"{message[: MAX_MESSAGE_CHARS - 3]}..."
    return {"type": failure["type"], "message": message}
