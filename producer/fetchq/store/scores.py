"""Scores in the sorted set of pending jobs: lane, due time, and whether the job is parked (`lua/include`: scores)."""

from __future__ import annotations

from typing import Final, NamedTuple

PARKED: Final = 1 << 52
"""Scores from here on are of parked jobs: they wait in the queue of their limit key."""
_HIGH: Final = 1 << 51
_LOW: Final = 1 << 50
_HIGH_BELOW: Final = -(_LOW + (1 << 49))
_LOW_BELOW: Final = -(1 << 49)
_FINITE: Final = 1 << 53


_PARKED_DIGITS: Final = 16
"""A score of as many digits can be a parked job's."""


class Score(NamedTuple):
    """What a score says of its job."""

    lane: str
    """`h` high, `l` low, or nothing for the default one."""
    due_ms: int
    """When it is due, in ms since the epoch; of a job that was parked, when it was released."""
    was_parked: bool
    """It was parked, and has been released to be claimed."""


def read_score(score: float) -> Score:
    """Decodes a score. One that fetchq cannot have written, such as infinity, is due since 1970."""
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


def due_of(score: bytes) -> tuple[int, bool]:
    """`due_ms` and `was_parked` of a score as Redis sends it."""
    if score.isdigit() and len(score) < _PARKED_DIGITS:
        return int(score), False  # nearly all are in the default lane and never waited
    decoded = read_score(float(score))
    return decoded.due_ms, decoded.was_parked
