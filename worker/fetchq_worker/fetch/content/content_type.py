"""The Content-Type fields of a response: media type and charset.

Sources: MIME sniffing standard, "parse a MIME type"; fetch standard, "extract a MIME type".
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Final

_TOKEN: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_QUOTABLE: Final = re.compile(r"[\t -~\x80-\xff]*")
"""The MIME sniffing standard's "HTTP quoted-string token code points"."""
_VALUE: Final = re.compile(r"(?:[^\",]|\"(?:[^\"\\]|\\.)*(?:\"|\\?\Z))+", re.DOTALL)
"""One of the values between the commas that are not within quotes."""
_PARAMETER: Final = re.compile(
    r";[\n\r\t ]*(?P<name>[^;=]*)(?:=(?:\"(?P<quoted>(?:[^\"\\]|\\.)*\\?)(?:\"|\Z)[^;]*|(?P<bare>[^;]*)))?", re.DOTALL
)
_ESCAPED: Final = re.compile(r"\\(.)", re.DOTALL)
_SPACE: Final = "\n\r\t "
_MAX_CACHED_CHARS: Final = 256


def content_type_of(fields: tuple[str, ...]) -> tuple[str | None, str | None]:
    """Media type in lower case without parameters, and charset as sent; None for each that is absent or malformed.

    Of several values, in one field or in many, the last valid one counts; it inherits the charset of an earlier value
    of the same type.
    """
    if len(fields) == 1 and len(fields[0]) <= _MAX_CACHED_CHARS:
        return _extract(fields)
    return _extract.__wrapped__(fields)


@lru_cache(maxsize=512)
def _extract(fields: tuple[str, ...]) -> tuple[str | None, str | None]:
    media_type: str | None = None
    charset: str | None = None
    inherited: str | None = None
    for value in _VALUE.findall(", ".join(fields)):
        essence, parameters = parse_mime_type(value)
        if essence is None or essence == "*/*":
            continue
        charset = parameters.get("charset")
        if essence != media_type:
            media_type, inherited = essence, charset
        elif charset is None:
            charset = inherited
    charset = charset and charset.strip(_SPACE)
    return media_type, charset or None


def parse_mime_type(value: str) -> tuple[str | None, dict[str, str]]:
    """The essence (`text/html`) in lower case and the parameters; (None, {}) if the value is no MIME type."""
    value = value.strip(_SPACE)
    essence, semicolon, _ = value.partition(";")
    main, _, subtype = essence.rstrip(_SPACE).partition("/")
    if not _TOKEN.fullmatch(main) or not _TOKEN.fullmatch(subtype):
        return None, {}
    parameters: dict[str, str] = {}
    if semicolon:
        for name, parameter in _parameters(value[len(essence) :]):
            if _TOKEN.fullmatch(name) and _QUOTABLE.fullmatch(parameter):
                parameters.setdefault(name.lower(), parameter)
    return f"{main}/{subtype}".lower(), parameters


def _parameters(text: str) -> Iterator[tuple[str, str]]:
    for found in _PARAMETER.finditer(text):
        name, quoted, bare = found["name"], found["quoted"], found["bare"]
        if quoted is not None:
            yield name, _ESCAPED.sub(r"\1", quoted)
        elif bare is not None and bare.rstrip(_SPACE):
            yield name, bare.rstrip(_SPACE)
