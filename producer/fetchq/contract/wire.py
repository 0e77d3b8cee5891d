"""Bytes to structs and back: the job contract on the wire (docs/job-contract.md).

A job and a result are the maps that arq writes (arq 0.28, `arq/jobs.py`), in msgpack. `serialize` and `deserialize` are
what a stock arq client or worker takes as `job_serializer` and `job_deserializer`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from fetchq.errors import InvalidRequest, JobFailed, NewerWireVersion, WireError

from .forward_compat import with_known_outcomes
from .request import WIRE_VERSION, FetchRequest
from .result import FetchResult
from .status import FetchStatus

FETCH_FUNCTION: Final = "fetch_data"
"""The name under which every fetch worker registers the fetch."""


class StoredResult(msgspec.Struct, rename={"function": "f", "args": "a", "success": "s", "value": "r", "job_id": "id"}):
    """A finished job as arq stores it, its two payloads not decoded yet."""

    function: str
    success: bool
    value: msgspec.Raw
    args: msgspec.Raw = msgspec.Raw(b"\x90")
    job_id: str = ""


class StoredJob(
    msgspec.Struct, gc=False, rename={"tries": "t", "function": "f", "args": "a", "kwargs": "k", "at_ms": "et"}
):
    """A job as arq stores it."""

    function: str
    args: list[Any]
    kwargs: dict[Any, Any]
    at_ms: int
    tries: int | None = None


class EndedJob(msgspec.Struct, gc=False):
    """A finished job as arq stores it, field by field in arq's order."""

    t: int
    f: str
    a: Sequence[Any]
    k: dict[Any, Any]
    et: float
    s: bool
    r: Any
    st: int
    ft: int
    q: str
    id: str


def _encode_foreign(value: object) -> Any:
    """An exception is written as its type and message; it is never pickled."""
    if isinstance(value, BaseException):
        return as_failure(value)
    if isinstance(value, bytearray | memoryview):
        return bytes(value)
    raise TypeError(f"a {type(value).__name__} has no form on the wire; use plain values or msgspec structs")


UNREADABLE: Final = (msgspec.DecodeError, RecursionError, ValueError, OverflowError)
"""What msgspec raises of bytes that it cannot read; a `UnicodeDecodeError` among it, which is no `DecodeError`."""
_encoder: Final = msgspec.msgpack.Encoder(enc_hook=_encode_foreign)
_decoder: Final = msgspec.msgpack.Decoder()
_stored_decoder: Final = msgspec.msgpack.Decoder(StoredResult)
_job_decoder: Final = msgspec.msgpack.Decoder(StoredJob)
_result_decoder: Final = msgspec.msgpack.Decoder(FetchResult)


def serialize(value: dict[str, Any]) -> bytes:
    """arq's `job_serializer`: a job's or a result's map to msgpack."""
    return _encoder.encode(value)


def deserialize(data: bytes) -> dict[str, Any]:
    """arq's `job_deserializer`: msgpack to a job's or a result's map; raises `WireError`.

    A failed result's `{type, message}` becomes an exception again, so that a stock `Job.result()` can raise it.
    """
    value = _decode(_decoder, data)
    if not isinstance(value, dict) or not isinstance(value.get("f"), str):
        raise WireError("not a job of this contract: a map with the function's name under 'f' is expected")
    if "s" in value:
        if value["s"] is False:
            value["r"] = as_exception(value.get("r"))
        return value
    if not (isinstance(value.get("a"), list) and isinstance(value.get("k"), dict) and _is_time(value.get("et"))):
        raise WireError("not a job of this contract: 'a' is a list, 'k' a map, 'et' the time in ms")
    value.setdefault("t", None)
    return value


def decode_plain_job(data: bytes) -> StoredJob | None:
    """What `deserialize` makes of a job, in half the time; None for whatever is unusual, for `deserialize` to judge."""
    try:
        return _job_decoder.decode(data)
    except (msgspec.DecodeError, RecursionError, ValueError, OverflowError):
        return None


def encode_ended(job: EndedJob) -> bytes:
    """What `serialize` makes of arq's map of a finished job; raises `TypeError` for a value of no form on the wire."""
    return _encoder.encode(job)


def encode_job(function: str, args: tuple[Any, ...], kwargs: dict[str, Any], enqueue_time_ms: int) -> bytes:
    """A job's payload; raises `TypeError` for an argument that has no form on the wire."""
    return _encoder.encode({"t": None, "f": function, "a": args, "k": kwargs, "et": enqueue_time_ms})


def decode_request(value: object) -> FetchRequest:
    """The request in a job's one argument: strict.

    Raises `NewerWireVersion` for a later version's, and `InvalidRequest` for one that breaks the contract.
    """
    if isinstance(value, FetchRequest):
        return value
    if isinstance(value, dict):
        version = value.get("v", 1)
        if type(version) is int and version > WIRE_VERSION:
            raise NewerWireVersion(f"the request is of wire version {version}; this worker reads up to {WIRE_VERSION}")
    try:
        return msgspec.convert(value, FetchRequest)
    except InvalidRequest:
        raise
    except msgspec.ValidationError as problem:
        if isinstance(problem.__cause__, InvalidRequest):
            raise problem.__cause__ from None
        raise InvalidRequest("request", str(problem)) from problem


def decode_stored(data: bytes) -> StoredResult:
    """What is stored of a finished job; raises `WireError`."""
    stored: StoredResult = _decode(_stored_decoder, data)
    return stored


def decode_value(stored: StoredResult) -> Any:
    """What the job's coroutine returned, as plain values; raises `JobFailed` or `asyncio.CancelledError`'s stand-in."""
    value = _decode(_decoder, stored.value)
    if stored.success:
        return value
    failure = as_exception(value)
    raise failure if isinstance(failure, JobFailed) else JobFailed("CancelledError", str(failure))


def decode_result(stored: StoredResult, job_id: str) -> FetchResult:
    """The fetch result in what is stored. A job that failed as a job (not as a fetch) becomes the outcome that fits."""
    if stored.success:
        if stored.function != FETCH_FUNCTION:
            raise WireError(f"job {job_id} ran {stored.function!r}, not a fetch: its value is read with value()")
        return _result_of(stored.value)
    failure = as_exception(_decode(_decoder, stored.value))
    status, error = _outcome_of(failure)
    return FetchResult(id=job_id, url=_url_of(stored), status=status, error=error)


def _result_of(data: msgspec.Raw) -> FetchResult:
    try:
        result: FetchResult = _result_decoder.decode(data)
    except msgspec.ValidationError:
        value = with_known_outcomes(_decode(_decoder, data))
        try:
            return msgspec.convert(value, FetchResult)
        except msgspec.ValidationError as problem:
            raise WireError(_why_not(bytes(data), problem)) from problem
    except UNREADABLE as problem:
        raise WireError(_why_not(bytes(data), problem)) from problem
    return result


def as_failure(problem: BaseException) -> dict[str, str]:
    """An exception as a result holds it: its type, and what it and its cause say."""
    message = str(problem)
    if problem.__cause__ is not None:
        message = f"{message}: {problem.__cause__}" if message else str(problem.__cause__)
    return {"type": type(problem).__name__, "message": message}


def as_exception(value: object) -> JobFailed | asyncio.CancelledError:
    """The exception that a failed job's `{type, message}` stands for."""
    match value:
        case {"type": "CancelledError", "message": str(message)}:
            return asyncio.CancelledError(message) if message else asyncio.CancelledError()
        case {"type": str(kind), "message": str(message)}:
            return JobFailed(kind, message)
        case _:
            return JobFailed("UnknownError", str(value))


def _outcome_of(failure: JobFailed | asyncio.CancelledError) -> tuple[FetchStatus, str]:
    if isinstance(failure, asyncio.CancelledError):
        return FetchStatus.CANCELLED, str(failure) or "cancelled on request"
    if failure.type == "DeserializationError":
        return FetchStatus.INVALID_JOB, failure.message
    if failure.type == "JobExecutionFailed":  # arq's own: what it says tells which
        if "retries exceeded" in failure.message:
            return FetchStatus.WORKER_LOST, failure.message
        return FetchStatus.INVALID_JOB, failure.message
    return FetchStatus.INTERNAL_ERROR, str(failure)


def _url_of(stored: StoredResult) -> str:
    match _decode(_decoder, stored.args):
        case [{"url": str(url)}, *_]:
            return url
        case _:
            return ""


def _is_time(value: object) -> bool:
    return type(value) is int and 0 <= value < 1 << 53


def _decode(decoder: Any, data: bytes | msgspec.Raw) -> Any:
    try:
        return decoder.decode(data)
    except UNREADABLE as problem:
        raise WireError(_why_not(bytes(data), problem)) from problem


def _why_not(data: bytes, problem: Exception) -> str:
    # The PROTO opcode with a version (protocol 2 and later); before it, an opening opcode and STOP at the end.
    if (data[:1] == b"\x80" and data[1:2] and data[1] in range(2, 8)) or (data[:1] in b"(]}cdl" and data[-1:] == b"."):
        return "a pickle: this queue speaks msgpack, and nothing in it was executed"
    return f"not msgpack of the job contract: {problem}"
