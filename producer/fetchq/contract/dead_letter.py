"""Dead letters: the records of jobs that failed for good (docs/job-contract.md, "A dead letter")."""

from __future__ import annotations

from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Final

import msgspec

from fetchq.errors import FetchqError, WireError

from . import wire
from .request import FetchRequest
from .result import FetchResult
from .status import FetchStatus
from .urls import find_host

STRING: Final = "string"
"""The Redis type of a job's key."""


class RetryOutcome(StrEnum):
    """The outcome of retrying a dead letter."""

    RETRIED = "retried"
    """The job is on the queue under its old id, and the dead letter is deleted."""
    ACTIVE = "active"
    """The job is on the queue already, or it has failed again since the dead letter was read."""
    INCOMPLETE = "incomplete"
    """The dead letter does not hold the whole payload: too long, not a string, or missing."""
    NOT_FOUND = "not_found"


class DeadLetter(msgspec.Struct, frozen=True, kw_only=True):
    """A job that failed for good, with its request, attempts and error."""

    id: str
    """The job's id. A retry keeps it."""
    died_at: datetime
    """By the clock of Redis."""
    function: str
    """The coroutine's name; `<unknown>` if the payload could not be read."""
    tries: int
    """How many times a worker started the job."""
    result: FetchResult
    """The last result, without headers, body and redirects. For a job that is not a fetch, the error alone."""
    job: dict[str, Any] | None
    """The job as enqueued (`f`, `a`, `k`, ...); None if this version cannot read the payload."""
    payload: bytes
    """The value of the job's key, or its DUMP for a `kind` other than string; truncated if shorter than
    `payload_bytes`."""
    payload_bytes: int
    kind: str
    """The Redis type of that key: `string` for a job, `none` if it was missing."""

    def __repr__(self) -> str:  # headers of a request may be secret and must not reach a log
        return f"<DeadLetter {self.id} {self.status} {self.died_at:%Y-%m-%dT%H:%M:%SZ}>"

    @property
    def status(self) -> FetchStatus:
        return self.result.status

    @property
    def error(self) -> str | None:
        return self.result.error

    @property
    def whole(self) -> bool:
        """Whether the payload is complete, so that the job can be retried."""
        return self.kind == STRING and len(self.payload) == self.payload_bytes

    @property
    def request(self) -> FetchRequest | None:
        """The request; None if the job is not a fetch, or its request breaks the contract."""
        try:
            return None if self._request is None else wire.decode_request(self._request)
        except FetchqError:
            return None

    @property
    def url(self) -> str | None:
        """The URL as in the request, valid or not."""
        url = (self._request or {}).get("url")
        return url if isinstance(url, str) else None

    @property
    def host(self) -> str | None:
        """The host of the URL (`contract.urls.find_host`)."""
        return None if self.url is None else find_host(self.url)

    @property
    def tags(self) -> tuple[str, ...]:
        tags = (self._request or {}).get("tags", ())
        return tuple(tag for tag in tags if isinstance(tag, str)) if isinstance(tags, list) else ()

    @property
    def _request(self) -> dict[str, Any] | None:
        """The request as sent, valid or not."""
        if self.job is None or self.job["f"] != wire.FETCH_FUNCTION or not self.job["a"]:
            return None
        request = self.job["a"][0]
        return request if isinstance(request, dict) else None


class _Stored(msgspec.Struct, array_like=True):
    payload: bytes
    kind: str
    payload_bytes: int
    ended: msgspec.Raw


class _Ended(msgspec.Struct, rename={"function": "f", "tries": "t", "success": "s", "value": "r"}):
    function: str
    tries: int
    success: bool
    value: msgspec.Raw


_stored_decoder: Final = msgspec.msgpack.Decoder(_Stored)
_ended_decoder: Final = msgspec.msgpack.Decoder(_Ended)


def decode_dead_letter(job_id: str, ended_ms: int, data: bytes | None) -> DeadLetter:
    """The dead letter in `data`. For unreadable data, one whose error says so: it can still be purged."""
    died_at = datetime.fromtimestamp(ended_ms / 1000, UTC)
    try:
        stored = _stored_decoder.decode(data or b"")
        ended = _ended_decoder.decode(stored.ended)
        job = _job_in(stored)
        result = _result_of(job_id, ended, job)
    except (WireError, msgspec.DecodeError) as problem:
        error = f"the dead letter cannot be read: {problem}"
        result = FetchResult(id=job_id, url="", status=FetchStatus.INTERNAL_ERROR, error=error)
        return DeadLetter(
            id=job_id, died_at=died_at, function="<unknown>", tries=0, result=result, job=None, payload=data or b"",
            payload_bytes=0, kind="none",
        )  # fmt: skip
    return DeadLetter(
        id=job_id,
        died_at=died_at,
        function=ended.function,
        tries=ended.tries,
        result=result,
        job=job,
        payload=stored.payload,
        payload_bytes=stored.payload_bytes,
        kind=stored.kind,
    )


def payload_for_retry(dead_letter: DeadLetter) -> bytes:
    """The payload to enqueue in place of the stored one; empty: the stored one.

    It has no number of earlier tries and no deadline, since a job whose deadline has passed would end at once without a
    dead letter.
    """
    job = dead_letter.job
    if job is None or not dead_letter.whole:
        return b""
    request = dead_letter._request
    limited = request is not None and request.get("deadline") is not None
    if not limited and job["t"] is None:
        return b""
    if request is not None and limited:
        rest = {name: value for name, value in request.items() if name != "deadline"}
        job = {**job, "a": [rest, *job["a"][1:]]}
    return wire.serialize({**job, "t": None})


def _job_in(stored: _Stored) -> dict[str, Any] | None:
    if stored.kind != STRING or len(stored.payload) != stored.payload_bytes:
        return None
    try:
        job = wire.deserialize(stored.payload)
    except WireError:
        return None
    return None if "s" in job else job


def _result_of(job_id: str, ended: _Ended, job: dict[str, Any] | None) -> FetchResult:
    if ended.success and ended.function != wire.FETCH_FUNCTION:
        value = msgspec.msgpack.decode(ended.value)
        error = value if isinstance(value, str) else msgspec.json.encode(value).decode()
        return FetchResult(id=job_id, url="", status=FetchStatus.INTERNAL_ERROR, error=error)
    args = msgspec.Raw(b"\x90") if job is None else msgspec.Raw(msgspec.msgpack.encode(job["a"]))
    stored = wire.StoredResult(function=ended.function, success=ended.success, value=ended.value, args=args)
    return wire.decode_result(stored, job_id)
