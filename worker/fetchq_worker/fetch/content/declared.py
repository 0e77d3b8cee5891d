"""The encoding that a text itself declares: in an XML declaration, a `meta` element of HTML, or an `@charset` of CSS.

Sources: HTML standard, section 13.2.3.2, "prescan a byte stream", and 13.2.3.5, "changing the encoding while parsing";
CSS syntax, section 3.2; XML 1.0, section 4.3.3.
"""

from __future__ import annotations

import re
from typing import Final

from fetchq.contract.text.charset import encoding_of

PRESCAN_BYTES: Final = 1024
"""HTML standard: "the first 1024 bytes"."""
LATER_BYTES: Final = 1 << 20
MAX_TOKENS: Final = 10_000
"""Tags and comments that are looked at."""
_MAX_ATTRIBUTES: Final = 16
"""Of a `meta` element."""

_SPACE: Final = rb"[\t\n\x0c\r ]"
_XML_DECLARATION: Final = re.compile(rb"<\?xml[^>]{0,200}?\bencoding[ \t\r\n]*=[ \t\r\n]*[\"']([A-Za-z][\w.:-]*)[\"']")
_CSS_CHARSET: Final = re.compile(rb"@charset \"([^\"]*)\";")
_TOKEN: Final = re.compile(
    rb"<!--(?:-?>|.*?-->|.*)|(?P<meta><meta(?=[\t\n\x0c\r /]))|<(?P<tag>/?[a-z][^\t\n\x0c\r >/]*)|<[!/?][^>]*>?",
    re.DOTALL,
)
_ATTRIBUTE_PATTERN: Final = (
    rb"[\t\n\x0c\r /]*(?P<name>[^\t\n\x0c\r />][^\t\n\x0c\r />=]*)(?:[\t\n\x0c\r ]*=[\t\n\x0c\r ]*"
    rb"(?:\"(?P<double>[^\"]*)\"|'(?P<single>[^']*)'|(?P<cut>[\"'].*|[^\t\n\x0c\r >]*\Z)|(?P<bare>[^\t\n\x0c\r >]*)))?"
)
"""`cut`: a value that the end of the text cuts off. Nothing is known of it, nor of what follows."""
_ATTRIBUTE: Final = re.compile(_ATTRIBUTE_PATTERN, re.DOTALL)
_ATTRIBUTES: Final = re.compile(rb"(?:" + re.sub(rb"\?P<\w+>", rb"?:", _ATTRIBUTE_PATTERN) + rb")*+", re.DOTALL)
_CONTENT_CHARSET: Final = re.compile(
    rb"charset" + _SPACE + rb"*=" + _SPACE + rb"*(?:\"([^\"]*)\"|'([^']*)'|([^\t\n\x0c\r ;\"']+))"
)
_RAW_TEXT: Final = frozenset(
    {b"script", b"style", b"textarea", b"title", b"xmp", b"iframe", b"noembed", b"noframes", b"noscript"}
)
"""Elements in which a tag is text. `noscript` is one where scripts run, as they do in browsers."""


def declared_in_html(body: bytes) -> str | None:
    """By its XML declaration or a `meta` element in the first 1024 bytes, else a later one, which a parser follows.

    None if nothing declares a known encoding.
    """
    head = body[:PRESCAN_BYTES]
    declared = declared_in_xml(head)
    if declared is None:
        declared = _of_metas(head.lower(), parsed=False)
    if declared is None and len(body) > PRESCAN_BYTES:
        declared = _of_metas(body[:LATER_BYTES].lower(), parsed=True)
    return declared


def declared_in_xml(body: bytes) -> str | None:
    """By its XML declaration; in UTF-16 even without a byte order mark."""
    if body.startswith(b"<\0?\0x\0"):
        return "utf-16le"
    if body.startswith(b"\0<\0?\0x"):
        return "utf-16be"
    return _labelled(_XML_DECLARATION.match(body[:PRESCAN_BYTES]))


def declared_in_css(body: bytes) -> str | None:
    """By an `@charset` rule, which counts only in this spelling and as the first bytes."""
    return _labelled(_CSS_CHARSET.match(body[:PRESCAN_BYTES]))


def _of_metas(text: bytes, *, parsed: bool) -> str | None:
    """The first known encoding in the `meta` elements of a text in lower case.

    `parsed`: a parser is at work, which sees no tags in scripts and the like. The prescan does.
    """
    if b"charset" not in text:
        return None
    position = 0
    for _ in range(MAX_TOKENS):
        position = text.find(b"<", position)
        if position < 0:
            return None
        token = _TOKEN.match(text, position)
        if token is None:
            position += 1
            continue
        position = token.end()
        name = token["tag"]
        if token["meta"] is not None:
            found = _of_meta(_attributes(text, position))
            if found is not None:
                return found
        elif name is None:
            continue
        rest = _ATTRIBUTES.match(text, position)
        position = position if rest is None else rest.end()
        if parsed and name in _RAW_TEXT:
            position = text.find(b"</" + name, position)
            if position < 0:
                return None
    return None


def _attributes(text: bytes, position: int) -> dict[bytes, bytes]:
    """The attributes from a position on; the first of a name counts."""
    attributes: dict[bytes, bytes] = {}
    for _ in range(_MAX_ATTRIBUTES):
        found = _ATTRIBUTE.match(text, position)
        if found is None:
            break
        position = found.end()
        if found["cut"] is None:
            attributes.setdefault(found["name"], found["double"] or found["single"] or found["bare"] or b"")
    return attributes


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
