"""The fields of a response, by name."""

from __future__ import annotations

from fetchq_worker.fetch.transport.headers import Headers

HEADERS = Headers.of([("Set-Cookie", "a=1"), ("X-A", "caf\xe9"), ("set-cookie", "b=2")])


def test_names_are_found_whatever_their_case() -> None:
    assert HEADERS.get("SET-COOKIE") == "a=1"
    assert HEADERS.getall("set-Cookie") == ("a=1", "b=2")
    assert "x-a" in HEADERS
    assert "x-b" not in HEADERS


def test_an_absent_name_has_the_default() -> None:
    assert HEADERS.get("X-B") is None
    assert HEADERS.get("X-B", "") == ""
    assert HEADERS.getall("X-B") == ()
    assert HEADERS.getall("X-B", []) == []


def test_values_are_latin_1() -> None:
    assert HEADERS.get("X-A") == "caf\xe9"


def test_fields_keep_their_order_and_spelling() -> None:
    assert list(HEADERS.items()) == [("Set-Cookie", "a=1"), ("X-A", "caf\xe9"), ("set-cookie", "b=2")]
    assert list(HEADERS) == ["Set-Cookie", "X-A", "set-cookie"]
    assert len(HEADERS) == 3
