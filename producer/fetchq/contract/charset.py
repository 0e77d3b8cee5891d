"""Bytes to text, as browsers do it (WHATWG encoding standard).

Labels are the standard's and no others: Python knows codecs by name that take quadratic time (`idna`, `punycode`) or
that are no charset at all (`unicode_escape`), and whoever answers a fetch chooses the name.
"""

from __future__ import annotations

import codecs
from functools import lru_cache
from typing import Final

import webencodings

MARKS: Final = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16le"), (codecs.BOM_UTF16_BE, "utf-16be"))
"""The encoding standard, "BOM sniff": a mark outranks what the server says."""


@lru_cache(256)
def encoding_of(label: str) -> str | None:
    """The name of the encoding that a label means, such as windows-1252 for `latin1`; None: there is no such label."""
    encoding = webencodings.lookup(label)
    return None if encoding is None else str(encoding.name)


def decode_text(body: bytes, label: str | None) -> str:
    """By the byte order mark, else by the label, else UTF-8; what does not decode is replaced by U+FFFD."""
    for mark, name in MARKS:
        if body.startswith(mark):
            return body[len(mark) :].decode(name, "replace")
    encoding = webencodings.lookup(label) if label is not None else None
    if encoding is None or encoding.name == "utf-8":
        return body.decode("utf-8", "replace")
    if encoding.name == "replacement":  # encodings through which a page could smuggle markup
        return "\ufffd" if body else ""
    if encoding.name == "gbk":  # "gbk's decoder is gb18030's decoder"
        return body.decode("gb18030", "replace")
    text: str = encoding.codec_info.decode(body, "replace")[0]
    return text
