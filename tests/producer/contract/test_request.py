"""FetchRequest: its rules, its conversions and its bodies."""

from __future__ import annotations

import pickle
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fetchq import (
    FetchRequest,
    FetchStatus,
    InvalidRequest,
    Priority,
    Producer,
    RetryPolicy,
)
from fetchq.contract import wire
from fetchq.contract.placement import lane_and_deadline_of, limit_key_of
from fetchq.contract.request import build_request

URL = "https://example.org/"


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("url", "example.org", "not an absolute URL"),
        ("url", "http://", "not an absolute URL"),
        ("url", "ftp://example.org/", "not an http or https URL"),
        ("url", "javascript:alert(1)", "not an http or https URL"),
        ("url", "http://user:secret@example.org/", "user name or password"),
        ("url", "http://user@example.org/", "user name or password"),
        ("url", "http://[::1/", "not an absolute URL"),
        ("url", "http://exa mple.org/", "not an absolute URL"),
        ("url", "http://\ud800.org/", "not an absolute URL"),
        ("url", "http://x/" + "a" * 20_000, "longer than"),
        ("url", "http://x/" + "\u00e4" * 9_000, "once escaped"),
        ("url", b"http://x/", "takes a string"),
        ("url", None, "takes a string"),
        ("priority", "urgent", "takes high, default, low"),
        ("priority", None, "takes high, default, low"),
        ("priority", ["high"], "takes high, default, low"),
        ("limit_key", "", "1 to 200 printable"),
        ("limit_key", "a" * 201, "1 to 200 printable"),
        ("limit_key", "a\nb", "1 to 200 printable"),
        ("limit_key", "\ud800", "1 to 200 printable"),
        ("limit_key", b"a", "1 to 200 printable"),
        ("method", "GE T", "not an HTTP method"),
        ("method", "", "not an HTTP method"),
        ("method", 5, "not an HTTP method"),
        ("method", "connect", "CONNECT is not a fetch"),
        ("headers", {"X-A": "one\r\nX-B: two"}, "line break"),
        ("headers", {"X-A": "zero\0"}, "zero byte"),
        ("headers", {"X A": "b"}, "not a header name"),
        ("headers", {"": "b"}, "not a header name"),
        ("headers", {"X-A": "\u20ac"}, "not Latin-1"),
        ("headers", {"Host": "elsewhere"}, "cannot be given"),
        ("headers", {"content-LENGTH": "1"}, "cannot be given"),
        ("headers", {"X-A": 1}, "both strings"),
        ("headers", ["X-A: b"], "pairs"),
        ("headers", "X-A: b", "pairs"),
        ("headers", 7, "pairs"),
        ("headers", [("X-A", "b")] * 129, "more than 128"),
        ("headers", {"X-A": "b" * 70_000}, "65536 bytes"),
        ("body", "text", "takes bytes"),
        ("body", b"x", "a GET request has none"),
        ("timeout_s", -1, "not between"),
        ("timeout_s", 0, "not between"),
        ("timeout_s", float("nan"), "not between"),
        ("timeout_s", float("inf"), "not between"),
        ("timeout_s", "5", "number of seconds"),
        ("timeout_s", True, "number of seconds"),
        ("connect_timeout_s", -0.5, "not between"),
        ("read_timeout_s", 10_000, "not between"),
        ("max_bytes", 0, "not between"),
        ("max_bytes", 1 << 40, "not between"),
        ("max_bytes", 1.5, "whole number"),
        ("max_redirects", -1, "not between"),
        ("retry", 3, "takes a RetryPolicy"),
        ("retry_non_idempotent", 1, "True or False"),
        ("not_before", datetime(2026, 1, 1), "with a time zone"),
        ("not_before", 12, "takes a datetime"),
        ("deadline", datetime(2026, 1, 1), "with a time zone"),
        ("delay_s", -1, "not between"),
        ("etag", 5, "as received"),
        ("etag", "", "1 to 1024"),
        ("etag", '"a"\r\nX: y', "printable"),
        ("etag", '"\u20ac"', "printable Latin-1"),
        ("etag", "*", "not *"),
        ("last_modified", datetime(2026, 1, 1), "as received"),
        ("last_modified", "\u00e4", "printable"),
        ("credential", "a b", "takes a name"),
        ("credential", "", "takes a name"),
        ("credential", 5, "takes a name"),
        ("proxy", "http://proxy.example/", "takes a name"),
        ("cache", 1, "True or False"),
        ("cookies", 1, "True or False"),
        ("verify_tls", None, "True or False"),
        ("robots", 1, "True or False"),
        ("json", {1j}, "complex"),
        ("form", "a=b", "pairs"),
        ("form", {"a": b"b"}, "string, number or flag"),
        ("form", {"a": "\ud800"}, "valid Unicode"),
        ("key", "", "1 to 256 characters"),
        ("key", "k" * 257, "1 to 256 characters"),
        ("key", 5, "1 to 256 characters"),
        ("result_ttl_s", -1, "not between"),
        ("tags", "abc", "a list of short names"),
        ("tags", [1], "16 names"),
        ("tags", ["t"] * 17, "16 names"),
        ("nonsense", 1, "no such field"),
        ("v", 2, "no such field"),
    ],
)
def test_a_broken_field_is_refused_with_a_sentence_that_names_it(field: str, value: Any, message: str) -> None:
    fields = {"url": URL, field: value}
    with pytest.raises(InvalidRequest) as refusal:
        build_request(fields.pop("url"), fields)
    assert refusal.value.field == field
    assert message in str(refusal.value)
    assert str(refusal.value).startswith(f"{field}: ")
    assert "secret" not in str(refusal.value)


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"max_tries": 0}, "retry.max_tries"),
        ({"max_tries": 1000}, "retry.max_tries"),
        ({"base_s": -1}, "retry.base_s"),
        ({"cap_s": float("nan")}, "retry.cap_s"),
        ({"on": ("SOMETIMES",)}, "retry.on"),
        ({"on": 5}, "retry.on"),
        ({"http_statuses": (1000,)}, "retry.http_statuses"),
        ({"http_statuses": 503}, "retry.http_statuses"),
    ],
)
def test_a_broken_retry_policy_is_refused(options: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidRequest) as refusal:
        RetryPolicy(**options)
    assert refusal.value.field == field


def test_not_before_and_delay_cannot_be_combined() -> None:
    with pytest.raises(InvalidRequest, match="delay_s"):
        FetchRequest(url=URL, not_before=datetime.now(UTC), delay_s=5)


def test_a_body_over_the_limit_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="more than 1048576"):
        FetchRequest(url=URL, method="POST", body=bytes((1 << 20) + 1))


@pytest.mark.parametrize(
    ("given_url", "stored"),
    [
        ("HTTP://EXAMPLE.org:80", "http://example.org/"),
        ("https://b\u00fccher.example/\u00e4?q=\u00f6#f", "https://xn--bcher-kva.example/%C3%A4?q=%C3%B6#f"),
        ("  https://example.org/a/../b ", "https://example.org/b"),
        ("http://0x7f.1/", "http://127.0.0.1/"),
        ("http://example.org/a@b", "http://example.org/a@b"),
        ("http://example.org?a@b", "http://example.org/?a@b"),
        ("http:\\\\example.org\\a", "http://example.org/a"),
    ],
)
def test_a_url_is_stored_in_its_serialised_form(given_url: str, stored: str) -> None:
    assert FetchRequest(url=given_url).url == stored


def test_headers_may_be_a_mapping_or_pairs_and_a_name_may_repeat() -> None:
    assert FetchRequest(url=URL, headers={"A": "b"}).headers == (("A", "b"),)
    pairs = (("A", "b"), ("A", "c"))
    assert FetchRequest(url=URL, headers=list(pairs)).headers == pairs
    assert FetchRequest(url=URL, headers={}).headers == ()


@pytest.mark.parametrize("field", ["etag", "last_modified"])
def test_a_validator_is_accepted_for_get_and_head_only_and_not_beside_a_conditional_header(field: str) -> None:
    with pytest.raises(InvalidRequest, match=f"{field}: goes with GET and HEAD, not with POST"):
        FetchRequest.of(URL, method="POST", **{field: '"a"'})  # type: ignore[arg-type]
    with pytest.raises(InvalidRequest, match=f"{field}: cannot be combined with a conditional header"):
        FetchRequest.of(URL, headers={"if-NONE-match": '"b"'}, **{field: '"a"'})  # type: ignore[arg-type]


def test_a_credential_cannot_be_combined_with_an_authorization_header() -> None:
    with pytest.raises(InvalidRequest, match="credential: cannot be combined with an Authorization header"):
        FetchRequest.of(URL, credential="api", headers={"authorization": "x"})


def test_the_cache_is_for_get_and_head_and_not_beside_validators() -> None:
    with pytest.raises(InvalidRequest, match="cache: goes with GET and HEAD, not with PUT"):
        FetchRequest(url=URL, method="PUT", cache=True)
    with pytest.raises(InvalidRequest, match="cache: cannot be combined with etag or last_modified"):
        FetchRequest(url=URL, cache=True, etag='"a"')


def test_json_becomes_the_body_of_a_post() -> None:
    request = FetchRequest.of(URL, json={"a": [1, None, "\u00e4"]})
    assert (request.method, request.body) == ("POST", '{"a":[1,null,"\u00e4"]}'.encode())
    assert request.headers == (("Content-Type", "application/json"),)


def test_a_form_becomes_the_body_of_a_post() -> None:
    request = FetchRequest.of(URL, form=[("a b", "\u00e4&="), ("n", 1), ("n", 2.5), ("f", True)])
    assert (request.method, request.body) == ("POST", b"a+b=%C3%A4%26%3D&n=1&n=2.5&f=true")
    assert request.headers == (("Content-Type", "application/x-www-form-urlencoded"),)


def test_a_body_keeps_the_callers_content_type_and_method() -> None:
    request = FetchRequest.of(URL, method="PUT", headers={"content-type": "application/ld+json"}, json=[])
    assert (request.method, request.headers) == ("PUT", (("content-type", "application/ld+json"),))
    changed = build_request(FetchRequest(url=URL, method="PATCH", headers=(("X-A", "b"),)), {"form": {"c": "d"}})
    assert (changed.method, changed.body) == ("PATCH", b"c=d")
    assert changed.headers == (("X-A", "b"), ("Content-Type", "application/x-www-form-urlencoded"))


def test_a_body_has_one_source() -> None:
    with pytest.raises(InvalidRequest, match="form: cannot be combined with json"):
        FetchRequest.of(URL, json={}, form={})
    with pytest.raises(InvalidRequest, match="json: cannot be combined with body"):
        FetchRequest.of(URL, body=b"x", json={})
    assert FetchRequest.of(URL, body=None, json=None, form=None) == FetchRequest(url=URL)


def test_same_work_ignores_times_only() -> None:
    now = datetime.now(UTC)
    one = FetchRequest(url=URL, delay_s=5, deadline=now)
    assert one.same_work(FetchRequest(url=URL, not_before=now, deadline=now + timedelta(1)))
    assert not one.same_work(FetchRequest(url=URL, method="HEAD"))
    assert not one.same_work(FetchRequest(url=URL, headers=(("A", "b"),)))


def test_a_policy_covers_its_outcomes_and_codes() -> None:
    policy = RetryPolicy()
    assert policy.covers(FetchStatus.TIMEOUT, None)
    assert policy.covers(FetchStatus.HTTP_ERROR, 503)
    assert not policy.covers(FetchStatus.HTTP_ERROR, 404)
    assert not policy.covers(FetchStatus.BLOCKED, None)
    assert not policy.covers(FetchStatus.OK, 200)
    assert RetryPolicy(on=(FetchStatus.TLS_ERROR,)).covers(FetchStatus.TLS_ERROR, None)


def test_a_request_and_its_error_can_be_pickled() -> None:
    request = FetchRequest(url=URL, retry=RetryPolicy(max_tries=2))
    assert pickle.loads(pickle.dumps(request)) == request
    with pytest.raises(InvalidRequest) as refusal:
        FetchRequest(url="x")
    assert str(pickle.loads(pickle.dumps(refusal.value))) == str(refusal.value)


@given(st.text(max_size=60) | st.text(max_size=40).map("http://".__add__))
def test_any_text_is_a_valid_url_or_an_invalid_request(text: str) -> None:
    try:
        request = FetchRequest(url=text)
    except InvalidRequest:
        return
    assert request.url.startswith(("http://", "https://"))
    assert request.url.isascii()
    assert FetchRequest(url=request.url).url == request.url


@given(
    st.dictionaries(
        st.sampled_from([f.name for f in msgspec.structs.fields(FetchRequest)]),
        st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary() | st.lists(st.text()),
    )
)
def test_any_values_make_a_request_or_an_invalid_request(values: dict[str, Any]) -> None:
    try:
        request = FetchRequest(**{"url": URL, **values})
    except InvalidRequest:
        return
    assert msgspec.convert(msgspec.to_builtins(request, builtin_types=(bytes, datetime)), FetchRequest) == request


@pytest.mark.asyncio
async def test_a_refused_request_writes_nothing_to_redis(producer: Producer, redis: Any) -> None:
    with pytest.raises(InvalidRequest):
        await producer.enqueue(URL, timeout_s=-1)
    with pytest.raises(InvalidRequest):
        await producer.enqueue(URL, colour="red")  # type: ignore[call-arg]
    assert await redis.keys("*") == []


def test_a_worker_reads_a_deadline_that_has_passed_but_not_one_before_the_job_is_due() -> None:
    past = datetime(2020, 1, 1, tzinfo=UTC)
    assert wire.decode_request({"url": "http://h/", "deadline": past}).deadline == past
    with pytest.raises(InvalidRequest, match="not_before: is after the deadline"):
        FetchRequest(url="http://h/", deadline=past, not_before=past + timedelta(seconds=1))
    FetchRequest(url="http://h/", deadline=past, not_before=past)


def test_a_priority_can_be_a_string_and_the_default_is_not_encoded() -> None:
    request = FetchRequest.of(URL, priority="high")
    assert request.priority is Priority.HIGH
    assert msgspec.to_builtins(request) == {"url": URL, "priority": "high"}
    assert msgspec.to_builtins(FetchRequest.of(URL, priority="default")) == {"url": URL}
    assert wire.decode_request({"url": URL, "priority": "low"}).priority is Priority.LOW


def test_same_work_ignores_the_priority_but_not_the_limit_key() -> None:
    request = FetchRequest(url=URL, limit_key="tenant")
    assert request.same_work(FetchRequest(url=URL, limit_key="tenant", priority=Priority.LOW))
    assert not request.same_work(FetchRequest(url=URL))


@pytest.mark.parametrize(
    ("options", "key", "lane"),
    [
        ({}, "example.org", ""),
        ({"priority": "high"}, "example.org", "h"),
        ({"priority": "low", "deadline": datetime(2030, 1, 1, tzinfo=UTC)}, "example.org", "l1893456000000"),
        ({"deadline": datetime(2030, 1, 1, tzinfo=UTC)}, "example.org", "1893456000000"),
        ({"limit_key": "example.org"}, "key:example.org", ""),
    ],
)
def test_the_limit_key_lane_and_deadline_of_a_request(options: Any, key: str, lane: str) -> None:
    request = FetchRequest.of(URL, **options)
    assert limit_key_of(request) == key
    assert lane_and_deadline_of(request) == lane
