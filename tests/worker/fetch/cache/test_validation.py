"""Conditions of the cache, and of the request."""

from __future__ import annotations

import pytest
from tests.support.web.stored import NOW, date, headers, stored

from fetchq_worker.fetch.cache.freshness import age_s, lifetime_s
from fetchq_worker.fetch.cache.validation import differs, freshened, is_not_modified, validates, validators_of
from fetchq_worker.fetch.http.redirect import Hop


def test_a_304_updates_fields_but_not_those_of_the_body() -> None:
    old = stored(cache_control="max-age=10", content_type="text/plain", etag='"a"', age="9")
    update = headers(
        ("Cache-Control", "max-age=99"),
        ("Content-Type", "x/y"),
        ("Content-Length", "0"),
        ("Connection", "X-Hop"),
        ("X-Hop", "1"),
    )
    fresh = freshened(old, update, NOW + 20, NOW + 21)
    assert lifetime_s(fresh) == 99
    assert age_s(fresh, NOW + 21) == 1
    assert fresh.body == old.body
    assert list(fresh.headers.items()) == [
        ("content-type", "text/plain"),
        ("etag", '"a"'),
        ("Cache-Control", "max-age=99"),
    ]


def test_a_stored_response_is_validated_by_etag_and_last_modified() -> None:
    assert validators_of(stored(etag='W/"\xe9"')) == (("If-None-Match", 'W/"\xe9"'),)
    assert validators_of(stored(last_modified=date(0))) == (("If-Modified-Since", date(0)),)
    assert validators_of(stored()) == ()


@pytest.mark.parametrize(("named", "same"), [({"etag": 'W/"a"'}, True), ({"etag": '"b"'}, False), ({}, True)])
def test_a_304_is_about_the_stored_response_unless_its_etag_differs(named: dict[str, str], same: bool) -> None:
    assert validates(stored(etag='"a"'), headers(*named.items())) == same


@pytest.mark.parametrize(
    ("named", "outdated"),
    [
        ({}, False),
        ({"etag": '"a"', "content-length": "4", "last-modified": date(0)}, False),
        ({"etag": '"b"'}, True),
        ({"content-length": "5"}, True),
        ({"last-modified": date(1)}, True),
    ],
)
def test_a_response_to_head_tells_whether_the_stored_one_is_outdated(named: dict[str, str], outdated: bool) -> None:
    held = stored(etag='"a"', content_length="4", last_modified=date(0))
    assert differs(held, headers(*named.items())) == outdated


@pytest.mark.parametrize(
    ("condition", "not_modified"),
    [
        (("If-None-Match", '"a"'), True),
        (("if-none-match", 'W/"a"'), True),
        (("If-None-Match", '"x", "a" , "y"'), True),
        (("If-None-Match", "*"), True),
        (("If-None-Match", '"x,a"'), False),
        (("If-None-Match", '"A"'), False),
        (("If-None-Match", "a"), False),
        (("If-Modified-Since", date(0)), True),
        (("If-Modified-Since", date(1)), True),
        (("If-Modified-Since", date(-1)), False),
        (("If-Modified-Since", "yesterday"), False),
        (("Accept", "*/*"), False),
    ],
)
def test_the_condition_of_a_request_decides_between_304_and_the_response(
    condition: tuple[str, str], not_modified: bool
) -> None:
    held = stored(etag='W/"a"', last_modified=date(0))
    assert is_not_modified(Hop("https://a.example/", "GET", (condition,)), held) == not_modified


def test_if_none_match_precedes_if_modified_since() -> None:
    conditions = (("If-None-Match", '"x"'), ("If-Modified-Since", date(0)))
    held = stored(etag='"a"', last_modified=date(0))
    assert not is_not_modified(Hop("https://a.example/", "GET", conditions), held)


def test_without_last_modified_the_date_of_the_response_is_compared() -> None:
    since = Hop("https://a.example/", "GET", (("If-Modified-Since", date(5)),))
    assert is_not_modified(since, stored(date=date(5)))
    assert is_not_modified(since, stored())
    assert not is_not_modified(since, stored(date=date(6)))
