"""The W3C trace context that a job carries."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.trace import TraceState

from fetchq.telemetry.trace_context import (
    MAX_STATE_CHARS,
    TraceContext,
    bounded_state,
    carried,
    is_unsampled,
    parse_context,
)

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
PARENT = f"00-{TRACE}-{SPAN}-01"


def test_a_context_is_read_as_it_was_written() -> None:
    written = carried(int(TRACE, 16), int(SPAN, 16), 1, "vendor=x")
    assert written == {"traceparent": PARENT, "tracestate": "vendor=x"}
    assert parse_context(*written.values()) == TraceContext(int(TRACE, 16), int(SPAN, 16), 1, "vendor=x")


def test_a_context_without_state_has_one_field() -> None:
    assert carried(1, 2, 0) == {"traceparent": f"00-{1:032x}-{2:016x}-00"}


@pytest.mark.parametrize(
    "traceparent",
    [
        None, "", 7, b"00-", [PARENT], {}, "x" * 55, PARENT[:-1], f"{PARENT}\n", f"{PARENT}-more",
        PARENT.upper(), f"ff{PARENT[2:]}", f"00-{'0' * 32}-{SPAN}-01", f"00-{TRACE}-{'0' * 16}-01",
        f"01-{TRACE}-{SPAN}-01x",
    ],
)  # fmt: skip
def test_an_invalid_context_is_no_context(traceparent: Any) -> None:
    assert parse_context(traceparent, "a=1") is None


def test_a_later_version_may_have_more_fields() -> None:
    context = parse_context(f"cc-{TRACE}-{SPAN}-01-what-comes", 3)
    assert context == TraceContext(int(TRACE, 16), int(SPAN, 16), 1)


@pytest.mark.parametrize(("flags", "unsampled"), [("00", True), ("01", False), ("02", True), ("03", False)])
def test_the_flags_say_whether_the_sender_is_sampled(flags: str, *, unsampled: bool) -> None:
    assert is_unsampled(f"{PARENT[:-2]}{flags}") is unsampled


def test_a_job_without_a_context_is_not_unsampled() -> None:
    assert not is_unsampled(None)
    assert not is_unsampled("00")


@given(st.lists(st.text("abc=/@ ", max_size=200), max_size=40))
def test_a_state_is_bounded(members: list[str]) -> None:
    assert len(bounded_state(",".join(members))) <= MAX_STATE_CHARS


def test_a_long_state_loses_its_long_members_and_then_its_last() -> None:
    members = [f"k{i}={'v' * 40}" for i in range(20)]
    kept = bounded_state(",".join([members[0], f"long={'x' * 200}", *members[1:]])).split(",")
    assert kept == members[: len(kept)]
    assert len(kept) >= 10


@pytest.mark.parametrize(
    "state", ["garbage", "a=1,\nb=2", "A=1", "a=1,a=2", "a=1=2", "=x", "a=é", "1a=x", "a= ", "\ud800=1"]
)
def test_an_invalid_state_is_dropped_and_the_span_is_kept(state: str) -> None:
    assert parse_context(PARENT, state) == TraceContext(int(TRACE, 16), int(SPAN, 16), 1)


def test_the_first_members_of_a_state_with_too_many_are_kept() -> None:
    members = [f"k{i}=v" for i in range(40)]
    context = parse_context(PARENT, " ,".join(members))
    assert context is not None
    assert context.state.split(",") == members[:32]


@given(st.text("ab1=,@/_-*\t é\n") | st.text())
def test_opentelemetry_takes_every_state_without_a_warning(state: str) -> None:
    context = parse_context(PARENT, state)
    assert context is not None
    if context.state:
        assert TraceState.from_header([context.state]).to_header() == context.state


IMPORTERS = """
import builtins
real, importers = builtins.__import__, set()

def note(name, globals=None, *others, **named):
    if name.startswith("opentelemetry"):
        importers.add(str((globals or {}).get("__name__")))
    return real(name, globals, *others, **named)

builtins.__import__ = note
import fetchq.client.producer
print(*(name for name in importers if name.startswith("fetchq")))
"""


def test_no_module_of_the_producer_imports_opentelemetry() -> None:
    """redis-py does by itself, from 8.1 on."""
    ran = subprocess.run([sys.executable, "-c", IMPORTERS], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == ""
