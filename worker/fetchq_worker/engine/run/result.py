"""Encodes results in arq's format, and decides how long each is stored."""

from __future__ import annotations

import logging
import pickle
from contextlib import suppress
from functools import lru_cache
from typing import Any, Final

import msgspec
from arq.cron import CronJob
from arq.jobs import Serializer
from arq.worker import Function

from fetchq.contract.wire import FinishedJob, encode_finished, serialize

from .job import Job, now_ms
from .raised import readable, told

logger = logging.getLogger("arq.worker")

MAX_RESULT_BYTES: Final = 256 << 20
"""Redis closes the connection for a value above 512 MB, and all other commands on it are lost."""
MAX_TTL_MS: Final = 1 << 52

_NUMBER: Final = (int, float)


class _TooLarge(Exception):
    """The encoded result is larger than `MAX_RESULT_BYTES`."""


class ResultEncoder:
    """Encodes the results of one worker."""

    def __init__(self, serializer: Serializer | None, *, queue: str, keep_s: float | None, keep_forever: bool) -> None:
        """`keep_s` and `keep_forever` apply to functions that set neither."""
        self._serializer = serializer
        self._queue = queue
        self._keep_s = keep_s
        self._keep_forever = keep_forever

    def ttl_ms(self, job: Job, function: Function | CronJob | None) -> int | None:
        """How long the result is kept: as the run reported, else as its function says, else as the worker says.

        None: without expiry.
        """
        own = job.run and job.run.result_ttl_s
        if isinstance(own, _NUMBER):
            return _to_ttl_ms(own)
        forever = function.keep_result_forever if function is not None else None
        if self._keep_forever if forever is None else forever:
            return None
        keep_s = function.keep_result_s if function is not None else None
        return _to_ttl_ms(self._keep_s if keep_s is None else keep_s)

    def encode(self, job: Job, success: bool, value: Any) -> bytes:
        """The bytes to store; empty if neither the result nor an error can be encoded.

        A value that cannot be encoded becomes a failure that says so, as with arq. The type and the message of an
        exception always arrive.
        """
        if not success and self._serializer is not serialize:
            value = readable(value, pickled=self._serializer is None)
        try:
            return self._encoded(job, success, value)
        except BaseException as problem:  # value and serializer are the user's
            logger.warning("error serializing result of %s", job.ref or job.lease.id, exc_info=True)
            reason = str(problem) if isinstance(problem, _TooLarge) else "unable to serialize result"
        job_args = job.args, job.kwargs
        told_value = told(value) if isinstance(value, BaseException) else reason
        for args, ok, result in (
            (((), {}), success, value),  # the job may have put anything into its arguments
            (job_args, False, told_value),
            (((), {}), False, told_value),
        ):
            job.args, job.kwargs = args
            with suppress(BaseException):
                return self._encoded(job, ok, result)
        logger.critical("error serializing result of %s even after replacing result", job.ref or job.lease.id)
        return b""

    def _encoded(self, job: Job, success: bool, value: Any) -> bytes:
        """Raises what the serializer raises, and `_TooLarge`."""
        finished = FinishedJob(
            job.tries,
            job.name,
            job.args,
            job.kwargs,
            job.enqueue_time_ms,
            success,
            value,
            job.start_ms,
            now_ms(),
            self._queue,
            job.lease.id,
        )
        data: Any
        if self._serializer is serialize:
            data = encode_finished(finished)
        else:
            data = (self._serializer or pickle.dumps)(msgspec.structs.asdict(finished))
        if isinstance(data, str):
            data = data.encode()
        elif not isinstance(data, bytes):
            logger.critical("the serializer gave %s for the result of %s, not bytes", type(data).__name__, job.ref)
            return b""
        if len(data) > MAX_RESULT_BYTES:
            raise _TooLarge(f"unable to store a result of {len(data)} bytes, {MAX_RESULT_BYTES} is the most")
        return bytes(data)


@lru_cache(maxsize=64)
def _to_ttl_ms(seconds: float | None) -> int:
    if seconds is None or not seconds > 0:
        return 0
    return max(1, round(min(seconds * 1000, MAX_TTL_MS)))
