"""Parsing of Cache-Control."""

from __future__ import annotations

import pytest

from fetchq_worker.fetch.cache.directives import (
    MAX_SECONDS,
    covers_all_fields,
    directives_of,
    listed_fields,
    seconds_of,
)


@pytest.mark.parametrize(
    ("field", "seconds"),
    [
        ("max-age=60", 60),
        ("MAX-AGE=60", 60),
        (' , max-age="60" ,', 60),
        ('max-age="6\\0"', 60),
        ("max-age=60, max-age=5", 60),
        ("max-age=2147483648", MAX_SECONDS),
        ("max-age=99999999999", MAX_SECONDS),
        ("max-age=" + "9" * 1000, MAX_SECONDS),
        ("max-age", 0),
        ("max-age=", 0),
        ("max-age=-1", 0),
        ("max-age=1e9", 0),
        ("max-age=60.5", 0),
        ("max-age=60s", 0),
        ("max-age =60", 0),
        ("max-age= 60", 0),
        ('max-age="60', 0),
        ("max-age=\u0663", 0),
        ("s-maxage=60", None),
        ('x="max-age=60"', None),
        ('x="a\\", max-age=60"', None),
        ('x="max-age=1, max-age=60', None),
        ('x="max-age=60\\', None),
    ],
)
def test_a_number_of_seconds_is_digits_and_nothing_else(field: str, seconds: float | None) -> None:
    assert seconds_of(directives_of([field]), "max-age") == seconds


def test_several_fields_are_one_list() -> None:
    assert directives_of(["max-age=1", "", "public, max-age=2"]) == {"max-age": "1", "public": ""}


@pytest.mark.parametrize(
    ("field", "all_fields", "listed"),
    [
        ("private", True, set()),
        ('private="a, B"', False, {"a", "b"}),
        ('private="a", private="b"', False, {"a", "b"}),
        ('private="a", private', True, set()),
        ('private, private="a"', True, set()),
        ('private=""', True, set()),
        ("private=a", True, set()),
        ('private ="a"', True, set()),
        ('private="a', True, set()),
        ("public", False, set()),
    ],
)
def test_only_a_quoted_list_limits_private_to_some_fields(field: str, all_fields: bool, listed: set[str]) -> None:
    directives = directives_of([field])
    assert covers_all_fields(directives, "private") == all_fields
    assert listed_fields(directives, "private") == listed


def test_a_field_that_is_too_long_forbids_storing() -> None:
    assert directives_of(["max-age=60, " + "x, " * 3000]) == {"no-store": ""}
