"""The HTTP cache that all workers share (RFC 9111): whole answers to safe requests, on the shared_cache in Redis."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping
from hashlib import sha256
from typing import Final

import msgspec
from multidict import CIMultiDict, CIMultiDictProxy

from fetchq import FetchStatus
from fetchq.contract.request import CONDITIONAL_HEADERS
from fetchq.contract.wire import UNREADABLE
from fetchq_worker.fetch.http.failure import ResponseMalformed, failure_of
from fetchq_worker.fetch.http.redirect import Hop
from fetchq_worker.fetch.http.response import Response

from .freshness import (
    CACHED_METHODS,
    Headers,
    StoredAnswer,
    age_s,
    directives_of,
    freshened,
    is_about,
    is_fresh,
    keep_s,
    may_stand_in,
    may_store,
    storable_headers,
    validators_of,
    values_of,
    vary_of,
)
from .shared_cache import SharedCache

MAX_STORED_BYTES: Final = 1 << 20
"""Of a body, decoded."""
_SERVER_FAILS: Final = frozenset({500, 502, 503, 504})
"""What stale-if-error is about (RFC 5861, section 4)."""
_STANDS_IN_FOR: Final = frozenset(
    {FetchStatus.DNS_ERROR, FetchStatus.CONNECT_ERROR, FetchStatus.TIMEOUT, FetchStatus.BAD_RESPONSE}
)

Forward = Callable[[Hop], Awaitable[Response]]


class _Variants(msgspec.Struct, frozen=True, tag=True):
    """Stands under a URL whose answers depend on request headers: which those are."""

    names: tuple[str, ...]


class _Entry(msgspec.Struct, frozen=True, tag=True):
    answer: StoredAnswer


_encoder: Final = msgspec.msgpack.Encoder()
_decoder: Final[msgspec.msgpack.Decoder[_Variants | _Entry]] = msgspec.msgpack.Decoder(_Variants | _Entry)


class CachedHead:
    """A stored answer in the place of one from the server."""

    __slots__ = ("body", "headers", "raw_headers", "status")

    def __init__(self, stored: StoredAnswer, now_s: float) -> None:
        age = str(int(age_s(stored, now_s)))
        pairs = [pair for pair in stored.headers if pair[0].lower() != "age"] + [("Age", age)]
        self.status = stored.status
        self.body = stored.body
        self.raw_headers = tuple((name.encode("latin-1"), value.encode("latin-1")) for name, value in pairs)
        decoded = [(n.decode("latin-1"), v.decode("utf-8", "surrogateescape")) for n, v in self.raw_headers]
        self.headers = CIMultiDictProxy(CIMultiDict(decoded))

    def release(self) -> None:
        """There is no connection."""


class HttpCache:
    """The cache as one attempt uses it: `answer` for each hop, then `store` for the one whose body was read."""

    def __init__(
        self, shared_cache: SharedCache, *, way: str, defaults: Mapping[str, str], has_credentials: bool
    ) -> None:
        """`way` tells routes apart, `defaults` are the headers that the client adds by itself.

        `has_credentials` says that the request names its sender other than by Authorization or Cookie.
        """
        self._shelf = shared_cache
        self._way = way
        self._defaults = defaults
        self._personal = has_credentials
        self._open: tuple[Hop, Response, float, float] | None = None

    async def answer(self, hop: Hop, forward: Forward) -> Response | CachedHead:
        """The stored answer if it is good, or stands in for a server that fails; else the server's."""
        self._open = None
        asked = _asked(hop)
        if not _is_cacheable(hop, asked):
            return await forward(hop)
        stored = await self._find(hop)
        now_s = time.time()
        if stored is not None and is_fresh(asked, stored, now_s):
            return CachedHead(stored, now_s)
        try:
            head = await forward(hop if stored is None else _validating(hop, stored))
        except Exception as problem:
            failure = failure_of(problem, answered=False)
            may_help = stored is not None and failure is not None and failure[0] in _STANDS_IN_FOR
            if stored is None or not may_help or not may_stand_in(asked, stored, time.time()):
                raise
            return CachedHead(stored, time.time())
        received_s = time.time()
        if stored is not None and head.status == 304:
            head.release()
            return await self._freshen(hop, stored, _headers_of(head), now_s, received_s)
        if stored is not None and head.status in _SERVER_FAILS and may_stand_in(asked, stored, received_s):
            head.release()
            return CachedHead(stored, received_s)
        self._open = hop, head, now_s, received_s
        return head

    async def store(self, head: Response, body: bytes) -> None:
        """Keeps the answer that `answer` gave last, now that its body is there, if it may be kept."""
        if self._open is None or self._open[1] is not head or len(body) > MAX_STORED_BYTES:
            return
        hop, _, requested_s, received_s = self._open
        stored = StoredAnswer(head.status, storable_headers(_headers_of(head)), body, requested_s, received_s)
        has_credentials = self._personal or any(name.lower() in ("authorization", "cookie") for name, _ in hop.headers)
        if may_store(hop.method, _asked(hop), has_credentials, stored):
            await self._put(hop, stored)

    async def _freshen(
        self, hop: Hop, stored: StoredAnswer, headers: Headers, requested_s: float, received_s: float
    ) -> CachedHead:
        if not is_about(stored, headers):
            await self._shelf.drop(self._key(hop, tuple(vary_of(stored))))
            raise ResponseMalformed("the server answered 304 about another copy than it was asked about")
        fresh = freshened(stored, headers, requested_s, received_s)
        await self._put(hop, fresh)
        return CachedHead(fresh, received_s)

    async def _find(self, hop: Hop) -> StoredAnswer | None:
        found = _decoded(await self._shelf.get(self._key(hop, ())))
        if isinstance(found, _Variants):
            found = _decoded(await self._shelf.get(self._key(hop, found.names)))
        return found.answer if isinstance(found, _Entry) else None

    async def _put(self, hop: Hop, stored: StoredAnswer) -> None:
        names = tuple(vary_of(stored))
        ttl_s = keep_s(stored, time.time())
        if names:
            await self._shelf.put(self._key(hop, ()), _encoder.encode(_Variants(names)), ttl_s)
        await self._shelf.put(self._key(hop, names), _encoder.encode(_Entry(stored)), ttl_s)

    def _key(self, hop: Hop, vary: tuple[str, ...]) -> str:
        """Method and URL, the way to it, and the values of the headers that matter."""
        parts = [hop.method, hop.url.partition("#")[0], self._way]
        for name in vary:
            values = values_of(hop.headers, name) or [self._defaults.get(name, "")]
            parts += (name, ",".join(value.strip() for value in values))
        return f"{self._shelf.keys.cache}{sha256(msgspec.msgpack.encode(parts)).hexdigest()}"


def _is_cacheable(hop: Hop, asked: Mapping[str, str]) -> bool:
    """Conditions and ranges of the caller's own are between it and the server."""
    if hop.method not in CACHED_METHODS or "no-store" in asked:
        return False
    return not any(name.lower() in CONDITIONAL_HEADERS or name.lower() == "range" for name, _ in hop.headers)


def _asked(hop: Hop) -> dict[str, str]:
    """The request's directives; Pragma counts where there are none (RFC 9111, section 5.4)."""
    values = values_of(hop.headers, "cache-control")
    if not values and any("no-cache" in value.lower() for value in values_of(hop.headers, "pragma")):
        return {"no-cache": ""}
    return directives_of(values)


def _validating(hop: Hop, stored: StoredAnswer) -> Hop:
    return msgspec.structs.replace(hop, headers=(*hop.headers, *validators_of(stored)))


def _headers_of(head: Response) -> Headers:
    return tuple((name.decode("latin-1"), value.decode("latin-1")) for name, value in head.raw_headers)


def _decoded(value: bytes | None) -> _Variants | _Entry | None:
    if value is None:
        return None
    try:
        return _decoder.decode(value)
    except UNREADABLE:  # another version's
        return None
