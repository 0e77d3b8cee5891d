"""Encodes results in arq's format, and decides how long each is stored."""

from __future__ import annotations

import logging
from functools import lru_cache
from typing import Any, Final

from arq.cron import CronJob
from arq.jobs import Serializer, serialize_result
from arq.worker import Function

from fetchq.contract.wire import FinishedJob, encode_finished, serialize

from .job import Job, now_ms

logger = logging.getLogger("arq.worker")

MAX_RESULT_BYTES: Final = 256 << 20
"""Redis closes the connection for a value above 512 MB, and all other commands on it are lost."""
MAX_TTL_MS: Final = 1 << 52

_NUMBER: Final = (int, float)


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
        """The bytes to store; empty if neither the result nor an error can be encoded."""
        data = self._serialized(job, success, value)
        if isinstance(data, str):
            data = data.encode()
        elif not isinstance(data, bytes):
            if data is not None:
                logger.critical("the serializer gave %s for the result of %s, not bytes", type(data).__name__, job.ref)
            return b""
        if len(data) > MAX_RESULT_BYTES:
            problem = f"unable to store a result of {len(data)} bytes"
            logger.error("%s of %s, %d is the most", problem, job.ref, MAX_RESULT_BYTES)
            job.args, job.kwargs = (), {}
            return self.encode(job, False, problem)
        return data

    def _serialized(self, job: Job, success: bool, value: Any) -> object:
        """The serializer's output for the result, or for the error that it raised; None if it fails at both."""
        ended_ms = now_ms()
        if self._serializer is serialize:
            try:
                return encode_finished(
                    FinishedJob(
                        job.tries,
                        job.name,
                        job.args,
                        job.kwargs,
                        job.enqueue_time_ms,
                        success,
                        value,
                        job.start_ms,
                        ended_ms,
                        self._queue,
                        job.lease.id,
                    )
                )
            except Exception as problem:  # noqa: BLE001 - a value may raise anything; `serialize_result`, next, logs and stores that
                logger.debug("job %s: %s", job.ref, problem)
        return serialize_result(
            job.name,
            job.args,
            job.kwargs,
            job.tries,
            job.enqueue_time_ms,
            success,
            value,
            job.start_ms,
            ended_ms,
            job.ref or job.lease.id,
            self._queue,
            job.lease.id,
            serializer=self._serializer,
        )


@lru_cache(maxsize=64)
def _to_ttl_ms(seconds: float | None) -> int:
    if seconds is None or not seconds > 0:
        return 0
    return max(1, round(min(seconds * 1000, MAX_TTL_MS)))
