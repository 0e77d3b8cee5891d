"""Lines to requests: each URL once, and a result for each invalid line."""

from __future__ import annotations

import sys

import pytest

from fetchq import FetchRequest, FetchResult, FetchStatus, InvalidRequest
from fetchq_worker.cli.bulk.dedupe import UrlSet
from fetchq_worker.cli.bulk.requests import FetchLimits, RequestSource


def test_a_url_is_fetched_once_in_any_spelling() -> None:
    requests = RequestSource(FetchLimits())
    wanted = requests.parse(
        ["http://Example.org", "http://example.org/", "http://example.org:80/./", "http://example.org/b"]
    )
    assert [one.url for one in wanted] == ["http://Example.org", "http://example.org/b"]
    assert (requests.count, requests.duplicates) == (2, 2)


def test_a_url_with_a_result_is_skipped_and_counted_separately() -> None:
    requests = RequestSource(FetchLimits())
    requests.skip("http://EXAMPLE.org/a")
    requests.skip("no url at all")
    lines = ["http://example.org/a", "no url at all", "http://example.org/a", *["http://example.org/b"] * 2]
    assert [one.url for one in requests.parse(lines)] == ["http://example.org/b"]
    assert (requests.done_before, requests.duplicates) == (2, 2)


@pytest.mark.parametrize(
    "garbage",
    ["example.org", "http://", "ftp://example.org/", "http://[::1", "http://a b/", "\0", "http://user:pw@example.org/"],
)
def test_garbage_becomes_an_invalid_url_result(garbage: str) -> None:
    [(url, result)] = RequestSource(FetchLimits()).parse([garbage])
    assert url == garbage
    assert isinstance(result, FetchResult)
    assert result.status is FetchStatus.INVALID_URL
    assert result.error


def test_a_host_outside_ascii_is_sent_as_punycode() -> None:
    [(url, request)] = RequestSource(FetchLimits()).parse(["https://bücher.example/"])
    assert url == "https://bücher.example/"
    assert isinstance(request, FetchRequest)
    assert request.url == "https://xn--bcher-kva.example/"


def test_the_limits_are_in_every_request() -> None:
    [(_, request)] = RequestSource(FetchLimits(timeout_s=2.5, max_bytes=1000, max_tries=1)).parse(
        ["http://example.org/"]
    )
    assert isinstance(request, FetchRequest)
    assert (request.timeout_s, request.max_bytes, request.retry.max_tries) == (2.5, 1000, 1)


@pytest.mark.parametrize("limits", [FetchLimits(timeout_s=-1), FetchLimits(max_bytes=0), FetchLimits(max_tries=0)])
def test_impossible_limits_are_refused_before_any_line_is_read(limits: FetchLimits) -> None:
    with pytest.raises(InvalidRequest, match="is not between"):
        RequestSource(limits)


def test_the_set_of_urls_contains_every_url_and_stays_small() -> None:
    seen = UrlSet()
    urls = [f"http://site.example/{i}" for i in range(50_000)]
    assert all(seen.add(url) for url in urls)
    assert not any(seen.add(url) for url in urls)
    assert all(url in seen for url in urls)
    assert "http://site.example/50000" not in seen
    assert len(seen) == 50_000
    assert sys.getsizeof(seen._slots) <= 33 * 50_000
