"""The figures of a queue, as fields of the hashes `Keys.metrics` and `Keys.minute`. Every value is an integer.

Scripts count what must be exact: a job is counted in the step that ends it. Workers add what they measure with each
heartbeat. No field contains a host, a URL, a job id or a worker.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import Final

import msgspec

ENQUEUED: Final = "enqueued"
"""Jobs that were put on the queue."""
RETRIED_DEAD_LETTERS: Final = "dead_retried"
"""Dead letters whose jobs were put back on the queue."""
FETCH: Final = "fetch:"
"""Fetches that ended; the `FetchStatus` is appended."""
FUNCTION: Final = "job:"
"""Jobs of a user's own coroutine that ended; `<end>:<function>` is appended: `ok`, `failed` or `cancelled`."""
OTHER: Final = "other"
"""The name under which functions are counted together that are not among the first `MAX_FUNCTIONS` of a queue, or that
no worker has run (`lua/include/queue/figures.lua`)."""
MAX_FUNCTIONS: Final = 50
ATTEMPT: Final = "attempt:"
"""Attempts of fetches; the `FetchStatus` is appended."""
RESPONSE: Final = "response:"
"""Responses that were received; `1xx` to `5xx` is appended."""
BODY_BYTES: Final = "body_bytes"
"""Decoded bytes of response bodies."""
LEASES_LOST: Final = "leases_lost"
"""Runs that another worker took over."""

MINUTE_TTL_S: Final = 25 * 3600


class HistogramSpec(msgspec.Struct, frozen=True):
    """One histogram: how many observations fell into each bucket, and their sum in microseconds."""

    field: str
    """The start of its fields: `<field><i>` for the bucket with the upper bound `bounds_s[i]`, which contains only what
    the one before does not; the last one has no bound. `<field>sum` for the sum."""
    bounds_s: tuple[float, ...]

    def bucket(self, seconds: float) -> int:
        """The bucket of an observation: the first whose upper bound is not below it."""
        return bisect_left(self.bounds_s, seconds)

    def fields(self) -> tuple[str, ...]:
        return (*(f"{self.field}{i}" for i in range(len(self.bounds_s) + 1)), f"{self.field}sum")


ATTEMPT_BOUNDS_S: Final = (
    0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 30.0, 60.0, 300.0,
)  # fmt: skip
"""OpenTelemetry's for `http.client.request.duration`, and three for slow servers."""
WAIT_BOUNDS_S: Final = (0.1, 1.0, 10.0, 60.0, 600.0, 3600.0)
PHASE_BOUNDS_S: Final = (0.01, 0.05, 0.25, 1.0, 5.0)

ATTEMPT_DURATION: Final = HistogramSpec("duration:", ATTEMPT_BOUNDS_S)
WAIT: Final = {lane: HistogramSpec(f"wait:{lane}:", WAIT_BOUNDS_S) for lane in ("high", "default", "low")}
"""From the time at which a job is due to the begin of its run, by lane."""
PHASE: Final = {
    phase: HistogramSpec(f"phase:{phase}:", PHASE_BOUNDS_S) for phase in ("dns", "connect", "tls", "first_byte")
}
"""The parts of an attempt."""
