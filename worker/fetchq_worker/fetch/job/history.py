"""What is known of a job between its runs: `fetchq:attempts:<id>` in Redis.

It exists only for a job that was tried and is not finished; the commit that finishes the job deletes it.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec
from redis.exceptions import RedisError

from fetchq import Attempt, FetchqError, FetchStatus
from fetchq.contract.wire import UNREADABLE, with_known_outcomes

RECORD_TTL_S: Final = 30 * 86_400
"""A stop against leaks: longer than any wait between two attempts."""


class HistoryUnavailable(FetchqError):
    """Redis did not read or write the record; the cause says why. The job goes back, as it may not run without it."""


class AttemptHistory(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The attempts so far, those included whose worker was lost, and whether another may have begun to act."""

    attempts: tuple[Attempt, ...] = ()
    sending: bool = False
    """A run was about to send a request that is not idempotent, and its end is not recorded."""
    queued_s: float | None = None
    """How long the job waited before its first attempt."""

    @property
    def made(self) -> int:
        """How many attempts came to an end of their own: tries and lost workers are counted apart."""
        return sum(attempt.status is not FetchStatus.WORKER_LOST for attempt in self.attempts)


_encoder: Final = msgspec.msgpack.Encoder()
_decoder: Final = msgspec.msgpack.Decoder(AttemptHistory)


async def load_history(redis: Any, key: str) -> AttemptHistory:
    """The record; an empty one if there is none. Raises `HistoryUnavailable`."""
    try:
        data = await redis.get(key)
    except (RedisError, OSError) as problem:
        raise HistoryUnavailable("the record of attempts could not be read") from problem
    return AttemptHistory() if data is None else decode_record(data)


def decode_record(data: bytes) -> AttemptHistory:
    """A record, whatever the bytes are: somebody else's tell of no attempts, nor whether a request was sent."""
    try:
        return _decoder.decode(data)
    except msgspec.ValidationError:
        return _of_another_version(data)
    except UNREADABLE:
        return AttemptHistory(sending=True)


def _of_another_version(data: bytes) -> AttemptHistory:
    """What a later version's worker wrote before the job came to this one."""
    try:
        return msgspec.convert(with_known_outcomes(msgspec.msgpack.decode(data)), AttemptHistory)
    except UNREADABLE:
        return AttemptHistory(sending=True)


async def save_history(redis: Any, key: str, record: AttemptHistory) -> None:
    """Raises `HistoryUnavailable`."""
    try:
        await redis.set(key, _encoder.encode(record), ex=RECORD_TTL_S)
    except (RedisError, OSError) as problem:
        raise HistoryUnavailable("the record of attempts could not be written") from problem
