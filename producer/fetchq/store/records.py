"""The formats in which scripts store leases, limit keys and limits."""

from __future__ import annotations

import re
from typing import Final, NamedTuple, Self

_LEASE: Final = re.compile(rb"([^|]*)\|(\d{1,16})\|([-+.\dinfe]+)\|(\d{0,16})")
_HOST: Final = re.compile(rb"(\d+) (\d+) (\d+) (\d+) (\d+) (\d+) (\d+) (\d+) (\d+) (.*)", re.DOTALL)
_LIMIT: Final = re.compile(rb"([crbdp])=([0-9]{1,16})")


class LeaseRecord(NamedTuple):
    """The lease of a job (`lua/include/leases/lease_record.lua`)."""

    token: bytes
    """The fencing token of the claim."""
    end_ms: int
    """When the lease ends, since the epoch."""
    score: float
    """The job's score before the claim."""
    payload_expires_ms: int | None
    """When the payload would have expired, since the epoch; None for never."""

    @classmethod
    def parse(cls, record: bytes) -> Self | None:
        """None for a record that no worker wrote."""
        match = _LEASE.fullmatch(record)
        if match is None:
            return None
        try:
            return cls(match[1], int(match[2]), float(match[3]), int(match[4]) if match[4] else None)
        except ValueError:
            return None

    def format(self) -> bytes:
        expires = b"" if self.payload_expires_ms is None else b"%d" % self.payload_expires_ms
        score = f"{self.score:.0f}" if self.score % 1 == 0 else f"{self.score:.1f}"
        return b"%b|%d|%b|%b" % (self.token, self.end_ms, score.encode(), expires)


class HostRecord(NamedTuple):
    """The record of a limit key (`lua/include/hosts/host_record.lua`)."""

    running: int = 0
    """Admitted jobs that have not ended."""
    ready: int = 0
    """Jobs that are due and not admitted yet."""
    waiting: int = 0
    """Jobs in the key's own queue."""
    tat_us: int = 0
    """GCRA's theoretical arrival time (ITU-T I.371): when the rate permits the next start."""
    cooldown_until_ms: int = 0
    consecutive_throttles: int = 0
    """Cooldowns since the last success."""
    consecutive_failures: int = 0
    """Failed connections in a row."""
    crawl_delay_ms: int = 0
    due_at_ms: int = 0
    """When a claim processes the key next; 0 for never."""
    last: str = ""
    """The outcome of its last job."""

    @classmethod
    def parse(cls, record: bytes) -> Self | None:
        """None for a record that no script wrote."""
        match = _HOST.fullmatch(record)
        if match is None:
            return None
        return cls._make([*map(int, match.groups()[:9]), match[10].decode("utf-8", "replace")])


class LimitsEntry(NamedTuple):
    """The limits that are set under one name (`lua/include/hosts/limits.lua`).

    None: not set, so the next wider name decides.
    """

    concurrency: int | None = None
    interval_us: int | None = None
    """Between two starts; 0 for no rate limit."""
    burst: int | None = None
    delay_ms: int | None = None
    """Between two starts at least."""
    paused: bool | None = None

    @classmethod
    def parse(cls, entry: bytes) -> Self:
        values = {code: int(value) for code, value in _LIMIT.findall(entry)}
        concurrency, interval_us, burst, delay_ms, paused = map(values.get, (b"c", b"r", b"b", b"d", b"p"))
        return cls(concurrency, interval_us, burst, delay_ms, None if paused is None else paused == 1)

    def format(self) -> str:
        words = zip("crbdp", self, strict=True)
        return " ".join(f"{code}={int(value)}" for code, value in words if value is not None)
