"""The Set-Cookie field (RFC 6265bis, section 5.6)."""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from .cookie_date import cookie_date_s

MAX_PAIR_BYTES: Final = 4096
"""Of name and value together."""
MAX_ATTRIBUTE_BYTES: Final = 1024
MAX_AGE_S: Final = 400 * 86_400
"""The longest life of a cookie (section 5.5)."""

_BLANK: Final = " \t"
_CONTROL: Final = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_MAX_AGE: Final = re.compile(r"-?\d+", re.ASCII)


class SetCookie(NamedTuple):
    """A cookie as the server sets it. Strings are decoded as Latin-1: one character a byte."""

    name: str
    value: str
    domain: str
    """In lower case, without its first dot; empty if the field has none."""
    path: str
    """Empty if the field has none that begins with a slash."""
    expires_s: float | None
    """Seconds since 1970; None: the cookie has no end."""
    secure: bool


def parse_set_cookie(field: str, now_s: float) -> SetCookie | None:
    """The cookie that a field sets; None if the whole field must be ignored.

    A cookie without a name (`Set-Cookie: value`) is ignored, as RFC 6265 and curl do: in a Cookie field it could pass
    for another one. `SameSite=None` needs Secure (section 5.7, step 19). Otherwise HttpOnly and SameSite have no
    meaning where there are no scripts and no third parties.
    """
    if _CONTROL.search(field):
        return None
    pair, *attributes = field.split(";")
    name, equals, value = pair.partition("=")
    name, value = name.strip(_BLANK), value.strip(_BLANK)
    if not (equals and name) or len(name) + len(value) > MAX_PAIR_BYTES:
        return None
    domain = path = ""
    secure = unrestricted = False
    expires_s = age_until_s = None
    for attribute in attributes:
        key, _, held = attribute.partition("=")
        key, held = key.strip(_BLANK).lower(), held.strip(_BLANK)
        if len(held) > MAX_ATTRIBUTE_BYTES:
            continue
        if key == "domain" and held:
            domain = held.removeprefix(".").lower()
        elif key == "path":
            path = held if held.startswith("/") else ""
        elif key == "secure":
            secure = True
        elif key == "samesite":
            unrestricted = held.lower() == "none"
        elif key == "max-age" and _MAX_AGE.fullmatch(held):
            age_until_s = now_s + min(int(held), MAX_AGE_S) if int(held) > 0 else 0.0
        elif key == "expires" and (date_s := cookie_date_s(held)) is not None:
            expires_s = min(date_s, now_s + MAX_AGE_S)
    if unrestricted and not secure:
        return None
    return SetCookie(name, value, domain, path, expires_s if age_until_s is None else age_until_s, secure)
