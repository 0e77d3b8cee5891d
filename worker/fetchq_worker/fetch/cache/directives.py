"""Cache-Control and its directives (RFC 9111, section 5.2)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Final

Directives = Mapping[str, str]
"""Values by name in lower case, as they came, quotes included; empty for a directive without a value."""

MAX_SECONDS: Final = 1 << 31
"""Larger numbers count as this one (section 1.2.2)."""

_MAX_CHARS: Final = 4096
_ELEMENT: Final = re.compile(r'(?:[^",]|"(?:[^"\\]|\\.?)*"?)+', re.DOTALL)
_QUOTED: Final = re.compile(r'"((?:[^"\\]|\\.)*)"', re.DOTALL)
_FIELD_LISTS: Final = frozenset({"no-cache", "private"})
"""Directives whose value lists the only fields that they apply to."""


def directives_of(values: Iterable[str]) -> dict[str, str]:
    """The directives of all fields. Of a repeated one the first counts, or of `no-cache` and `private` the stricter."""
    text = ",".join(values)
    if len(text) > _MAX_CHARS:
        return {"no-store": ""}
    found: dict[str, str] = {}
    for element in _ELEMENT.findall(text):
        name, _, value = element.strip(" \t").partition("=")
        if name.endswith((" ", "\t")):
            name, value = name.rstrip(" \t"), f" {value}"  # the grammar has no such space: a malformed value
        name = name.lower()
        if name in _FIELD_LISTS:
            value = _joined(found.get(name), value)
        elif name in found:
            continue
        found[name] = value
    return found


def seconds_of(directives: Directives, name: str) -> float | None:
    """The value of a directive in seconds; 0 if it is malformed, None if there is no such directive."""
    value = directives.get(name)
    return None if value is None else delta_seconds(_unquoted(value), malformed=0.0)


def delta_seconds(text: str, malformed: float | None = None) -> float | None:
    """A number of seconds (section 1.2.2): digits and nothing else."""
    return float(min(int(text[:_MAX_CHARS]), MAX_SECONDS)) if text.isascii() and text.isdigit() else malformed


def covers_all_fields(directives: Directives, name: str) -> bool:
    """Whether the response as a whole is `no-cache` or `private`, and not only the fields that it lists."""
    value = directives.get(name)
    return value is not None and not listed_fields(directives, name)


def listed_fields(directives: Directives, name: str) -> frozenset[str]:
    """The fields, in lower case, that `no-cache="..."` or `private="..."` lists."""
    value = _QUOTED.fullmatch(directives.get(name, ""))
    if value is None:
        return frozenset()
    return frozenset(field for part in value[1].split(",") if (field := part.strip().lower()))


def _joined(known: str | None, value: str) -> str:
    """The value that is as strict as both; only a quoted list of fields is less strict than no value."""
    if not _QUOTED.fullmatch(value) or known == "":
        return ""
    return value if known is None else f"{known[:-1]},{value[1:]}"


def _unquoted(value: str) -> str:
    quoted = _QUOTED.fullmatch(value)
    return value if quoted is None else re.sub(r"\\(.)", r"\1", quoted[1])
