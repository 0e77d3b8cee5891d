"""W3C Trace Context (https://www.w3.org/TR/trace-context/) as a job carries it: `traceparent` and `tracestate`."""

from __future__ import annotations

import re
from typing import Final

import msgspec

TRACEPARENT: Final = "traceparent"
TRACESTATE: Final = "tracestate"
"""The keys in the map of a job, named as the HTTP headers: a propagator of any language can write them."""
MAX_STATE_CHARS: Final = 512
"""What a vendor should propagate at least (section 3.3.1.5); a longer list loses members."""
MAX_MEMBER_CHARS: Final = 128
MAX_MEMBERS: Final = 32

_PARENT: Final = re.compile("(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})")
_PARENT_CHARS: Final = 55
_KEY_CHARS: Final = r"[a-z0-9_\-*/]"
_MEMBER: Final = re.compile(
    rf"((?:[a-z]{_KEY_CHARS}{{0,255}}|[a-z0-9]{_KEY_CHARS}{{0,240}}@[a-z]{_KEY_CHARS}{{0,13}}))"
    r"=[\x20-\x2b\x2d-\x3c\x3e-\x7e]{0,255}[\x21-\x2b\x2d-\x3c\x3e-\x7e]"
)
"""Section 3.3.1.3, as OpenTelemetry's API reads it: that logs a warning, with the text, for any other member."""
_ODD_DIGITS: Final = frozenset("13579bdf")


class TraceContext(msgspec.Struct, frozen=True):
    """The span that enqueued a job."""

    trace_id: int
    span_id: int
    flags: int
    state: str = ""


def carried(trace_id: int, span_id: int, flags: int, state: str = "") -> dict[str, str]:
    """The fields that a job carries of the span that enqueues it."""
    fields = {TRACEPARENT: f"00-{trace_id:032x}-{span_id:016x}-{flags:02x}"}
    if state:
        fields[TRACESTATE] = bounded_state(state)
    return fields


def parse_context(traceparent: object, tracestate: object = None) -> TraceContext | None:
    """The context in the fields of a job. None if there is none or if it is invalid, of whatever type."""
    if not isinstance(traceparent, str) or (found := _PARENT.match(traceparent)) is None:
        return None
    rest = traceparent[_PARENT_CHARS:]
    if rest and (traceparent.startswith("00") or not rest.startswith("-")):  # later versions may append fields
        return None
    trace_id, span_id, flags = (int(digits, 16) for digits in found.groups())
    return TraceContext(trace_id, span_id, flags, _valid_state(tracestate) if isinstance(tracestate, str) else "")


def is_unsampled(traceparent: object) -> bool:
    """Whether the sender's span is not sampled, decided by its flags alone. False if there is no context."""
    return (
        isinstance(traceparent, str)
        and len(traceparent) >= _PARENT_CHARS
        and traceparent[52] == "-"
        and traceparent[54] not in _ODD_DIGITS
    )


def bounded_state(tracestate: str) -> str:
    """At most `MAX_STATE_CHARS`: long members are left out first, then the last ones (section 3.3.1.5)."""
    if len(tracestate) <= MAX_STATE_CHARS:
        return tracestate
    kept: list[str] = []
    left = MAX_STATE_CHARS
    for member in tracestate[: 64 * MAX_STATE_CHARS].split(","):
        if len(member) <= MAX_MEMBER_CHARS and member:
            left -= len(member) + bool(kept)
            if left < 0:
                break
            kept.append(member)
    return ",".join(kept)


def _valid_state(tracestate: str) -> str:
    """At most `MAX_MEMBERS` and `MAX_STATE_CHARS`; empty where a member is invalid or a key occurs twice."""
    members = [member.strip(" \t") for member in bounded_state(tracestate).split(",")]
    keys: set[str] = set()
    kept = [member for member in members if member][:MAX_MEMBERS]
    for member in kept:
        found = _MEMBER.fullmatch(member)
        if found is None or found[1] in keys:
            return ""
        keys.add(found[1])
    return ",".join(kept)
