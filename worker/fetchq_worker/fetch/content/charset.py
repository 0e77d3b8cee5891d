"""The charset of a body without a usable charset parameter: by its byte order mark, its own declaration, its bytes.

Source: HTML standard, section 13.2.3, "Determining the character encoding". The detector is Firefox's. What is valid
UTF-8 is taken for UTF-8 before the detector is asked, which browsers do for local files only.
"""

from __future__ import annotations

import re
from typing import Final

from chardetng_py import EncodingDetector

from fetchq.contract.text.charset import MARKS, encoding_of

from .declared import declared_in_css, declared_in_html, declared_in_xml

DETECT_BYTES: Final = 64 << 10
"""What the detector is given at most, from the bytes that are not ASCII and what stands around them."""
_PASSAGE_BYTES: Final = 2 << 10
_BEFORE_BYTES: Final = 32
_UTF16_BYTES: Final = 512
_MIN_UTF16_BYTES: Final = 16
"""UTF-16 without a byte order mark is recognised by ASCII with zeros in between, as Firefox does."""
_UTF8_STEP_BYTES: Final = 1 << 20
_SURE_UTF8_BYTES: Final = 16
"""So many continuation bytes before the first error: it is damaged UTF-8, not another encoding."""

_HTML: Final = frozenset({"text/html", "application/xhtml+xml"})
_JSON: Final = ("application/json", "text/json")
_OTHER_TEXT: Final = frozenset({"application/javascript", "application/x-javascript", "application/xml"})
_UNKNOWN: Final = frozenset({None, "unknown/unknown", "application/unknown"})
"""MIME sniffing standard, section 7: types that say nothing."""
_BINARY: Final = re.compile(rb"[\x00-\x08\x0b\x0e-\x1a\x1c-\x1f]")
"""MIME sniffing standard, "binary data byte"."""
_SNIFFED_BYTES: Final = 1445
_TELLING: Final = re.compile(rb"[\x80-\xff\x1b]")
"""What is not ASCII, or begins an escape sequence of ISO-2022-JP."""


def charset_of(media_type: str | None, sent: str | None, body: bytes) -> str | None:
    """The charset that was sent if it names a known encoding, else the one detected in a body of text.

    None for a body that is not text, and for JSON, which is UTF-8 (RFC 8259, section 8.1). A body without a type is
    text if it begins like one.
    """
    if (sent is not None and encoding_of(sent) is not None) or not body or not _is_searched(media_type, body):
        return sent
    for mark, name in MARKS:
        if body.startswith(mark):
            return name
    return _declared(media_type, body) or _detected(body)


def _is_searched(media_type: str | None, body: bytes) -> bool:
    if media_type is None or media_type in _UNKNOWN:
        return body.startswith(tuple(mark for mark, _ in MARKS)) or not _BINARY.search(body[:_SNIFFED_BYTES])
    if media_type in _JSON:
        return False
    return media_type.startswith("text/") or media_type.endswith("+xml") or media_type in _OTHER_TEXT


def _declared(media_type: str | None, body: bytes) -> str | None:
    if media_type in _HTML or media_type in _UNKNOWN:
        return declared_in_html(body)
    if media_type == "text/css":
        return declared_in_css(body)
    return declared_in_xml(body) if media_type is not None and media_type.endswith("xml") else None


def _detected(body: bytes) -> str:
    if b"\0" in body[:2]:
        head = body[:_UTF16_BYTES]
        for name, zeros, chars in (("utf-16le", head[1::2], head[0::2]), ("utf-16be", head[0::2], head[1::2])):
            if len(head) >= _MIN_UTF16_BYTES and not any(zeros) and all(chars) and chars.isascii():
                return name
    if body.isascii():
        return "iso-2022-jp" if b"\x1b" in body and b"\x1b$" in body and _guess(body) == "iso-2022-jp" else "utf-8"
    return "utf-8" if _is_utf8(body) else _guess(body)


def _is_utf8(body: bytes) -> bool:
    """Whether the body is UTF-8, at most with some damage after so much of it that it can be nothing else."""
    at = continued = 0
    while at < len(body):
        piece = body[at : at + _UTF8_STEP_BYTES]
        if piece.isascii():
            at += len(piece)
            continue
        last = at + len(piece) == len(body)
        try:
            continued += len(piece) - len(piece.decode())
        except UnicodeDecodeError as problem:
            continued += problem.start - len(piece[: problem.start].decode())
            cut = not last and problem.start > len(piece) - 4
            if not cut:
                return continued >= _SURE_UTF8_BYTES
            at += problem.start
        else:
            at += len(piece)
    return True


def _guess(body: bytes) -> str:
    detector = EncodingDetector()
    given = at = 0
    while given < DETECT_BYTES and (found := _TELLING.search(body, at)):
        begin = max(at, found.start() - _BEFORE_BYTES)
        passage = body[begin : found.start() + _PASSAGE_BYTES]
        detector.feed(passage, last=False)
        given += len(passage)
        at = begin + len(passage)
    detector.feed(b"", last=True)
    name = str(detector.guess(tld=None, allow_utf8=False)).lower()
    return "windows-874" if name == "cp874" else name  # the only name that is Python's, not the standard's
