"""Encodes results in arq's format, and decides how long each is stored."""

from __future__ import annotations

import logging
import pickle
from contextlib import suppress
from functools import lru_cache
from typing import Any, Final

import msgspec
from arq.cron import CronJob
from arq.jobs import SerializationError, Serializer
from arq.worker import Function

from fetchq.contract.wire import FinishedJob, as_failure, encode_finished, serialize

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

    def encode(self, job: Job, success: bool, value: Any) -> tuple[bytes, SerializationError | None]:
        """The bytes to store, and the failure that they hold in place of a returned value that cannot be encoded.

        The type and the message of an exception always arrive. The bytes are empty if nothing can be encoded.
        """
        pickles = self._serializer is not serialize
        if not success and pickles:
            value = readable(value, pickled=self._serializer is None)
        try:
            return self._encoded(job, success, value), None
        except BaseException as problem:  # noqa: BLE001 - value and serializer are the user's
            failure = _failure_of(problem)
        instead: Any = failure if success else value
        if pickles:  # as arq stores it
            instead = as_failure(failure)["message"] if success else told(value)
        job_args = job.args, job.kwargs
        for args, ok, result in (
            (((), {}), success, value),  # the job may have put anything into its arguments
            (job_args, False, instead),
            (((), {}), False, instead),
        ):
            job.args, job.kwargs = args
            with suppress(BaseException):
                return self._encoded(job, ok, result), None if ok or not success else failure
        logger.critical("error serializing result of %s even after replacing result", job.ref or job.lease.id)
        return b"", failure if success else None

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


def _failure_of(problem: BaseException) -> SerializationError:
    """The failure of a job that returned a value which cannot be encoded."""
    if isinstance(problem, _TooLarge):
        return SerializationError(str(problem))
    failure = SerializationError("unable to serialize result")
    failure.__cause__ = problem
    return failure.with_traceback(problem.__traceback__)


@lru_cache(maxsize=64)
def _to_ttl_ms(seconds: float | None) -> int:
    if seconds is None or not seconds > 0:
        return 0
    return max(1, round(min(seconds * 1000, MAX_TTL_MS)))
