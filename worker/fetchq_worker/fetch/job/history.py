"""The attempts of a job between its runs: `fetchq:attempts:<id>` in Redis.

The key exists while a job was tried and is not finished. The commit that finishes the job deletes it.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec
from redis.exceptions import RedisError

from fetchq import Attempt, FetchStatus
from fetchq.contract.wire import UNREADABLE, with_known_outcomes
from fetchq_worker.fetch.http.errors import SendingAborted

HISTORY_TTL_S: Final = 30 * 86_400
"""A safeguard against leaked keys: longer than any delay between two attempts."""


class HistoryUnavailable(SendingAborted):
    """Redis did not read or write the history; the cause says why. The job must not run without it."""


class AttemptHistory(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The attempts so far, including WORKER_LOST ones, and whether a request may have been sent since."""

    attempts: tuple[Attempt, ...] = ()
    sending: bool = False
    """A run was about to send a request that is not idempotent, and its end is not recorded."""
    queued_s: float | None = None
    """How long the job waited before its first attempt."""

    @property
    def made(self) -> int:
        """The number of attempts that ended normally. Lost workers are counted separately."""
        return sum(attempt.status is not FetchStatus.WORKER_LOST for attempt in self.attempts)


_encoder: Final = msgspec.msgpack.Encoder()
_decoder: Final = msgspec.msgpack.Decoder(AttemptHistory)


async def load_history(redis: Any, key: str) -> AttemptHistory:
    """The history, empty if there is none. Raises `HistoryUnavailable`."""
    try:
        data = await redis.get(key)
    except (RedisError, OSError) as problem:
        raise HistoryUnavailable("the history of attempts could not be read") from problem
    return AttemptHistory() if data is None else decode_history(data)


def decode_history(data: bytes) -> AttemptHistory:
    """Decodes any bytes. Unreadable ones count as no attempts, but a request may have been sent."""
    try:
        return _decoder.decode(data)
    except msgspec.ValidationError:
        return _of_newer_version(data)
    except UNREADABLE:
        return AttemptHistory(sending=True)


def _of_newer_version(data: bytes) -> AttemptHistory:
    """The history as a newer version's worker wrote it."""
    try:
        return msgspec.convert(with_known_outcomes(msgspec.msgpack.decode(data)), AttemptHistory)
    except UNREADABLE:
        return AttemptHistory(sending=True)


async def save_history(redis: Any, key: str, history: AttemptHistory) -> None:
    """Raises `HistoryUnavailable`."""
    try:
        await redis.set(key, _encoder.encode(history), ex=HISTORY_TTL_S)
    except (RedisError, OSError) as problem:
        raise HistoryUnavailable("the history of attempts could not be written") from problem
