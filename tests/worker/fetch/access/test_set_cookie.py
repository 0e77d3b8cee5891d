"""Parsing of the Set-Cookie field."""

from __future__ import annotations

import pytest

from fetchq_worker.fetch.access.set_cookie import MAX_AGE_S, SetCookie, parse_set_cookie

NOW = 1_800_000_000.0


def _parsed(field: str) -> SetCookie:
    cookie = parse_set_cookie(field, NOW)
    assert cookie is not None
    return cookie


@pytest.mark.parametrize(
    ("field", "name", "value"),
    [
        ("v=abc==", "v", "abc=="),
        ('v={"x":1}', "v", '{"x":1}'),
        ("v=a:b", "v", "a:b"),
        ("v=b c", "v", "b c"),
        ("v=", "v", ""),
        ('v="q"', "v", '"q"'),
        ('v="a;b"', "v", '"a'),
        ("v=a,b=c", "v", "a,b=c"),
        (" \tv\t = b ;x", "v", "b"),
        ("a b=c", "a b", "c"),
        ("caf\xe9=\xff", "caf\xe9", "\xff"),
        ("$Version=1; v=2", "$Version", "1"),
        ("domain=x", "domain", "x"),
    ],
)
def test_name_and_value_are_kept_as_they_came(field: str, name: str, value: str) -> None:
    assert _parsed(field)[:2] == (name, value)


@pytest.mark.parametrize(
    "field",
    [
        "",
        ";",
        "=",
        "v",
        "=v",
        " = v",
        "v; Path=/",
        "v=a\x00b",
        "v=a\rb",
        "v=a; Path=/\x1f",
        "v=\x7f",
        "v=" + "x" * 4096,
        "n" * 4096 + "=x",
    ],
)
def test_a_field_without_a_name_with_control_characters_or_too_long_is_ignored(field: str) -> None:
    assert parse_set_cookie(field, NOW) is None


def test_name_and_value_of_4096_bytes_are_taken() -> None:
    assert len(_parsed("v=" + "x" * 4095).value) == 4095


@pytest.mark.parametrize(
    ("attributes", "domain", "path"),
    [
        ("", "", ""),
        ("; Domain=A.Example; PATH=/Docs", "a.example", "/Docs"),
        ("; domain=.a.example", "a.example", ""),
        ("; domain=..a.example", ".a.example", ""),
        ("; domain=a.example; domain=b.example", "b.example", ""),
        ("; domain=a.example; domain=", "a.example", ""),
        ("; Path=docs", "", ""),
        ('; Path="/docs"', "", ""),
        ("; Path=/docs; Path=", "", ""),
        ("; Path=; Path=/docs", "", "/docs"),
        ("; Path\t=\t/docs ", "", "/docs"),
        ("; Path=/" + "x" * 1024, "", ""),
        ("; Path=/docs; Path=/" + "x" * 1024, "", "/docs"),
    ],
)
def test_the_last_domain_and_path_count(attributes: str, domain: str, path: str) -> None:
    cookie = _parsed(f"v=1{attributes}")
    assert (cookie.domain, cookie.path) == (domain, path)


@pytest.mark.parametrize(
    ("attributes", "secure"),
    [("", False), ("; Secure", True), ("; secure=0", True), ("; Secure x", False), ('; "Secure"', False)],
)
def test_secure_is_an_attribute_with_or_without_a_value(attributes: str, secure: bool) -> None:
    assert _parsed(f"v=1{attributes}").secure is secure


@pytest.mark.parametrize(
    ("attributes", "taken"),
    [
        ("; SameSite=None; Secure", True),
        ("; SameSite=None", False),
        ("; samesite = NONE", False),
        ("; SameSite=None; SameSite=Lax", True),
        ("; SameSite=Strict", True),
        ("; SameSite=other", True),
        ("; SameSite", True),
    ],
)
def test_same_site_none_needs_secure(attributes: str, taken: bool) -> None:
    assert (parse_set_cookie(f"v=1{attributes}", NOW) is not None) == taken


@pytest.mark.parametrize(
    ("attributes", "expires_s"),
    [
        ("; Max-Age=60", NOW + 60),
        ("; max-age=0", 0.0),
        ("; max-age=-1", 0.0),
        ("; max-age=" + "9" * 1000, NOW + MAX_AGE_S),
        ("; max-age=60; max-age=30", NOW + 30),
        ("; max-age=60; max-age=x", NOW + 60),
        ("; max-age=", None),
        ("; max-age=-", None),
        ("; max-age=+60", None),
        ("; max-age=2.5", None),
        ('; max-age="60"', None),
        ("; Expires=Thu, 01 Jan 1970 00:00:00 GMT", 0.0),
        ("; Expires=Thu, 01 Jan 2099 00:00:00 GMT", NOW + MAX_AGE_S),
        ("; Expires=soon", None),
        ("; Expires=0", None),
        ("; Max-Age=60; Expires=Thu, 01 Jan 1970 00:00:00 GMT", NOW + 60),
        ("; Max-Age=x; Expires=Thu, 01 Jan 1970 00:00:00 GMT", 0.0),
    ],
)
def test_max_age_precedes_expires_and_a_malformed_one_is_ignored(attributes: str, expires_s: float | None) -> None:
    assert _parsed(f"v=1{attributes}").expires_s == expires_s
