"""Encodes and decodes jobs and results (docs/job-contract.md).

A job and a result are the maps that arq writes (arq 0.28, `arq/jobs.py`), as msgpack. `serialize` and `deserialize` are
the `job_serializer` and `job_deserializer` for stock arq clients and workers.
"""

from __future__ import annotations

import asyncio
import pickle
from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec

from fetchq.errors import InvalidRequest, JobFailed, NewerWireVersion, WireError

from .request import WIRE_VERSION, FetchRequest
from .result import FetchResult
from .status import FetchStatus

FETCH_FUNCTION: Final = "fetch_data"
"""The function name of a fetch job."""


class StoredResult(msgspec.Struct, rename={"function": "f", "args": "a", "success": "s", "value": "r", "job_id": "id"}):
    """A finished job as arq stores it; `value` and `args` are not decoded."""

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
    limit_key: str = ""
    """Of a job that is not a fetch: `_limit_key` of `enqueue_job`."""
    traceparent: Any = None
    tracestate: Any = None
    """The context of the span that enqueued it, if that was traced (`fetchq.telemetry.trace_context`); of any type, so
    that an invalid one costs no job."""


class FinishedJob(msgspec.Struct, gc=False):
    """A finished job as arq writes it, with arq's field names and order."""

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
    """Encodes an exception as its type and message; nothing is pickled."""
    if isinstance(value, BaseException):
        return as_failure(value)
    if isinstance(value, bytearray | memoryview):
        return bytes(value)
    raise TypeError(f"a {type(value).__name__} cannot be encoded; use plain values or msgspec structs")


UNREADABLE: Final = (msgspec.DecodeError, RecursionError, ValueError, OverflowError)
"""What msgspec raises for bytes that it cannot decode. `UnicodeDecodeError` is a ValueError but not a DecodeError."""
_encoder: Final = msgspec.msgpack.Encoder(enc_hook=_encode_foreign)
_decoder: Final = msgspec.msgpack.Decoder()
_CANCELLED: Final = msgspec.Raw(_encoder.encode({"type": "CancelledError", "message": ""}))
_stored_decoder: Final = msgspec.msgpack.Decoder(StoredResult)
_job_decoder: Final = msgspec.msgpack.Decoder(StoredJob)
_result_decoder: Final = msgspec.msgpack.Decoder(FetchResult)

_KNOWN_OUTCOMES: Final = frozenset(FetchStatus)
_SHOWN_CHARS: Final = 40
CANCELLED_MARK: Final = b"fetchq:cancelled"
"""In the results of `encode_cancelled` that are no msgpack."""
MAX_MESSAGE_CHARS: Final = 65_536
_GROUP_PARTS: Final = 10
_GROUP_DEPTH: Final = 3


def serialize(value: dict[str, Any]) -> bytes:
    """arq's `job_serializer`: the map of a job or a result to msgpack."""
    return _encoder.encode(value)


def deserialize(data: bytes) -> dict[str, Any]:
    """arq's `job_deserializer`: msgpack to the map of a job or a result; raises `WireError`.

    The `{type, message}` of a failed result becomes an exception, which a stock `Job.result()` raises.
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
    """A fast path for `deserialize`, in half the time. None for an unusual job, which `deserialize` must decode."""
    try:
        return _job_decoder.decode(data)
    except UNREADABLE:
        return None


def encode_finished(job: FinishedJob) -> bytes:
    """The same bytes as `serialize` gives for the map; raises `TypeError` for a value that cannot be encoded."""
    return _encoder.encode(job)


def encode_job(
    function: str,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    enqueue_time_ms: int,
    tries: int | None = None,
    **more: str,
) -> bytes:
    """The payload of a job; raises `TypeError` for an argument that cannot be encoded.

    `more` are fields that arq ignores: `limit_key`, `priority` and `nonce` of a job that is not a fetch, `traceparent`
    and `tracestate`.
    """
    return _encoder.encode({"t": tries, "f": function, "a": args, "k": kwargs, "et": enqueue_time_ms, **more})


def decode_request(value: object) -> FetchRequest:
    """The request in the argument of a fetch job.

    Raises `NewerWireVersion` for a request of a later wire version, and `InvalidRequest` for one that breaks the
    contract, which includes unknown fields.
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
    """Decodes the stored value of a finished job; raises `WireError`."""
    try:
        return _stored_decoder.decode(data)
    except UNREADABLE as problem:
        if CANCELLED_MARK in data:
            return StoredResult("<unknown>", False, _CANCELLED)
        raise WireError(_reason(bytes(data), problem)) from problem


def encode_cancelled(job: dict[str, Any], payload: bytes) -> bytes:
    """The result of a job that is cancelled before it ran, `job` without `s` and `r`, for the client that enqueued it.

    A stock client that enqueues pickles, or JSON, reads results as such. `decode_stored` reads them by the mark.
    """
    if is_pickle(payload):
        return pickle.dumps({**job, "s": False, "r": asyncio.CancelledError(), "by": CANCELLED_MARK.decode()})
    if (
        payload[:1] == b"{"
    ):  # which begins no map of msgpack; JSON has no exceptions, and a text is arq's form of a failure
        return msgspec.json.encode({**job, "s": False, "r": "cancelled", "by": CANCELLED_MARK.decode()})
    return serialize({**job, "s": False, "r": asyncio.CancelledError()})


def decode_value(stored: StoredResult) -> Any:
    """What the coroutine returned, as plain values; raises `JobFailed` if it raised or was cancelled."""
    value = _decode(_decoder, stored.value)
    if stored.success:
        return value
    failure = as_exception(value)
    raise failure if isinstance(failure, JobFailed) else JobFailed("CancelledError", str(failure))


def decode_result(stored: StoredResult, job_id: str) -> FetchResult:
    """The fetch result of a finished job. For a job that ended without one, a result whose status says why."""
    if stored.success:
        if stored.function != FETCH_FUNCTION:
            raise WireError(f"job {job_id} ran {stored.function!r}, not a fetch: use value()")
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
            raise WireError(_reason(bytes(data), problem)) from problem
    except UNREADABLE as problem:
        raise WireError(_reason(bytes(data), problem)) from problem
    return result


def with_known_outcomes(value: Any) -> Any:
    """A decoded result or attempt history in which each unknown outcome is replaced by INTERNAL_ERROR.

    A later version may have written it. Its name is put into `error`; an unknown outcome is never a success.
    """
    if not isinstance(value, dict):
        return value
    value = _with_known_outcome(value)
    if isinstance(attempts := value.get("attempts"), list):
        value["attempts"] = [
            _with_known_outcome(attempt) if isinstance(attempt, dict) else attempt for attempt in attempts
        ]
    return value


def _with_known_outcome(value: dict[Any, Any]) -> dict[Any, Any]:
    status = value.get("status")
    if not isinstance(status, str) or status in _KNOWN_OUTCOMES:
        return value
    error = f"the outcome {status[:_SHOWN_CHARS]!r} is one of a later version of fetchq"
    if isinstance(why := value.get("error"), str):
        error = f"{error}: {why}"
    return {**value, "status": FetchStatus.INTERNAL_ERROR.value, "error": error}


def as_failure(problem: BaseException) -> dict[str, str]:
    """An exception as a result stores it: its type, its message and the message of its cause.

    Never raises, whatever the exception's class does. A message has at most `MAX_MESSAGE_CHARS`; what UTF-8 cannot
    encode in it is escaped, such as a lone surrogate as `\\ud800`.
    """
    message = _message_of(problem)
    if (cause := _cause_of(problem)) is not None:
        told = _message_of(cause)
        message = f"{message}: {told}" if message else told
    return {"type": _type_of(problem), "message": message}


def _type_of(problem: BaseException) -> str:
    return _told(lambda: type(problem).__name__)


_cause_of: Final = vars(BaseException)["__cause__"].__get__
"""The cause of an exception, although its class may have a property of that name."""
_parts_of: Final = vars(BaseExceptionGroup)["exceptions"].__get__


def _message_of(problem: BaseException, depth: int = 0) -> str:
    """The message; that of a group names the exceptions in it, too."""
    message = _told(lambda: str(problem))
    if issubclass(type(problem), BaseExceptionGroup) and depth < _GROUP_DEPTH:
        parts = (f"{_type_of(part)}: {_message_of(part, depth + 1)}" for part in _parts_of(problem)[:_GROUP_PARTS])
        message = _encodable(f"{message}: {'; '.join(parts)}")
    return message


def _told(tell: Callable[[], str]) -> str:
    """What the code of an exception's class says."""
    try:
        return _encodable(tell())
    except BaseException as problem:  # noqa: BLE001 - the class is the user's: its failure must not cost the report
        return f"<unreadable: {type(problem).__name__}>"


def _encodable(text: str) -> str:
    if len(text) > MAX_MESSAGE_CHARS:
        text = f"{text[: MAX_MESSAGE_CHARS - 3]}..."
    return text.encode("utf-8", "backslashreplace").decode()


def as_exception(value: object) -> JobFailed | asyncio.CancelledError:
    """The exception for the `{type, message}` of a failed job."""
    match value:
        case {"type": "CancelledError", "message": str(message)}:
            return asyncio.CancelledError(message) if message else asyncio.CancelledError()
        case {"type": str(kind), "message": str(message)}:
            return JobFailed(kind, message)
        case _:
            return JobFailed("UnknownError", str(value))


def status_of_failure(problem: BaseException) -> FetchStatus:
    """The status of a fetch that ended with this exception in place of a result, as `decode_result` has it."""
    return _outcome_of(as_exception(as_failure(problem)))[0]


def _outcome_of(failure: JobFailed | asyncio.CancelledError) -> tuple[FetchStatus, str]:
    if isinstance(failure, asyncio.CancelledError):
        return FetchStatus.CANCELLED, str(failure) or "cancelled on request"
    if failure.type == "DeserializationError":
        return FetchStatus.INVALID_JOB, failure.message
    if failure.type == "JobExecutionFailed":  # raised by arq for two reasons; only the message tells which
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
        raise WireError(_reason(bytes(data), problem)) from problem


def is_pickle(data: bytes) -> bool:
    """Whether bytes that are no msgpack of the job contract are a pickle. Nothing is loaded."""
    # Protocol 2 and later begin with PROTO and a version; earlier ones begin with an opening opcode and end with STOP.
    by_version = data[:1] == b"\x80" and data[1:2] and data[1] in range(2, 8)
    return bool(by_version or (data[:1] in b"(]}cdl" and data[-1:] == b"."))


def _reason(data: bytes, problem: Exception) -> str:
    if is_pickle(data):
        return "a pickle: this queue takes msgpack only, and nothing in it was executed"
    return f"not msgpack of the job contract: {problem}"
