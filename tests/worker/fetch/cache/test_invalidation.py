"""Which URLs an unsafe request invalidates."""

from __future__ import annotations

import pytest
from tests.support.web.stored import headers

from fetchq_worker.fetch.cache.invalidation import invalidated_urls

URL = "https://a.example/items/1"


@pytest.mark.parametrize("status", [200, 201, 204, 303, 399])
def test_a_response_that_is_no_error_invalidates_the_url(status: int) -> None:
    assert invalidated_urls(URL, status, headers()) == (URL,)


@pytest.mark.parametrize("status", [101, 400, 404, 500])
def test_an_error_invalidates_nothing(status: int) -> None:
    assert invalidated_urls(URL, status, headers(("Location", "/items"))) == ()


def test_locations_of_the_same_origin_are_invalidated_too() -> None:
    fields = headers(
        ("Location", "2"),
        ("Content-Location", "https://a.example:443/list?x=\xe9"),
        ("Content-Location", "https://b.example/"),
        ("Content-Location", "http://a.example/"),
        ("Content-Location", "http://["),
        ("Content-Location", "mailto:x"),
    )
    assert invalidated_urls(URL, 201, fields) == (
        URL,
        "https://a.example/items/2",
        "https://a.example/list?x=%E9",
    )
