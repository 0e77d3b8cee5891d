"""Scores in the sorted set of pending jobs: lane, due time, and whether the job is parked
(`lua/include/queue/scores.lua`)."""

from __future__ import annotations

from typing import Final, NamedTuple

PARKED: Final = 1 << 52
"""Scores from here on belong to parked jobs, which wait in the queue of their limit key."""
_HIGH: Final = 1 << 51
_LOW: Final = 1 << 50
_HIGH_BELOW: Final = -(_LOW + (1 << 49))
_LOW_BELOW: Final = -(1 << 49)
_FINITE: Final = 1 << 53


_PARKED_DIGITS: Final = 16
"""A score of this many digits can belong to a parked job."""


class Score(NamedTuple):
    """A decoded score."""

    lane: str
    """`h` high, `l` low, or nothing for the default one."""
    due_ms: int
    """When the job is due, in ms since the epoch; if `was_parked`, when it was released."""
    was_parked: bool
    """Whether the job was parked, and has been released to be claimed."""


def read_score(score: float) -> Score:
    """Decodes a score. One that fetchq cannot have written, such as infinity, means due since 1970."""
    if not abs(score) < _FINITE:
        return Score("", 0, False)
    lane, due = "", score
    if score >= PARKED:
        due = score - PARKED
        if due >= _HIGH:
            lane, due = "l", due - _HIGH
        elif due >= _LOW:
            lane, due = "h", due - _LOW
    elif score < _HIGH_BELOW:
        lane, due = "h", score + _HIGH
    elif score < _LOW_BELOW:
        lane, due = "l", score + _LOW
    return Score(lane, int(due), due % 1 != 0)


def due_of(score: bytes) -> tuple[int, bool, str]:
    """`due_ms`, `was_parked` and `lane` of a score as Redis sends it."""
    if score.isdigit() and len(score) < _PARKED_DIGITS:
        return int(score), False, ""  # fast path: nearly all jobs are in the default lane and were never parked
    decoded = read_score(float(score))
    return decoded.due_ms, decoded.was_parked, decoded.lane
