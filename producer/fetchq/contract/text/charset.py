"""Decodes bytes to text as browsers do (WHATWG encoding standard).

Only the standard's labels are accepted. The server chooses the label, and Python's codecs include some that take
quadratic time (`idna`, `punycode`) and some that are not charsets (`unicode_escape`).
"""

from __future__ import annotations

import codecs
from functools import lru_cache
from typing import Final

import webencodings

MARKS: Final = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16le"), (codecs.BOM_UTF16_BE, "utf-16be"))
"""Encoding standard, "BOM sniff": a byte order mark takes precedence over the label."""


@lru_cache(256)
def encoding_of(label: str) -> str | None:
    """The name of the encoding for a label, such as windows-1252 for `latin1`; None for an unknown label."""
    encoding = webencodings.lookup(label)
    return None if encoding is None else str(encoding.name)


def decode_text(body: bytes, label: str | None) -> str:
    """Decodes by the byte order mark, else by the label, else as UTF-8. Undecodable bytes become U+FFFD."""
    name = None if label is None else encoding_of(label)
    for mark, marked in MARKS:
        if body.startswith(mark):
            body, name = body[len(mark) :], marked
            break
    if name is None or name == "utf-8":
        return body.decode("utf-8", "replace")
    from .legacy import decode_legacy  # noqa: PLC0415 - takes milliseconds to import, and most texts are UTF-8

    return decode_legacy(body, name)
