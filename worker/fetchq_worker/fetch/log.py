"""The log of the fetch. Its events are stable names, one per transition:

`fetch.finished` (debug)    the outcome is final
`fetch.retried` (info)      the attempt failed, and another follows
`fetch.given_back` (warning) the job waits for a newer worker, or for Redis
`robots.unreachable` (info) an origin's robots.txt could not be had: it stays closed for a while
`shared_cache.unavailable` (warning) Redis did not take or give what workers cache for each other
`fetch.crashed` (error)     a fault of our own, with its traceback
"""

from __future__ import annotations

import logging
from typing import Any, Final

import structlog

_NAME: Final = "fetchq.fetch"

standard_log: Final = logging.getLogger(_NAME)
"""Asked before an event of the hot path is put together, as its answer costs a tenth of a microsecond."""

log: Final[Any] = structlog.wrap_logger(
    standard_log,
    processors=[
        structlog.stdlib.filter_by_level,
        structlog.stdlib.add_log_level,
        structlog.processors.format_exc_info,
        structlog.processors.KeyValueRenderer(key_order=["event"]),
    ],
    wrapper_class=structlog.stdlib.BoundLogger,
    cache_logger_on_first_use=True,
)
"""Into Python's logging, where a program that embeds the fetch decides about it; by default only WARNING and above."""
