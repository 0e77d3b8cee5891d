"""The charset of a body without a usable charset parameter: by its byte order mark, its own declaration, its bytes.

Sources: HTML standard, section 13.2.3.2, "Determining the character encoding" and "prescan a byte stream"; XML 1.0,
section 4.3.3. The detector is Firefox's. Only the beginning of a body is examined.
"""

from __future__ import annotations

import codecs
import re
from typing import Final

from chardetng_py import EncodingDetector

from fetchq.contract.text.charset import MARKS, encoding_of

UTF8_CHECK_BYTES: Final = 64 << 10
DETECT_BYTES: Final = 8 << 10
PRESCAN_BYTES: Final = 1024
"""HTML standard: "the first 1024 bytes"."""

_HTML: Final = frozenset({"text/html", "application/xhtml+xml"})
_JSON: Final = ("application/json", "text/json")
_OTHER_TEXT: Final = frozenset({"application/javascript", "application/x-javascript", "application/xml"})

_XML_DECLARATION: Final = re.compile(rb"<\?xml[^>]{0,200}?\bencoding[ \t\r\n]*=[ \t\r\n]*[\"']([A-Za-z][\w.:-]*)[\"']")
_SPACE: Final = rb"[\t\n\x0c\r ]"
_TOKEN: Final = re.compile(
    rb"<!--(?:-?>|.*?-->|.*)|(?P<meta><meta(?=[\t\n\x0c\r /]))|(?P<tag></?[a-z][^\t\n\x0c\r >]*)|<[!/?][^>]*>?",
    re.I | re.S,
)
_ATTRIBUTE: Final = re.compile(
    rb"[\t\n\x0c\r /]*(?P<name>[^\t\n\x0c\r />][^\t\n\x0c\r />=]*)"
    rb"(?:[\t\n\x0c\r ]*=[\t\n\x0c\r ]*(?:\"(?P<double>[^\"]*)\"|'(?P<single>[^']*)'|(?P<bare>[^\t\n\x0c\r >]*)))?"
)
_CONTENT_CHARSET: Final = re.compile(
    rb"charset" + _SPACE + rb"*=" + _SPACE + rb"*(?:\"([^\"]*)\"|'([^']*)'|([^\t\n\x0c\r ;\"']+))", re.I
)
_NOT_ASCII: Final = re.compile(rb"[\x80-\xff]")


def charset_of(media_type: str | None, sent: str | None, body: bytes) -> str | None:
    """The charset that was sent if it names a known encoding, else the one detected in a body of text.

    None for a body that is not text, and for JSON, which is UTF-8 (RFC 8259, section 8.1).
    """
    if (sent is not None and encoding_of(sent) is not None) or not body or not _is_searched(media_type):
        return sent
    for mark, name in MARKS:
        if body.startswith(mark):
            return name
    declared = None
    if media_type in _HTML:
        declared = prescan(body[:PRESCAN_BYTES])
    elif media_type is not None and media_type.endswith("xml"):
        declared = _labelled(_XML_DECLARATION.match(body[:PRESCAN_BYTES]))
    return declared or _detect(body)


def _is_searched(media_type: str | None) -> bool:
    if media_type is None or media_type in _JSON:
        return False
    return media_type.startswith("text/") or media_type.endswith("+xml") or media_type in _OTHER_TEXT


def prescan(head: bytes) -> str | None:
    """The encoding that the XML declaration or a `meta` element of an HTML page names."""
    declared = _labelled(_XML_DECLARATION.match(head))
    if declared is not None:
        return declared
    if b"charset" not in head.lower():
        return None
    position = 0
    while (position := head.find(b"<", position)) >= 0:
        token = _TOKEN.match(head, position)
        if token is None:
            position += 1
            continue
        position = token.end()
        if token["meta"] is None and token["tag"] is None:
            continue
        position, attributes = _attributes(head, position)
        found = _of_meta(attributes) if token["meta"] is not None else None
        if found is not None:
            return found
    return None


def _attributes(head: bytes, position: int) -> tuple[int, dict[bytes, bytes]]:
    """The end of the tag whose name ends at `position`, and its attributes; the first of a name counts."""
    attributes: dict[bytes, bytes] = {}
    while (found := _ATTRIBUTE.match(head, position)) and found.end() > position:
        position = found.end()
        value = found["double"] or found["single"] or found["bare"] or b""
        attributes.setdefault(found["name"].lower(), value.lower())
    return position, attributes


def _of_meta(attributes: dict[bytes, bytes]) -> str | None:
    if b"charset" in attributes:
        return _known(attributes[b"charset"])
    if attributes.get(b"http-equiv") == b"content-type":
        return _labelled(_CONTENT_CHARSET.search(attributes.get(b"content", b"")))
    return None


def _labelled(found: re.Match[bytes] | None) -> str | None:
    return None if found is None else _known(next(group for group in found.groups() if group is not None))


def _known(label: bytes) -> str | None:
    """The encoding of a label. A page whose label was read as ASCII is not UTF-16, even if the label names it."""
    name = encoding_of(label.decode("latin-1"))
    if name in ("utf-16le", "utf-16be"):
        return "utf-8"
    return "windows-1252" if name == "x-user-defined" else name


def _detect(body: bytes) -> str:
    head = body[:UTF8_CHECK_BYTES]
    if head.isascii():
        return "utf-8"
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head, final=len(head) == len(body))
    except UnicodeDecodeError:
        pass
    else:
        return "utf-8"
    first = _NOT_ASCII.search(head)
    begin = max(0, first.start() - 64) if first else 0
    detector = EncodingDetector()
    detector.feed(head[begin : begin + DETECT_BYTES], last=True)
    return str(detector.guess(tld=None, allow_utf8=False)).lower()
