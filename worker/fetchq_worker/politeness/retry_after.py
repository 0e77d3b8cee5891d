"""The `Retry-After` header (RFC 9110, section 10.2.3)."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from datetime import datetime
from typing import Final

from fetchq_worker.http_date import http_date

_SECONDS: Final = re.compile(r"([0-9]{1,15})(\.[0-9]+)?")
_ENDLESS: Final = re.compile(r"[0-9]{16,}(\.[0-9]+)?")


def retry_after_s(headers: Iterable[tuple[str, str]], now: datetime) -> float | None:
    """The delay that `Retry-After` asks for, in whole seconds from now; None if it is absent or malformed.

    A fraction, which the grammar does not have but servers send, is rounded up. Of several values the longest counts.
    A date is compared with the server's own `Date` where there is one, so that neither clock's error counts.
    """
    values: list[str] = []
    sent: datetime | None = None
    for name, value in headers:
        lower = name.lower()
        if lower == "retry-after":
            values.append(value.strip(" \t"))
        elif lower == "date" and sent is None:
            sent = http_date(value.strip(" \t"), now)
    if not values:
        return None
    asked = [_delay_s(value, now if sent is None else sent, now) for value in values]
    return max((delay_s for delay_s in asked if delay_s is not None), default=None)


def _delay_s(value: str, sent: datetime, now: datetime) -> float | None:
    date = http_date(value, now)
    if date is not None:
        return max(0.0, (date - sent).total_seconds())
    members = [_seconds(member.strip(" \t")) for member in value.split(",")]
    return max((delay_s for delay_s in members if delay_s is not None), default=None)


def _seconds(value: str) -> float | None:
    found = _SECONDS.fullmatch(value)
    if found is not None:
        return float(math.ceil(float(value)))
    return math.inf if _ENDLESS.fullmatch(value) else None
