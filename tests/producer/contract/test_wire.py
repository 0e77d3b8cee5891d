"""Encoding and decoding of jobs and results."""

from __future__ import annotations

import asyncio
import os
import pickle
from typing import Any

import msgspec
import pytest
from arq.jobs import deserialize_job, deserialize_result, serialize_job, serialize_result
from hypothesis import given
from hypothesis import strategies as st

from fetchq import (
    FetchRequest,
    FetchResult,
    FetchStatus,
    InvalidRequest,
    JobFailed,
    NewerWireVersion,
    WireError,
)
from fetchq.contract import wire

URL = "https://example.org/"


def test_a_stock_arq_client_with_our_serializers_reads_our_job_and_writes_one_that_we_read() -> None:
    ours = wire.encode_job("fetch_data", (FetchRequest(url=URL, method="HEAD"),), {}, 1_700_000_000_000)
    job = deserialize_job(ours, deserializer=wire.deserialize)
    assert (job.function, list(job.args)) == ("fetch_data", [{"url": URL, "method": "HEAD"}])
    theirs = serialize_job("fetch_data", ({"url": URL},), {}, None, 1, serializer=wire.serialize)
    assert wire.decode_request(wire.deserialize(theirs)["a"][0]) == FetchRequest(url=URL)


def test_a_result_read_by_a_stock_client_and_by_ours_is_the_same() -> None:
    result = FetchResult(id="j", url=URL, status=FetchStatus.OK, http_status=200, body=b"x")
    stored = serialize_result(
        "fetch_data", ({"url": URL},), {}, 1, 1, True, result, 1, 2, "ref", "q", job_id="j", serializer=wire.serialize
    )
    assert stored is not None
    assert deserialize_result(stored, deserializer=wire.deserialize).result["http_status"] == 200
    assert wire.decode_result(wire.decode_stored(stored), "j") == result


_PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "t": st.none() | st.integers(0, 3) | _PLAIN,
            "f": st.text(max_size=3) | _PLAIN,
            "a": st.lists(_PLAIN, max_size=3) | _PLAIN,
            "k": st.dictionaries(st.text(max_size=3), _PLAIN, max_size=3) | _PLAIN,
            "et": st.integers(0, 1 << 54) | _PLAIN,
            "s": _PLAIN,
        },
    )
)
def test_the_fast_path_decodes_a_job_as_deserialize_does(value: dict[str, Any]) -> None:
    data = msgspec.msgpack.encode(value)
    plain = wire.decode_plain_job(data)
    try:
        given_to_arq = wire.deserialize(data)
    except WireError:
        assert plain is None or not 0 <= plain.at_ms < 1 << 53
    else:
        known = "s" in value or type(given_to_arq["t"]) not in (int, type(None))
        assert plain is not None or known
        if plain is not None:
            read = plain.function, plain.args, plain.kwargs, plain.at_ms, plain.tries
            assert read == tuple(given_to_arq.get(name) for name in ("f", "a", "k", "et", "t"))


@given(st.booleans(), _PLAIN, st.lists(_PLAIN, max_size=2))
def test_a_finished_job_is_encoded_as_arq_encodes_its_map(success: bool, value: Any, args: list[Any]) -> None:
    ours = wire.encode_finished(wire.FinishedJob(1, "f", args, {"k": 1}, 2, success, value, 3, 4, "q", "j"))
    theirs = serialize_result(
        "f", tuple(args), {"k": 1}, 1, 2, success, value, 3, 4, "r", "q", "j", serializer=wire.serialize
    )
    assert ours == theirs


class _Trap:
    def __reduce__(self) -> Any:
        return os.mkdir, ("pickle-was-executed",)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickle_is_refused_by_name_and_not_executed(
    protocol: int, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(WireError, match="a pickle: this queue takes msgpack only"):
        wire.deserialize(pickle.dumps({"f": "fetch_data", "a": (_Trap(),), "k": {}, "t": 1, "et": 1}, protocol))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "value",
    [5, [], {}, {"f": 1}, {"f": "x"}, {"f": "x", "a": {}, "k": {}, "et": 1}, {"f": "x", "a": [], "k": {}, "et": "1"}],
)
def test_msgpack_that_is_not_a_job_is_refused(value: Any) -> None:
    with pytest.raises(WireError, match="not a job of this contract"):
        wire.deserialize(msgspec.msgpack.encode(value))


def test_a_deeply_nested_job_is_refused_and_does_not_overflow_the_stack() -> None:
    with pytest.raises(WireError):
        wire.deserialize(b"\x91" * 100_000)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_job_or_a_wire_error(data: bytes) -> None:
    for read in (wire.deserialize, lambda d: wire.decode_result(wire.decode_stored(d), "j")):
        try:
            read(data)
        except WireError as error:
            assert str(error)


@given(
    st.recursive(
        st.none() | st.integers() | st.text() | st.binary(), lambda c: st.lists(c) | st.dictionaries(st.text(), c)
    )
)
def test_any_argument_is_a_request_or_refused(value: Any) -> None:
    try:
        wire.decode_request(value)
    except (InvalidRequest, NewerWireVersion) as error:
        assert str(error)


def test_an_unknown_field_on_the_wire_is_refused_by_name() -> None:
    with pytest.raises(InvalidRequest, match="colour"):
        wire.decode_request({"url": URL, "colour": "red"})


def test_a_broken_field_on_the_wire_is_refused_by_name() -> None:
    with pytest.raises(InvalidRequest, match="timeout_s"):
        wire.decode_request({"url": URL, "timeout_s": -1})


def test_a_later_wire_version_is_reported_as_such_whatever_else_is_wrong() -> None:
    with pytest.raises(NewerWireVersion):
        wire.decode_request({"v": 2, "colour": "red"})


def test_a_result_of_a_later_version_is_read_without_its_new_fields() -> None:
    value = {"url": URL, "status": "OK", "mood": "good", "timing": {"tea_s": 1}}
    stored = msgspec.msgpack.encode({"f": "fetch_data", "s": True, "r": value, "a": [], "zz": 1})
    assert wire.decode_result(wire.decode_stored(stored), "j").status == "OK"


def _failed(kind: str, message: str, args: Any = ()) -> wire.StoredResult:
    failure = {"type": kind, "message": message}
    return wire.decode_stored(wire.serialize({"f": "fetch_data", "a": args, "s": False, "r": failure, "id": "j"}))


@pytest.mark.parametrize(
    ("kind", "message", "status"),
    [
        ("CancelledError", "", FetchStatus.CANCELLED),
        ("DeserializationError", "unable to deserialize job: a pickle", FetchStatus.INVALID_JOB),
        ("JobExecutionFailed", "function 'x' not found", FetchStatus.INVALID_JOB),
        ("JobExecutionFailed", "job expired", FetchStatus.INVALID_JOB),
        ("JobExecutionFailed", "max 5 retries exceeded", FetchStatus.WORKER_LOST),
        ("ZeroDivisionError", "division by zero", FetchStatus.INTERNAL_ERROR),
    ],
)
def test_a_job_without_a_fetch_result_is_read_as_an_outcome_of_the_closed_set(
    kind: str, message: str, status: FetchStatus
) -> None:
    result = wire.decode_result(_failed(kind, message, [{"url": URL}]), "j")
    assert (result.id, result.url, result.status) == ("j", URL, status)
    assert result.error


def test_a_failed_job_raises_the_type_and_message_of_its_exception() -> None:
    with pytest.raises(JobFailed, match="ZeroDivisionError: division by zero"):
        wire.decode_value(_failed("ZeroDivisionError", "division by zero"))


def test_the_message_of_an_exceptions_cause_is_encoded_too() -> None:
    error = RuntimeError("outer")
    error.__cause__ = ValueError("inner")
    read = wire.deserialize(wire.serialize({"f": "x", "s": False, "r": error}))["r"]
    assert isinstance(read, JobFailed)
    assert str(read) == "RuntimeError: outer: inner"


def test_a_stock_client_sees_a_cancelled_job_as_cancelled() -> None:
    read = wire.deserialize(wire.serialize({"f": "x", "s": False, "r": asyncio.CancelledError()}))["r"]
    assert isinstance(read, asyncio.CancelledError)


def test_an_argument_that_cannot_be_encoded_is_a_type_error() -> None:
    with pytest.raises(TypeError, match="cannot be encoded"):
        wire.encode_job("x", (object(),), {}, 1)
