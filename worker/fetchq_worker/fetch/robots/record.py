"""What is known of an origin's robots.txt, and when it is requested again. Pure."""

from __future__ import annotations

from typing import Final, NamedTuple

import msgspec

from fetchq import FetchStatus
from fetchq.contract.wire import UNREADABLE
from fetchq_worker.fetch.http.errors import RobotsUnavailable

RULES_TTL_S: Final = 4 * 3600.0
"""How long rules are cached."""
STALE_TTL_S: Final = 24 * 3600.0
"""How long rules are used while no newer ones can be had (RFC 9309, section 2.4)."""
FIRST_WAIT_S: Final = 1.0
MAX_WAIT_S: Final = 60.0
"""The time between two requests of a robots.txt that cannot be had: doubled each time, up to this."""
MAX_RETRY_AFTER_S: Final = 3600.0
"""A longer Retry-After is cut to this."""
_CLOCK_TOLERANCE_S: Final = 5.0
"""By how much the clocks of two workers may differ."""
_FORGET_FAILURE_S: Final = 3600.0
"""How long after its last request a failure is remembered: when it began decides whether jobs wait for its end."""


class RobotsFailure(msgspec.Struct, frozen=True, omit_defaults=True):
    """Why a robots.txt cannot be had."""

    status: FetchStatus
    error: str
    http_status: int | None = None


class RobotsRecord(msgspec.Struct, frozen=True, omit_defaults=True):
    """The robots.txt of one origin, as it is cached in Redis. Times are in seconds since the epoch."""

    asked_s: float
    """When it was requested."""
    until_s: float
    """When it is requested again."""
    rules: str = ""
    rules_until_s: float = 0.0
    """Until when `rules` may be used, if they cannot be had again; 0: there are none."""
    failure: RobotsFailure | None = None
    """Why the last request failed; None: it did not."""
    since_s: float = 0.0
    """When the first of the failed requests was made."""
    failures: int = 0
    """How many have failed in a row."""

    @property
    def ttl_s(self) -> float:
        """For how long after `until_s` it is useful."""
        return STALE_TTL_S - RULES_TTL_S if self.failure is None else _FORGET_FAILURE_S

    def unavailable(self, now_s: float) -> RobotsUnavailable | None:
        """The exception for every URL of the origin; None: `rules` decide."""
        failure = self.failure
        if failure is None or self.rules_until_s:
            return None
        lasts_s, again_in_s = now_s - self.since_s, max(0.0, self.until_s - now_s)
        return RobotsUnavailable(
            failure.status, failure.error, failure.http_status, lasts_s=lasts_s, again_in_s=again_in_s
        )


class Failed(NamedTuple):
    """A request of robots.txt that failed, and the Retry-After of its response."""

    failure: RobotsFailure
    retry_after_s: float | None = None


def with_rules(rules: str, now_s: float) -> RobotsRecord:
    return RobotsRecord(asked_s=now_s, until_s=now_s + RULES_TTL_S, rules=rules, rules_until_s=now_s + STALE_TTL_S)


def with_failure(before: RobotsRecord | None, failed: Failed, now_s: float) -> RobotsRecord:
    """The record after a failed request. Rules that were read before stay in use until they are too old."""
    if before is not None and now_s > before.until_s + before.ttl_s:
        before = None
    failures = 0 if before is None else before.failures
    since_s = before.since_s if before is not None and failures else now_s
    # The exponent is bounded: the float would overflow.
    wait_s = min(MAX_WAIT_S, FIRST_WAIT_S * 2.0 ** min(failures, 16))
    wait_s = max(wait_s, min(failed.retry_after_s or 0.0, MAX_RETRY_AFTER_S))
    usable = before is not None and before.rules_until_s > now_s
    return RobotsRecord(
        asked_s=now_s,
        until_s=now_s + wait_s,
        rules=before.rules if before is not None and usable else "",
        rules_until_s=before.rules_until_s if before is not None and usable else 0.0,
        failure=failed.failure,
        since_s=since_s,
        failures=failures + 1,
    )


def encode_record(record: RobotsRecord) -> bytes:
    return _encoder.encode(record)


def decode_record(value: bytes | None, now_s: float) -> RobotsRecord | None:
    """None for a value that fetchq did not write, or that a worker with a wrong clock wrote in the future."""
    if value is None:
        return None
    try:
        record = _decoder.decode(value)
    except UNREADABLE:
        return None
    return record if record.asked_s <= now_s + _CLOCK_TOLERANCE_S else None


_encoder: Final = msgspec.msgpack.Encoder()
_decoder: Final = msgspec.msgpack.Decoder(RobotsRecord)
