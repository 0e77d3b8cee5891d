"""The rules of a robots.txt for one crawler (RFC 9309). Pure: bytes in, a verdict on a URL out.

Where the RFC is silent, files are read as Google's parser reads them (github.com/google/robotstxt), since their authors
test with it. `python -m harness.suites.robots` compares the two.
"""

from __future__ import annotations

import math
import re
from enum import Enum
from typing import Final, NamedTuple

MAX_ROBOTS_BYTES: Final = 500 << 10
"""How much of a file is read (RFC 9309, section 2.5)."""
MAX_LINE_BYTES: Final = 8 * 2083 - 1
"""The rest of a line is ignored, as by Google: no URL is that long."""
MAX_RULES: Final = 10_000
"""Of a group; further ones are ignored. Only a hostile file has more."""
MAX_CRAWL_DELAY_S: Final = 3600.0
"""A longer Crawl-delay is cut to this."""

_BOM: Final = b"\xef\xbb\xbf"
_PRODUCT_TOKEN: Final = re.compile(r"[A-Za-z_-]+")
_ESCAPED: Final = re.compile(rb"%([0-9A-Fa-f]{2})|([^!#%&(-),/:-;=?@A-Z\[\]a-z_~0-9.\-+])")
"""A percent-encoded byte, or one that is not written as it is in the normal form."""
_UNRESERVED: Final = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
"""RFC 3986, section 2.3."""


class Directive(Enum):
    """The lines that matter. No other line ends a group (RFC 9309, section 2.2.4)."""

    USER_AGENT = "User-agent"
    ALLOW = "Allow"
    DISALLOW = "Disallow"
    CRAWL_DELAY = "Crawl-delay"


_PREFIXES: Final = (
    (Directive.USER_AGENT, (b"user-agent", b"useragent", b"user agent")),
    (Directive.ALLOW, (b"allow",)),
    (Directive.DISALLOW, (b"disallow", b"dissallow", b"dissalow", b"disalow", b"diasllow", b"disallaw")),
    (Directive.CRAWL_DELAY, (b"crawl-delay", b"crawldelay", b"crawl delay")),
)
"""What a name begins with: Google's parser takes the same prefixes and misspellings."""


def product_token(user_agent: str) -> str:
    """The product token of a User-Agent, in lower case, by which a crawler finds its group (RFC 9309, section 2.2.1).

    Empty for a User-Agent without one: then the group `*` applies.
    """
    found = _PRODUCT_TOKEN.match(user_agent)
    return found[0].lower() if found else ""


def lines_of(data: bytes) -> list[bytes]:
    """The lines of a file, without a byte order mark, whole or broken. Lines end with CR, LF or CRLF only."""
    start = next((n for n in range(3) if data[n : n + 1] != _BOM[n : n + 1]), 3)
    return data[start:].splitlines()


def directive_of(line: bytes) -> tuple[Directive, bytes] | None:
    """Directive and value of a line; None for any other line."""
    line = line[:MAX_LINE_BYTES].partition(b"#")[0].strip()
    name, separator, value = line.partition(b":")
    if not separator:
        words = line.split(None, 2)
        if len(words) != 2:  # some authors forget the colon
            return None
        name, value = words
    name = name.rstrip().lower()
    for directive, prefixes in _PREFIXES:
        if name.startswith(prefixes):
            return directive, value.strip()
    return None


def rules_for(token: str, data: bytes) -> str:
    """The rules for `token`, one per line, in ASCII: those of its own groups, else those of the groups `*`."""
    own: dict[str, None] = {}
    general: dict[str, None] = {}
    named = in_own = in_general = in_rules = False
    for line in lines_of(data):
        found = directive_of(line)
        if found is None:
            continue
        directive, value = found
        if directive is Directive.USER_AGENT:
            if in_rules:
                in_own = in_general = in_rules = False
            in_general = in_general or value == b"*" or value[:2] in (b"* ", b"*\t")
            in_own = in_own or (token != "" and product_token(value.decode("latin-1")) == token)
            named = named or in_own
            continue
        # A Crawl-delay is no rule of the RFC, so user agents below it belong to the same group.
        in_rules = in_rules or directive is not Directive.CRAWL_DELAY
        if not value or not (in_own or in_general):
            continue  # an empty "Disallow:" denies nothing
        text = value.decode("latin-1") if directive is Directive.CRAWL_DELAY else _normal_pattern(value)
        for group, chosen in ((own, in_own), (general, in_general)):
            if chosen and len(group) < MAX_RULES:
                group[f"{directive.value}: {text}"] = None
    return "\n".join(own if named else general)


class _Pattern(NamedTuple):
    """A rule with wildcards."""

    length: int
    allow: bool
    pieces: tuple[str, ...]
    """What stands between the wildcards."""
    anchored: bool
    """Whether the last piece must be the end of the URL."""

    def matches(self, path: str) -> bool:
        """In time linear in the length of `path`, for any pattern: each piece is looked for once, from the left."""
        first, *rest = self.pieces
        if not path.startswith(first):
            return False
        at = len(first)
        last = rest.pop() if self.anchored and rest else None
        for piece in rest:
            at = path.find(piece, at)
            if at < 0:
                return False
            at += len(piece)
        if last is not None:
            return path.endswith(last) and len(path) - len(last) >= at
        return not self.anchored or at == len(path)


class RobotsRules:
    """The parsed rules of one origin. `text` is a value of `rules_for`."""

    __slots__ = ("_lengths", "_patterns", "_prefixes", "crawl_delay_s", "text")

    def __init__(self, text: str) -> None:
        self.text = text
        self.crawl_delay_s: float | None = None
        self._prefixes: dict[str, bool] = {}
        patterns = []
        for line in text.split("\n"):
            name, _, value = line.partition(": ")
            if name == Directive.CRAWL_DELAY.value:
                if self.crawl_delay_s is None:
                    self.crawl_delay_s = _seconds(value)
            elif value:
                allow = name == Directive.ALLOW.value
                anchored = value.endswith("$")
                if anchored or "*" in value:
                    pieces = tuple(value.removesuffix("$").split("*"))
                    patterns.append(_Pattern(len(value), allow, pieces, anchored))
                else:
                    self._prefixes[value] = allow or self._prefixes.get(value, False)
        self._lengths = sorted({len(prefix) for prefix in self._prefixes}, reverse=True)
        self._patterns = sorted(patterns, key=lambda pattern: (pattern.length, pattern.allow), reverse=True)

    def allow(self, url: str) -> bool:
        """Whether a serialised URL of the origin may be fetched: the longest matching rule decides, and Allow between
        equally long ones (RFC 9309, section 2.2.2)."""
        path = _normal_path(url)
        if path == "/robots.txt":
            return True  # RFC 9309, section 2.2.2
        best, allowed = -1, True
        for length in self._lengths:
            verdict = self._prefixes.get(path[:length]) if length <= len(path) else None
            if verdict is not None:
                best, allowed = length, verdict
                break
        for pattern in self._patterns:
            if pattern.length < best or (pattern.length == best and (allowed or not pattern.allow)):
                break
            if pattern.matches(path):
                return pattern.allow
        return allowed


def _normal_path(url: str) -> str:
    """Path and query of a URL in the normal form."""
    start = url.find("/", url.find("://") + 3)
    path = url[start:].partition("#")[0] if start >= 0 else "/"
    return _normal(path.encode())


def _normal_pattern(value: bytes) -> str:
    """The pattern of a rule in the normal form. The wildcards `*` and the last `$` stay as they are."""
    anchor = "$" if value.endswith(b"$") else ""
    return "*".join(_normal(piece) for piece in value.removesuffix(b"$").split(b"*")) + anchor


def _normal(path: bytes) -> str:
    """The normal form, in which paths and patterns are compared (RFC 9309, section 2.2.2; RFC 3986, section 6.2.2).

    Unreserved characters stand for themselves, reserved ones stay as they are, encoded or not, and everything else is
    percent-encoded. So are `*` and `$`, which patterns can only name by `%2A` and `%24` (RFC 9309, section 2.2.3), and
    the apostrophe, since a serialised URL has it encoded in its query and not in its path.
    """
    return _ESCAPED.sub(_escape, path).decode("ascii")


def _escape(found: re.Match[bytes]) -> bytes:
    digits, raw = found.groups()
    byte = int(digits, 16) if digits else raw[0]
    return bytes((byte,)) if byte in _UNRESERVED else b"%%%02X" % byte


def _seconds(value: str) -> float | None:
    """A Crawl-delay; None for a value that is not a time."""
    try:
        delay_s = float(value)
    except ValueError:
        return None
    return min(delay_s, MAX_CRAWL_DELAY_S) if 0 <= delay_s < math.inf else None
