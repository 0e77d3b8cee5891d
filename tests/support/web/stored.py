"""Responses as the HTTP cache stores them."""

from __future__ import annotations

from email.utils import formatdate
from typing import Final

from fetchq_worker.fetch.cache.stored_response import StoredResponse
from fetchq_worker.fetch.transport.headers import Headers

NOW: Final = 1_700_000_000.0
"""When they were requested and received."""


def headers(*pairs: tuple[str, str]) -> Headers:
    return Headers.of(pairs)


def stored(status: int = 200, /, *pairs: tuple[str, str], **named: str) -> StoredResponse:
    """`named` are fields with underscores in place of hyphens."""
    more = [(name.replace("_", "-"), value) for name, value in named.items()]
    return StoredResponse(status, headers(*pairs, *more), b"body", NOW, NOW)


def date(offset_s: float) -> str:
    """An HTTP date so many seconds after `NOW`."""
    return formatdate(NOW + offset_s, usegmt=True)
