"""Dead letters: what is kept of a job that failed for good, so that a person can look at it and run it again.

The commit that ends the job writes its letter too, from the payload that stands in Redis and from what is said here
(`lua/commit.lua`; docs/job-contract.md). Reading, retrying and purging are the producer's (`fetchq/dead.py`).
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Final

from fetchq.contract.wire import as_failure, serialize
from fetchq.store.engine_scripts import Script
from fetchq.store.keys import Keys

if TYPE_CHECKING:
    from .runner import Job

logger = logging.getLogger("fetchq.engine")

DEFAULT_TTL_S: Final = 30 * 86_400.0
MAX_SAID_BYTES: Final = 256 << 10
"""What a coroutine may have kept of its end, at most; more is replaced by a sentence."""
MAX_MESSAGE_CHARS: Final = 4000
TRIMMED_A_CALL: Final = 1000


class DeadLetters:
    """How long letters are kept, and how many: the newest `most` of a queue. None at all with a `most` of 0."""

    def __init__(self, keys: Keys, *, ttl_s: float, most: int) -> None:
        """Raises `ValueError`."""
        if not ttl_s > 0:
            raise ValueError(f"dead_letter_ttl_s is {ttl_s}: it is a time; dead_letter_max=0 keeps none")
        if most < 0:
            raise ValueError(f"dead_letter_max is {most}: it is a number of letters, or 0")
        self.most: Final = most
        self.ttl_ms: Final = max(1, round(ttl_s * 1000))
        self._redis_keys: Final = (keys.dead,)
        self._args: Final = ("", keys.dead_letter, self.ttl_ms, most, TRIMMED_A_CALL)

    def __repr__(self) -> str:
        return f"<DeadLetters ttl_ms={self.ttl_ms} most={self.most}>"

    async def trim(self, script: Script) -> None:
        """Forgets some of those that are too old or too many."""
        if self.most:
            await script(self._redis_keys, self._args)

    def said_of_return(self, job: Job, failure: Any, now_ms: int) -> bytes:
        """The dead letter of a job whose coroutine returned and reported `failure`; empty if none are kept."""
        return _said(job, True, failure, now_ms) if self.most else b""

    def said_of_failure(self, job: Job, problem: BaseException, now_ms: int) -> bytes:
        """What the letter of a job says that raised, or that could not be run; empty if it is to have none."""
        return _said(job, False, _bounded(problem), now_ms) if self.most else b""


def _said(job: Job, success: bool, value: Any, now_ms: int) -> bytes:
    head: dict[str, Any] = {"f": job.name[:MAX_MESSAGE_CHARS], "t": job.tries, "st": job.start_ms, "ft": now_ms}
    try:
        said = serialize({**head, "s": success, "r": value})
    except (TypeError, ValueError, OverflowError, RecursionError) as problem:
        said, why = b"", f"what it said of its end has no form on the wire: {problem}"
    else:
        why = f"what it said of its end has {len(said)} bytes, {MAX_SAID_BYTES} is the most"
    if said and len(said) <= MAX_SAID_BYTES:
        return said
    logger.error("dead_letter.cut job=%s: %s", job.lease.id, why)
    return serialize({**head, "s": False, "r": {"type": "DeadLetterCut", "message": why[:MAX_MESSAGE_CHARS]}})


def _bounded(problem: BaseException) -> dict[str, str]:
    """The failure as it stands in a result; its message may hold anything, and megabytes of it."""
    failure = as_failure(problem)
    message = failure["message"]
    if len(message) > MAX_MESSAGE_CHARS:
        message = f"{message[: MAX_MESSAGE_CHARS - 3]}..."
    return {"type": failure["type"], "message": message.encode("utf-8", "replace").decode()}
