"""When a stored response may be used: the rules of RFC 9111."""

from __future__ import annotations

import pytest
from tests.support.web.stored import NOW, date, headers, stored

from fetchq_worker.fetch.cache.directives import MAX_SECONDS, directives_of
from fetchq_worker.fetch.cache.freshness import age_s, is_usable, is_usable_after_error, keep_s, lifetime_s
from fetchq_worker.fetch.cache.stored_response import StoredResponse

WEEK = 7 * 86_400.0


@pytest.mark.parametrize(
    ("named", "lifetime"),
    [
        ({"cache_control": "max-age=60"}, 60),
        ({"cache_control": "max-age=60, s-maxage=10"}, 10),
        ({"cache_control": "s-maxage=60, max-age=10"}, 60),
        ({"cache_control": "max-age=60, max-age=5"}, 60),
        ({"cache_control": "max-age=99999999999"}, MAX_SECONDS),
        ({"cache_control": "max-age=-1", "expires": date(90)}, 0),
        ({"cache_control": "max-age=60", "expires": "0"}, 60),
        ({"expires": date(90), "date": date(30)}, 60),
        ({"expires": date(90)}, 90),
        ({"expires": date(90), "date": "yesterday"}, 90),
        ({"expires": date(-5), "date": date(0)}, 0),
        ({"last_modified": date(-1000), "date": date(0)}, 100),
        ({"last_modified": date(-1e8), "date": date(0)}, 86_400),
        ({"last_modified": date(1000), "date": date(0)}, 0),
        ({"last_modified": "2 days ago", "date": date(0)}, 0),
        ({"last_modified": date(-1000), "expires": "0"}, 0),
        ({}, 0),
    ],
)
def test_the_freshness_lifetime_follows_the_rfc(named: dict[str, str], lifetime: float) -> None:
    assert lifetime_s(stored(200, **named)) == lifetime


@pytest.mark.parametrize(
    "expires",
    [
        "0",
        "-1",
        "",
        "Thu, 18 Aug 2050 02:01:18 UTC",
        "Thu, 18 Aug 2050 02:01:18 AEST",
        "Thu, 18 Aug 2050 02:01:18 +0000",
        "Thu, 18 Aug 50 02:01:18 GMT",
        "Thu 18 Aug 2050 02:01:18 GMT",
        "Thu, 18  Aug  2050 02:01:18 GMT",
        "Thu, 18-Aug-2050 02:01:18 GMT",
        "Thu, 18 Aug 2050 02.01.18 GMT",
        "Thu, 18 Aug 2050 2:01:18 GMT",
        "Thu, 18 Aug 2050 02:01:18 GMT, Thu, 18 Aug 2050 02:01:18 GMT",
    ],
)
def test_an_expires_that_is_no_http_date_means_expired(expires: str) -> None:
    assert lifetime_s(stored(200, expires=expires, last_modified=date(-1000))) == 0


def test_several_expires_that_differ_mean_expired() -> None:
    assert lifetime_s(stored(200, ("Expires", date(90)), ("Expires", date(90)))) == 90
    assert lifetime_s(stored(200, ("Expires", date(90)), ("Expires", date(91)))) == 0


@pytest.mark.parametrize(
    ("status", "control", "lifetime"), [(500, "", 0), (299, "", 0), (299, "public", 100), (404, "", 100)]
)
def test_heuristic_freshness_is_for_some_statuses_and_for_public(status: int, control: str, lifetime: float) -> None:
    response = stored(status, cache_control=control, last_modified=date(-1000), date=date(0))
    assert lifetime_s(response) == lifetime


def test_age_sums_the_age_field_the_transfer_and_the_time_in_the_cache() -> None:
    assert age_s(stored(), NOW + 5) == 5
    assert age_s(stored(date=date(-7)), NOW + 5) == 12
    assert age_s(stored(age="40", date=date(-7)), NOW + 5) == 45
    slow = StoredResponse(200, headers(("Age", "10")), b"", NOW - 3, NOW)
    assert age_s(slow, NOW) == 13


@pytest.mark.parametrize(
    ("values", "age"),
    [
        (["7200, 0"], 7200),
        (["0, 7200"], 0),
        (["7200", "0"], 7200),
        (["0", "7200"], 0),
        (["2147483649"], MAX_SECONDS),
        (["99999999999999"], MAX_SECONDS),
        (["abc"], 0),
        (["-7200"], 0),
        (["7200.0"], 0),
        (["7200;foo=bar"], 0),
        ([", 7200"], 0),
    ],
)
def test_the_first_of_several_ages_counts_and_a_malformed_one_is_ignored(values: list[str], age: float) -> None:
    assert age_s(stored(200, *[("Age", value) for value in values]), NOW) == age


@pytest.mark.parametrize(
    ("control", "requested", "after_s", "usable"),
    [
        ("max-age=60", "", 59, True),
        ("max-age=60", "", 60, False),
        ("max-age=60, no-cache", "", 1, False),
        ('max-age=60, no-cache="x"', "", 1, True),
        ("max-age=60", "no-cache", 1, False),
        ("max-age=60", "max-age=10", 10, True),
        ("max-age=60", "max-age=10", 11, False),
        ("max-age=60", "max-age=0", 1, False),
        ("max-age=60", "min-fresh=30", 31, False),
        ("max-age=60", "min-fresh=30", 29, True),
        ("max-age=60", "max-stale=30", 90, True),
        ("max-age=60", "max-stale=30", 91, False),
        ("max-age=60", "max-stale", 1000, True),
        ("max-age=60", "max-stale=x", 61, False),
        ("max-age=60", "max-stale=30, max-age=10", 20, False),
        ("max-age=60, must-revalidate", "max-stale=30", 61, False),
        ("max-age=60, proxy-revalidate", "max-stale", 61, False),
        ("s-maxage=60", "max-stale", 61, False),
    ],
)
def test_use_depends_on_the_directives_of_request_and_response(
    control: str, requested: str, after_s: float, usable: bool
) -> None:
    assert is_usable(directives_of([requested]), stored(200, cache_control=control), NOW + after_s) == usable


@pytest.mark.parametrize(
    ("control", "requested", "after_s", "usable"),
    [
        ("max-age=10, stale-if-error=60", "", 69, True),
        ("max-age=10, stale-if-error=60", "", 70, False),
        ("max-age=10", "stale-if-error=60", 69, True),
        ("max-age=10", "", 11, False),
        ("max-age=10, stale-if-error=60", "no-cache", 20, False),
        ("max-age=10, stale-if-error=60, must-revalidate", "", 20, False),
        ("max-age=10, stale-if-error=60, proxy-revalidate", "", 20, False),
        ("s-maxage=10, stale-if-error=60", "", 20, False),
        ("no-cache, stale-if-error=60", "", 20, False),
    ],
)
def test_a_stale_response_is_used_only_within_stale_if_error(
    control: str, requested: str, after_s: float, usable: bool
) -> None:
    response = stored(200, cache_control=control)
    assert is_usable_after_error(directives_of([requested]), response, NOW + after_s) == usable


def test_a_response_is_stored_for_a_week_at_most_and_only_while_usable() -> None:
    assert keep_s(stored(cache_control="max-age=99999999"), NOW) == WEEK
    assert keep_s(stored(cache_control="max-age=10"), NOW) == 10
    assert keep_s(stored(cache_control="max-age=10", etag='"a"'), NOW) == 86_410
    assert keep_s(stored(cache_control="max-age=10", age="20"), NOW) == 0
    assert keep_s(stored(cache_control="max-age=10", age="99999999", etag='"a"'), NOW) == 86_400
    assert keep_s(stored(cache_control="max-age=10, stale-if-error=50", age="20"), NOW) == 40
