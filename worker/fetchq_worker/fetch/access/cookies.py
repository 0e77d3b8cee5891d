"""The cookies of one attempt (RFC 6265bis): what a redirect sets, for the hops that follow it and no other fetch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Final, NamedTuple

from fetchq.contract.urls import host_of, is_address
from fetchq_worker.politeness.public_suffixes import is_public_suffix

from .set_cookie import SetCookie, parse_set_cookie

MAX_COOKIES_PER_DOMAIN: Final = 50
MAX_COOKIES: Final = 300
"""Of one attempt. Beyond either limit those are evicted that have not been set or sent for the longest time."""


class _Key(NamedTuple):
    """A new cookie with the same key replaces the old one, and keeps its age (section 5.7)."""

    name: str
    domain: str
    host_only: bool
    path: str


class _Kept:
    __slots__ = ("expires_s", "secure", "used", "value")

    def __init__(self, cookie: SetCookie, used: int) -> None:
        self.value = cookie.value
        self.expires_s = cookie.expires_s
        self.secure = cookie.secure
        self.used = used
        """Which response or request of the attempt set or sent it last."""

    def is_expired(self, now_s: float) -> bool:
        return self.expires_s is not None and self.expires_s <= now_s


class Cookies:
    """A cookie jar. Names and values are kept and sent as they came, byte by byte, decoded as Latin-1."""

    __slots__ = ("_kept", "_messages")

    def __init__(self) -> None:
        self._messages = 0
        self._kept: dict[_Key, _Kept] = {}  # in the order of their creation

    def __repr__(self) -> str:
        return f"<Cookies {[key._asdict() for key in self._kept]}>"

    def update(self, url: str, fields: Sequence[str], now_s: float) -> None:
        """Stores the cookies that the Set-Cookie fields of a response to a serialised URL set (section 5.7)."""
        if not fields:
            return
        secure_origin = _is_secure(url)
        protected = [] if secure_origin else [key for key, kept in self._kept.items() if kept.secure]
        self._messages += 1
        for field in fields[-MAX_COOKIES:]:
            cookie = parse_set_cookie(field, now_s)
            key = None if cookie is None else _key_of(cookie, url, secure_origin)
            if cookie is None or key is None or any(_shadows(key, held) for held in protected):
                continue
            kept = _Kept(cookie, self._messages)
            if kept.is_expired(now_s):
                self._kept.pop(key, None)
            else:
                self._kept[key] = kept
        self._evict(now_s)

    def header(self, url: str, now_s: float) -> str | None:
        """The value of the Cookie field for a hop (section 5.8); None if no cookie matches."""
        host, path, secure_origin = host_of(url), _path_of(url), _is_secure(url)
        self._messages += 1
        chosen = [
            (key, kept)
            for key, kept in self._kept.items()
            if (host == key.domain if key.host_only else _domain_matches(host, key.domain))
            and _path_matches(path, key.path)
            and (secure_origin or not kept.secure)
            and not kept.is_expired(now_s)
        ]
        chosen.sort(key=lambda pair: -len(pair[0].path))
        for _, kept in chosen:
            kept.used = self._messages
        return "; ".join(f"{key.name}={kept.value}" for key, kept in chosen) or None

    def _evict(self, now_s: float) -> None:
        """Removes cookies that have expired, then those beyond the limits (section 5.7, "remove excess cookies")."""
        kept = self._kept
        for key in [key for key, held in kept.items() if held.is_expired(now_s)]:
            del kept[key]
        for domain, count in Counter(key.domain for key in kept).items():
            if count > MAX_COOKIES_PER_DOMAIN:
                keys = [key for key in kept if key.domain == domain]
                keys.sort(key=lambda key: (kept[key].secure, kept[key].used))
                for key in keys[: count - MAX_COOKIES_PER_DOMAIN]:
                    del kept[key]
        for key in sorted(kept, key=lambda key: kept[key].used)[: max(0, len(kept) - MAX_COOKIES)]:
            del kept[key]


def _key_of(cookie: SetCookie, url: str, secure_origin: bool) -> _Key | None:
    """None if this URL may not set the cookie."""
    host, domain = host_of(url), cookie.domain
    if cookie.secure and not secure_origin:
        return None
    if domain and (not domain.isascii() or not _domain_matches(host, domain)):
        return None
    if domain and not is_address(host) and is_public_suffix(domain):
        if domain != host:
            return None  # it would be sent to sites of other owners
        domain = ""
    name = cookie.name.lower()
    if name.startswith(("__secure-", "__host-")) and not cookie.secure:
        return None
    if name.startswith("__host-") and (domain or cookie.path != "/"):
        return None
    return _Key(cookie.name, domain or host, not domain, cookie.path or _default_path(url))


def _shadows(new: _Key, protected: _Key) -> bool:
    """Whether a cookie from an origin that is not secure would hide a Secure one (section 5.7, step 16)."""
    return (
        new.name == protected.name
        and (_domain_matches(new.domain, protected.domain) or _domain_matches(protected.domain, new.domain))
        and _path_matches(new.path, protected.path)
    )


def _is_secure(url: str) -> bool:
    """https, and loopback as in browsers and curl (Secure Contexts, "potentially trustworthy origin")."""
    if url.startswith("https://"):
        return True
    host = host_of(url)
    if is_address(host):
        return host == "[::1]" or host.startswith("127.")
    return host == "localhost" or host.endswith(".localhost")


def _domain_matches(host: str, domain: str) -> bool:
    """Section 5.1.3."""
    return host == domain or (host.endswith(f".{domain}") and not is_address(host))


def _path_matches(path: str, cookie_path: str) -> bool:
    """Section 5.1.4."""
    if not path.startswith(cookie_path):
        return False
    return len(path) == len(cookie_path) or cookie_path.endswith("/") or path[len(cookie_path)] == "/"


def _path_of(url: str) -> str:
    path = url[url.find("/", url.find("://") + 3) :].partition("#")[0]
    return path.partition("?")[0]


def _default_path(url: str) -> str:
    """Section 5.1.4: the path of the URL up to its last slash."""
    return _path_of(url).rpartition("/")[0] or "/"
