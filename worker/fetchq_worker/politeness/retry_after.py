"""The `Retry-After` header (RFC 9110, section 10.2.3)."""

from __future__ import annotations

from datetime import datetime

from fetchq_worker.http_date import http_date


def retry_after_s(headers: tuple[tuple[str, str], ...], now: datetime) -> float | None:
    """The delay that `Retry-After` asks for, in seconds from now; None if it is absent or malformed.

    A date is compared with the server's own `Date` where there is one, so that neither clock's error counts.
    """
    value = _field(headers, "retry-after")
    if value.isascii() and value.isdigit():
        return float(value) if len(value) < 16 else float("inf")
    date = http_date(value, now)
    if date is None:
        return None
    sent = http_date(_field(headers, "date"), now)
    return max(0.0, (date - (now if sent is None else sent)).total_seconds())


def _field(headers: tuple[tuple[str, str], ...], lower_name: str) -> str:
    return next((value.strip() for name, value in headers if name.lower() == lower_name), "")
