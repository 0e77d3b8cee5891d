"""One rule for each part of a URL, for all of fetchq."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fetchq import FetchRequest, InvalidRequest
from fetchq.client.cancel import host_to_cancel, match_filter
from fetchq.client.limits import name_of
from fetchq.contract import wire
from fetchq.contract.dead_letter import DeadLetter, decode_dead_letter
from fetchq.contract.placement import limit_key_of
from fetchq.contract.urls import find_host, host_of, is_address, normalise_url, origin_of


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("http://example.org/", "example.org"),
        ("http://example.org:81/", "example.org"),
        ("http://a.invalid./", "a.invalid"),
        ("http://a.invalid.:8080/x", "a.invalid"),
        ("http://./", "."),
        ("http://[2001:db8::1]/", "[2001:db8::1]"),
        ("http://[2001:db8::1]:81/a:1", "[2001:db8::1]"),
        ("http://192.0.2.1:81/", "192.0.2.1"),
        ("https://example.org/a@b://c", "example.org"),
    ],
)
def test_the_host_has_no_port_and_no_root_dot(url: str, host: str) -> None:
    assert normalise_url(url) == url
    assert host_of(url) == host
    assert find_host(url) == host


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("HTTP://user:secret@EXAMPLE.org:99/", "example.org"),
        ("ftp://example.org./", "example.org"),
        ("mailto:somebody@example.org", None),
        ("example.org", None),
        ("http://[::1/", None),
        ("http://\ud800/", None),
    ],
)
def test_the_host_of_a_url_that_is_not_serialised_is_found_or_is_none(url: str, host: str | None) -> None:
    assert find_host(url) == host


@given(st.text(max_size=40).map("http://".__add__))
def test_both_ways_to_a_host_agree_on_every_url(text: str) -> None:
    try:
        url = normalise_url(text)
    except InvalidRequest:
        return
    assert host_of(url) == find_host(url) == find_host(text)
    assert origin_of(url) == url[: len(origin_of(url))]
    assert "/" not in origin_of(url).removeprefix("http://")


def test_an_origin_is_scheme_host_and_port() -> None:
    assert origin_of("https://example.org/a://b") == "https://example.org"
    assert origin_of("https://example.org:8443/") == "https://example.org:8443"
    assert origin_of("http://example.org/") != origin_of("https://example.org/")
    assert origin_of("http://example.org./") != origin_of("http://example.org/"), "as in browsers"


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("192.0.2.1", True),
        ("[2001:db8::1]", True),
        ("2001:db8::1", True),
        ("example.org", False),
        ("1.example", False),
        ("", False),
        (".", False),
    ],
)
def test_an_address_is_distinguished_from_a_name(host: str, address: bool) -> None:
    assert is_address(host) == address


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("app://callback/?code=secret", "'app://callback/?...' is not an http"),
        ("app://me:what?secret@callback/#secret", "'***@callback/?...' is not an absolute URL"),
        ("a.example/x?token=secret", "'a.example/x?...' is not an absolute URL"),
        ("/x?", "'/x?' is not an absolute URL"),
    ],
)
def test_a_refusal_repeats_neither_password_nor_query_nor_fragment(url: str, shown: str) -> None:
    with pytest.raises(InvalidRequest) as refusal:
        normalise_url(url)
    assert shown in str(refusal.value)


def _dead_letter_of(url: str) -> DeadLetter:
    job = wire.encode_job("fetch_data", ({"url": url},), {}, 1)
    outcome = {"f": "fetch_data", "t": 1, "s": True, "r": {"url": url, "status": "TIMEOUT"}}
    stored = wire.serialize([job, "string", len(job), outcome])  # type: ignore[arg-type]  # any value is encoded
    return decode_dead_letter("j", 1, stored)


def test_limits_cancelling_and_dead_letters_name_the_same_host_for_a_name_with_a_root_dot() -> None:
    url = "http://a.invalid./"
    assert limit_key_of(FetchRequest(url=url)) == "a.invalid"
    assert name_of("a.invalid.") == host_to_cancel("a.invalid.") == "a.invalid"
    assert match_filter(tag=None, host="a.invalid")(wire.encode_job("fetch_data", ({"url": url},), {}, 1))
    assert _dead_letter_of(url).host == "a.invalid"
