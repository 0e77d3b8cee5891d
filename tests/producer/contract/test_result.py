"""FetchResult: its data, its text and its exceptions."""

from __future__ import annotations

import math
import re
from typing import Any

import pytest

from fetchq import FETCH_ERRORS, FetchError, FetchqError, FetchResult, FetchStatus, errors
from fetchq.contract import result as result_module


def _result(body: bytes, media_type: str | None = None, charset: str | None = None) -> FetchResult:
    return FetchResult(url="http://x/", status=FetchStatus.OK, body=body, media_type=media_type, charset=charset)


@pytest.mark.parametrize(
    ("body", "media_type", "charset", "data"),
    [
        (b"[42]", "application/json", None, [42]),
        (b'{"a": 1}', "application/problem+json", None, {"a": 1}),
        (b"not json", "application/json", None, "not json"),
        (b"[" * 10_000, "application/json", None, "[" * 10_000),
        ("gr\u00fcn".encode("latin-1"), "text/html", "iso-8859-1", "gr\u00fcn"),
        ("gr\u00fcn".encode(), "text/html", None, "gr\u00fcn"),
        (b"\xff", "text/plain", None, "\ufffd"),
        (b"x", "text/plain", "no-such-charset", "x"),
        (b"x", "text/plain", "base64", "x"),
        (b"x", "text/plain", "utf-8\0", "x"),
        (b"\xef\xbb\xbfx", "text/plain", "latin-1", "x"),
        ("\ufeffgr\u00fcn".encode("utf-16-le"), "text/plain", None, "gr\u00fcn"),
        (b"<a/>", "application/atom+xml", None, "<a/>"),
        (b"\x89PNG", "image/png", None, b"\x89PNG"),
        (b"x", None, None, b"x"),
        (b"", "application/json", None, ""),
    ],
)
def test_data_is_the_body_by_its_media_type(body: bytes, media_type: str, charset: str, data: Any) -> None:
    assert _result(body, media_type, charset).data == data


@pytest.mark.parametrize("status", FetchStatus)
def test_every_outcome_is_a_success_or_has_an_exception(status: FetchStatus) -> None:
    result = FetchResult(url="http://x/", status=status, error="it broke")
    if status in (FetchStatus.OK, FetchStatus.NOT_MODIFIED):
        assert result.ok
        assert result.raise_for_status() is result
        return
    assert not result.ok
    with pytest.raises(FETCH_ERRORS[status]) as raised:
        result.raise_for_status()
    assert raised.value.result is result
    assert str(status) in str(raised.value)


def test_each_failure_has_its_own_exception() -> None:
    assert len(set(FETCH_ERRORS.values())) == len(FETCH_ERRORS) == len(FetchStatus) - 2
    assert all(issubclass(error, FetchError) for error in FETCH_ERRORS.values())
    assert {status for status in FetchStatus if status.retryable} < set(FETCH_ERRORS)


def test_the_tree_at_the_top_of_errors_names_every_exception() -> None:
    defined = {
        name
        for module in (errors, result_module)
        for name, value in vars(module).items()
        if isinstance(value, type) and issubclass(value, FetchqError)
    }
    drawn = re.findall(r"^(\w+)$|[├└]── (\w+)", errors.__doc__ or "", re.MULTILINE)
    assert sorted(defined) == sorted(root or node for root, node in drawn)


@pytest.mark.parametrize(
    ("body", "data", "error"),
    [
        (b'{"a": 1}', {"a": 1}, None),
        (b"<html>", "<html>", "the body is not JSON: JSON is malformed"),
        (b"[1, 2", "[1, 2", "the body is not JSON: Input data was truncated"),
        (b"[" * 100_000, "[" * 100_000, "the body is not JSON that can be read: it is nested too deep"),
        (b"\xef\xbb\xbf[1]", [1], None),
        (b"", "", None),
    ],
)
def test_json_that_does_not_parse_is_text_and_data_error_says_why(body: bytes, data: object, error: str | None) -> None:
    result = FetchResult(url="http://example.org/", status=FetchStatus.OK, body=body, media_type="application/json")

    assert result.data == data
    if error is None:
        assert result.data_error is None
    else:
        assert (result.data_error or "").startswith(error)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-be"])
@pytest.mark.parametrize("charset", [None, "utf-8", "iso-8859-1", "utf-16"])
def test_the_text_of_json_is_what_is_parsed_whatever_its_charset(encoding: str, charset: str | None) -> None:
    result = _result('{"a": "\xe9"}'.encode(encoding), "application/ld+json", charset)

    assert result.text == '{"a": "\xe9"}'
    assert result.data == {"a": "\xe9"}


BIG = 10**400


@pytest.mark.parametrize(
    ("body", "charset", "data"),
    [
        (rb'"\ud83d"', None, "\ud83d"),
        (rb'["\ude00 \ud83d\ude00"]', None, ["\ude00 \U0001f600"]),
        (b'{"a": 1e400, "b": -1e400}', None, {"a": math.inf, "b": -math.inf}),
        (b"[1.7976931348623159e308]", None, [math.inf]),
        (b"1e-400", None, 0.0),
        (str(BIG).encode(), None, BIG),
        (b'{"a": 1, "a": 2}', None, {"a": 2}),
        (b'\xef\xbb\xbf{"a": "\xc3\xa9"}', None, {"a": "\xe9"}),
        ('"\xe9"'.encode("utf-16"), None, "\xe9"),
        ('{"a": "\xe9"}'.encode("utf-16-le"), None, {"a": "\xe9"}),
        ('"\xe9"'.encode("utf-32"), None, "\xe9"),
        (b'"caf\xc3\xa9"', "iso-8859-1", "caf\xe9"),
        (b'"caf\xe9"', "iso-8859-1", "caf\xe9"),
        (b'"caf\xe9"', None, "caf\ufffd"),
        (b'"\xed\xa0\x80"', None, "\ufffd\ufffd\ufffd"),
    ],
)
def test_all_legal_json_is_parsed(body: bytes, charset: str | None, data: object) -> None:
    result = _result(body, "application/json", charset)

    assert result.data == data
    assert result.data_error is None


@pytest.mark.parametrize("text", ["NaN", "[Infinity]", '{"a": -Infinity}', "[1,]", "01", '"\x01"', "{'a': 1}", "1 2"])
def test_what_is_not_json_is_text(text: str) -> None:
    result = _result(text.encode(), "application/json")

    assert result.data == text
    assert (result.data_error or "").startswith("the body is not JSON")


@pytest.mark.parametrize("charset", ["idna", "punycode", "unicode_escape", "utf-7", "rot13", "zip", "x" * 100_000])
def test_a_charset_outside_the_encoding_standard_is_ignored(charset: str) -> None:
    result = FetchResult(url="http://example.org/", status=FetchStatus.OK, body=b"+AGE- \\u0041", charset=charset)

    assert result.text == "+AGE- \\u0041"


def test_an_encoding_in_which_markup_could_hide_is_not_decoded() -> None:
    result = FetchResult(url="http://example.org/", status=FetchStatus.OK, body=b"<script>", charset="iso-2022-kr")

    assert result.text == "\ufffd"
