"""Which responses, and which of their fields, a shared cache may store."""

from __future__ import annotations

import pytest
from tests.support.web.stored import date, headers, stored

from fetchq_worker.fetch.cache.stored_response import StoredResponse, storable_fields
from fetchq_worker.fetch.cache.storing import may_store


@pytest.mark.parametrize(
    ("response", "has_credentials", "stores"),
    [
        (stored(cache_control="max-age=60"), False, True),
        (stored(etag='"a"'), False, True),
        (stored(expires=date(60)), False, True),
        (stored(), False, False),
        (stored(404, cache_control="max-age=60"), False, True),
        (stored(500, cache_control="max-age=60"), False, True),
        (stored(500, etag='"a"'), False, False),
        (stored(206, cache_control="max-age=60"), False, False),
        (stored(304, cache_control="max-age=60"), False, False),
        (stored(103, cache_control="max-age=60"), False, False),
        (stored(cache_control="max-age=60, no-store"), False, False),
        (stored(cache_control="max-age=60, NO-STORE"), False, False),
        (stored(cache_control="max-age=60, no-store, must-understand"), False, True),
        (stored(599, cache_control="max-age=60, no-store, must-understand"), False, False),
        (stored(599, cache_control="max-age=60, must-understand"), False, False),
        (stored(599, cache_control="max-age=60"), False, True),
        (stored(cache_control="max-age=60, private"), False, False),
        (stored(cache_control='max-age=60, private="x"'), False, True),
        (stored(cache_control="max-age=60", vary="Accept, *"), False, False),
        (stored(cache_control="max-age=60", vary=",".join(f"x{n}" for n in range(33))), False, False),
        (stored(cache_control="max-age=60", set_cookie="a=b"), False, False),
        (stored(cache_control="max-age=60, public", set_cookie="a=b"), False, True),
        (stored(cache_control="max-age=60"), True, False),
        (stored(cache_control="max-age=60, public"), True, True),
        (stored(cache_control="s-maxage=60"), True, True),
        (stored(cache_control="max-age=60, must-revalidate"), True, True),
    ],
)
def test_only_responses_that_a_shared_cache_may_store_are_stored(
    response: StoredResponse, has_credentials: bool, stores: bool
) -> None:
    assert may_store({}, has_credentials, response) == stores
    assert not may_store({"no-store": ""}, has_credentials, response)


def test_fields_of_the_connection_and_those_that_directives_list_are_not_stored() -> None:
    fields = headers(
        ("Connection", "close, X-Hop"),
        ("X-Hop", "1"),
        ("Keep-Alive", "timeout=5"),
        ("Proxy-Authentication-Info", "x"),
        ("Cache-Control", 'max-age=60, private="set-cookie", no-cache="X-A, X-B"'),
        ("Set-Cookie", "a=b"),
        ("X-A", "1"),
        ("x-b", "2"),
        ("X-C", "caf\xe9"),
    )
    assert list(storable_fields(fields)) == ["Cache-Control", "X-C"]
