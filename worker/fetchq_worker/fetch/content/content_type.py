"""The Content-Type header (RFC 9110, section 8.3): media type and charset."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

_MEDIA_TYPE: Final = re.compile(r"[!#$%&'*+.^_`|~0-9a-z-]+/[!#$%&'*+.^_`|~0-9a-z-]+")
_CHARSET: Final = re.compile(r';[ \t]*charset=(?:"([^"\\;]*)"|([^\s";,]+))', re.IGNORECASE)
_MAX_CHARS: Final = 256
"""A longer header is cut, so that the cache stays small."""


def content_type_of(header: str | None) -> tuple[str | None, str | None]:
    """Media type in lower case without parameters, and charset as sent; None for each that is absent or malformed."""
    return (None, None) if header is None else _parse(header[:_MAX_CHARS])


@lru_cache(maxsize=512)
def _parse(header: str) -> tuple[str | None, str | None]:
    if not header.isascii():
        return None, None
    media_type = header.partition(";")[0].strip().lower()
    found = _CHARSET.search(header)
    charset = (found[1] or found[2]) if found else None
    return media_type if _MEDIA_TYPE.fullmatch(media_type) else None, charset or None
