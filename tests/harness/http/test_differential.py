"""Damaged responses: this client and the one before it."""

from __future__ import annotations

import random

import pytest
from harness.http.differential import Case, compare, damaged

pytestmark = pytest.mark.asyncio


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # futures that the reference leaves
async def test_damaged_responses_are_read_alike_whole_and_by_bytes_and_as_by_the_reference() -> None:
    draw = random.Random(11)
    cases = [damaged(draw) for _ in range(400)]

    assert [case for case in cases if compare(case)[0] == "?"] == []


async def test_a_difference_without_a_reason_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.http.differential.REASONS", {})
    case = Case(b"HTTP/1.1 200 OK\r\nX A: b\r\nContent-Length: 3\r\n\r\nabc", "keep", "GET")

    reason, (ours, by_bytes, theirs) = compare(case)

    assert reason == "?"
    assert ours == by_bytes
    assert (ours.word, ours.body, ours.headers, theirs.word) == ("ok", b"abc", (("Content-Length", "3"),), "malformed")
