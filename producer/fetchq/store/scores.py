"""What a place in the queue says: Python's `frontier.read_score` (`fetchq/lua/frontier.lua`)."""

from __future__ import annotations

from typing import Final, NamedTuple

PARKED: Final = 1 << 52
_HIGH: Final = 1 << 51
_LOW: Final = 1 << 50
_HIGH_BELOW: Final = -(_LOW + (1 << 49))
_LOW_BELOW: Final = -(1 << 49)
_FINITE: Final = 1 << 53


class Place(NamedTuple):
    """Of a job in the sorted set of pending jobs."""

    lane: str
    """`h` high, `l` low, or nothing for the default one."""
    due_ms: int
    """When it was due, in ms since the epoch; of one that had to wait for its limits, when its turn came."""
    was_parked: bool
    """It waited for its limits first."""


def read_score(score: float) -> Place:
    """The place that a score is; a number that is none, which somebody's script left there, is due since 1970."""
    if not abs(score) < _FINITE:
        return Place("", 0, False)
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
    return Place(lane, int(due), due % 1 != 0)
