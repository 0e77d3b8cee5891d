"""The HTTP cache that all workers share (RFC 9111): complete responses to GET and HEAD, in the shared cache."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping
from hashlib import sha256
from typing import Final

import msgspec

from fetchq import FetchStatus
from fetchq.contract.request import CONDITIONAL_HEADERS
from fetchq.contract.wire import UNREADABLE
from fetchq_worker.fetch.http.failure import failure_of
from fetchq_worker.fetch.http.redirect import Hop
from fetchq_worker.fetch.transport.errors import ResponseMalformed
from fetchq_worker.fetch.transport.headers import Headers as ResponseHeaders
from fetchq_worker.fetch.transport.response import Response

from .freshness import (
    CACHED_METHODS,
    Headers,
    StoredResponse,
    age_s,
    directives_of,
    freshened,
    is_fresh,
    keep_s,
    may_store,
    may_use_stale,
    storable_headers,
    validates,
    validators_of,
    values_of,
    vary_of,
)
from .shared_cache import SharedCache

MAX_STORED_BYTES: Final = 1 << 20
"""Of a decoded body."""
_SERVER_ERRORS: Final = frozenset({500, 502, 503, 504})
"""The errors of stale-if-error (RFC 5861, section 4)."""
_STALE_IF: Final = frozenset(
    {FetchStatus.DNS_ERROR, FetchStatus.CONNECT_ERROR, FetchStatus.TIMEOUT, FetchStatus.BAD_RESPONSE}
)

Forward = Callable[[Hop], Awaitable[Response]]


class _Variants(msgspec.Struct, frozen=True, tag=True):
    """Stored for a URL whose responses vary: the names of the request headers that select one."""

    names: tuple[str, ...]


class _Entry(msgspec.Struct, frozen=True, tag=True):
    response: StoredResponse


_encoder: Final = msgspec.msgpack.Encoder()
_decoder: Final[msgspec.msgpack.Decoder[_Variants | _Entry]] = msgspec.msgpack.Decoder(_Variants | _Entry)


class CachedHead:
    """A stored response in place of one from the server."""

    __slots__ = ("body", "headers", "status")

    def __init__(self, stored: StoredResponse, now_s: float) -> None:
        age = str(int(age_s(stored, now_s)))
        pairs = [pair for pair in stored.headers if pair[0].lower() != "age"] + [("Age", age)]
        self.status = stored.status
        self.body = stored.body
        self.headers = ResponseHeaders.of(pairs)

    def release(self) -> None:
        """Does nothing: there is no connection."""


class HttpCache:
    """The cache of one attempt: `send` for each hop, then `store` for the one whose body was read."""

    def __init__(
        self, shared_cache: SharedCache, *, route_name: str, default_headers: Mapping[str, str], has_credentials: bool
    ) -> None:
        """`route_name` is part of the keys, `default_headers` are those that the client adds.

        `has_credentials` says that the request is authenticated other than by an Authorization or Cookie header.
        """
        self._shared_cache = shared_cache
        self._route_name = route_name
        self._default_headers = default_headers
        self._has_credentials = has_credentials
        self._pending: tuple[Hop, Response, float, float] | None = None

    async def send(self, hop: Hop, forward: Forward) -> Response | CachedHead:
        """The stored response if it is fresh, or usable after an error of the server; else the server's."""
        self._pending = None
        requested = _request_directives(hop)
        if not _is_cacheable(hop, requested):
            return await forward(hop)
        stored = await self._find(hop)
        now_s = time.time()
        if stored is not None and is_fresh(requested, stored, now_s):
            return CachedHead(stored, now_s)
        try:
            head = await forward(hop if stored is None else _with_validators(hop, stored))
        except Exception as problem:
            failure = failure_of(problem, responded=False)
            is_error = failure is not None and failure[0] in _STALE_IF
            if stored is None or not is_error or not may_use_stale(requested, stored, time.time()):
                raise
            return CachedHead(stored, time.time())
        received_s = time.time()
        if stored is not None and head.status == 304:
            head.release()
            return await self._freshen(hop, stored, _headers_of(head), now_s, received_s)
        if stored is not None and head.status in _SERVER_ERRORS and may_use_stale(requested, stored, received_s):
            head.release()
            return CachedHead(stored, received_s)
        self._pending = hop, head, now_s, received_s
        return head

    async def store(self, head: Response, body: bytes) -> None:
        """Stores the response that `send` returned last, now that its body is read, if that is allowed."""
        if self._pending is None or self._pending[1] is not head or len(body) > MAX_STORED_BYTES:
            return
        hop, _, requested_s, received_s = self._pending
        stored = StoredResponse(head.status, storable_headers(_headers_of(head)), body, requested_s, received_s)
        secret_headers = any(name.lower() in ("authorization", "cookie") for name, _ in hop.headers)
        if may_store(hop.method, _request_directives(hop), self._has_credentials or secret_headers, stored):
            await self._put(hop, stored)

    async def _freshen(
        self, hop: Hop, stored: StoredResponse, headers: Headers, requested_s: float, received_s: float
    ) -> CachedHead:
        if not validates(stored, headers):
            await self._shared_cache.evict(self._key(hop, tuple(vary_of(stored))))
            raise ResponseMalformed("the server responded 304 with the ETag of another representation")
        fresh = freshened(stored, headers, requested_s, received_s)
        await self._put(hop, fresh)
        return CachedHead(fresh, received_s)

    async def _find(self, hop: Hop) -> StoredResponse | None:
        found = _decoded(await self._shared_cache.get(self._key(hop, ())))
        if isinstance(found, _Variants):
            found = _decoded(await self._shared_cache.get(self._key(hop, found.names)))
        return found.response if isinstance(found, _Entry) else None

    async def _put(self, hop: Hop, stored: StoredResponse) -> None:
        names = tuple(vary_of(stored))
        ttl_s = keep_s(stored, time.time())
        if names:
            await self._shared_cache.put(self._key(hop, ()), _encoder.encode(_Variants(names)), ttl_s)
        await self._shared_cache.put(self._key(hop, names), _encoder.encode(_Entry(stored)), ttl_s)

    def _key(self, hop: Hop, vary: tuple[str, ...]) -> str:
        """A digest of method, URL, route and the values of the headers in `vary`."""
        parts = [hop.method, hop.url.partition("#")[0], self._route_name]
        for name in vary:
            values = values_of(hop.headers, name) or [self._default_headers.get(name, "")]
            parts += (name, ",".join(value.strip() for value in values))
        return f"{self._shared_cache.keys.cache}{sha256(msgspec.msgpack.encode(parts)).hexdigest()}"


def _is_cacheable(hop: Hop, requested: Mapping[str, str]) -> bool:
    """A request with its own conditions or range is not cached."""
    if hop.method not in CACHED_METHODS or "no-store" in requested:
        return False
    return not any(name.lower() in CONDITIONAL_HEADERS or name.lower() == "range" for name, _ in hop.headers)


def _request_directives(hop: Hop) -> dict[str, str]:
    """The request's directives, or those of Pragma if it has none (RFC 9111, section 5.4)."""
    values = values_of(hop.headers, "cache-control")
    if not values and any("no-cache" in value.lower() for value in values_of(hop.headers, "pragma")):
        return {"no-cache": ""}
    return directives_of(values)


def _with_validators(hop: Hop, stored: StoredResponse) -> Hop:
    return msgspec.structs.replace(hop, headers=(*hop.headers, *validators_of(stored)))


def _headers_of(head: Response) -> Headers:
    return tuple(head.headers.items())


def _decoded(value: bytes | None) -> _Variants | _Entry | None:
    if value is None:
        return None
    try:
        return _decoder.decode(value)
    except UNREADABLE:  # written by another version
        return None
