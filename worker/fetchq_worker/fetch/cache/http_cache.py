"""The HTTP cache that all workers share (RFC 9111): complete responses to GET and HEAD, in the shared cache."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Final, NamedTuple

import msgspec

from fetchq import FetchStatus
from fetchq_worker.fetch.http.failure import failure_of
from fetchq_worker.fetch.http.redirect import Hop
from fetchq_worker.fetch.transport.headers import Headers
from fetchq_worker.fetch.transport.response import Response

from .directives import Directives, directives_of
from .entries import Entries
from .freshness import age_s, is_usable, is_usable_after_error, keep_s
from .stored_response import StoredResponse, storable_fields
from .storing import CACHED_METHODS, may_store
from .validation import differs, freshened, is_not_modified, validates, validators_of

MAX_STORED_BYTES: Final = 1 << 20
"""Of a decoded body."""
_SERVER_ERRORS: Final = frozenset({500, 502, 503, 504})
"""The errors of stale-if-error (RFC 5861, section 4)."""
_STALE_IF: Final = frozenset(
    {FetchStatus.DNS_ERROR, FetchStatus.CONNECT_ERROR, FetchStatus.TIMEOUT, FetchStatus.BAD_RESPONSE}
)
_CONDITIONS: Final = frozenset({"if-none-match", "if-modified-since"})
"""Conditions of a request that a stored response can answer."""
_BYPASSING: Final = frozenset({"range", "if-match", "if-unmodified-since", "if-range"})

Forward = Callable[[Hop], Awaitable[Response]]


class CachedHead:
    """A response of the cache in place of one from the server."""

    __slots__ = ("body", "headers", "status")

    def __init__(self, status: int, headers: Headers = Headers(), body: bytes = b"") -> None:  # noqa: B008 - immutable
        self.status = status
        self.headers = headers
        self.body = body

    def release(self) -> None:
        """Does nothing: there is no connection."""


class _Pending(NamedTuple):
    """A response from the server that may be stored once its body is read."""

    hop: Hop
    head: Response
    requested_s: float
    received_s: float
    replaces: bool
    """Whether it came in place of a 304: the stored response is outdated."""


class HttpCache:
    """The cache of one attempt: `send` for each hop, then `store` for the one whose body was read."""

    def __init__(self, entries: Entries, *, has_credentials: bool, repeats: bool) -> None:
        """`has_credentials` says that the request is authenticated other than by an Authorization or Cookie header.

        `repeats` says that an earlier attempt failed: then a stored error is not used without validation.
        """
        self._entries = entries
        self._has_credentials = has_credentials
        self._repeats = repeats
        self._response_to_get: StoredResponse | None = None
        self._pending: _Pending | None = None

    async def send(self, hop: Hop, forward: Forward) -> Response | CachedHead:
        """The stored response if it may be used, also after an error of the server; else the server's."""
        self._pending = None
        requested = _request_directives(hop)
        names = {name.lower() for name, _ in hop.headers}
        if hop.method not in CACHED_METHODS or "no-store" in requested or not names.isdisjoint(_BYPASSING):
            return await forward(hop)
        stored = await self._find(hop, requested)
        requested_s = time.time()
        if stored is not None and self._is_usable(requested, stored, requested_s):
            return _head_of(hop, stored, requested_s)
        if "only-if-cached" in requested:
            return CachedHead(504)  # RFC 9111, section 5.2.1.7
        if not names.isdisjoint(_CONDITIONS):
            stored = None  # the request's own condition is sent, and the response to it is the result
        try:
            head = await forward(hop if stored is None else _with_validators(hop, stored))
            if stored is not None and head.status == 304 and not validates(stored, head.headers):
                head.release()  # the server confirms a representation that is not the stored one
                await self._entries.remove([hop.url], [hop.method])
                stored, requested_s = None, time.time()
                head = await forward(hop)
        except Exception as problem:
            failure = failure_of(problem, responded=False)
            is_error = failure is not None and failure[0] in _STALE_IF
            if stored is None or not is_error or not self._is_usable_after_error(requested, stored, time.time()):
                raise
            return _head_of(hop, stored, time.time())
        received_s = time.time()
        if stored is not None and head.status == 304:
            head.release()
            return await self._freshen(hop, stored, head.headers, requested_s, received_s)
        is_error = head.status in _SERVER_ERRORS
        if stored is not None and is_error and self._is_usable_after_error(requested, stored, received_s):
            head.release()
            return _head_of(hop, stored, received_s)
        self._pending = _Pending(hop, head, requested_s, received_s, replaces=stored is not None)
        return head

    async def store(self, head: Response, body: bytes) -> None:
        """Stores the response that `send` returned last, now that its body is read, if that is allowed."""
        pending = self._pending
        if pending is None or pending.head is not head:
            return
        hop, received_s = pending.hop, pending.received_s
        fields = storable_fields(head.headers)
        stored = StoredResponse(head.status, fields, body, pending.requested_s, received_s)
        held = self._response_to_get
        if hop.method == "HEAD" and head.status == 200 and held is not None:
            await self._update_response_to_get(pending, held)
        is_whole = not head.maybe_cut  # RFC 9111, section 3.3
        if is_whole and len(body) <= MAX_STORED_BYTES and self._may_store(hop, stored):
            await self._entries.put(hop, stored, keep_s(stored, received_s))
        elif pending.replaces and head.status not in _SERVER_ERRORS:
            await self._entries.remove([hop.url], [hop.method])

    async def _find(self, hop: Hop, requested: Directives) -> StoredResponse | None:
        """For HEAD, the stored response to GET if it may be used, else that to HEAD."""
        stored = self._response_to_get = await self._entries.find(hop, "GET")
        if hop.method == "GET" or (stored is not None and self._is_usable(requested, stored, time.time())):
            return stored
        return await self._entries.find(hop, "HEAD")

    def _is_usable(self, requested: Directives, stored: StoredResponse, now_s: float) -> bool:
        return not self._is_retried(stored) and is_usable(requested, stored, now_s)

    def _is_usable_after_error(self, requested: Directives, stored: StoredResponse, now_s: float) -> bool:
        return not self._is_retried(stored) and is_usable_after_error(requested, stored, now_s)

    def _is_retried(self, stored: StoredResponse) -> bool:
        return self._repeats and stored.status >= 400

    def _may_store(self, hop: Hop, stored: StoredResponse) -> bool:
        secret_headers = any(name.lower() in ("authorization", "cookie") for name, _ in hop.headers)
        return may_store(_request_directives(hop), self._has_credentials or secret_headers, stored)

    async def _freshen(
        self, hop: Hop, stored: StoredResponse, headers: Headers, requested_s: float, received_s: float
    ) -> CachedHead:
        fresh = freshened(stored, headers, requested_s, received_s)
        await self._put_or_remove(hop, fresh)
        return _head_of(hop, fresh, received_s)

    async def _update_response_to_get(self, pending: _Pending, stored: StoredResponse) -> None:
        """Updates the stored response to GET by a response to HEAD, or removes it if it is outdated (section 4.3.5)."""
        hop, headers = msgspec.structs.replace(pending.hop, method="GET"), pending.head.headers
        if stored.status != 200 or differs(stored, headers):
            await self._entries.remove([hop.url], [hop.method])
        else:
            fresh = freshened(stored, headers, pending.requested_s, pending.received_s)
            await self._put_or_remove(hop, fresh)

    async def _put_or_remove(self, hop: Hop, stored: StoredResponse) -> None:
        if self._may_store(hop, stored):
            await self._entries.put(hop, stored, keep_s(stored, stored.received_at_s))
        else:
            await self._entries.remove([hop.url], [hop.method])


def _head_of(hop: Hop, stored: StoredResponse, now_s: float) -> CachedHead:
    fields = [pair for pair in stored.headers.items() if pair[0].lower() != "age"]
    headers = Headers.of([*fields, ("Age", str(int(age_s(stored, now_s))))])
    if 200 <= stored.status < 300 and is_not_modified(hop, stored):
        return CachedHead(304, headers)
    return CachedHead(stored.status, headers, b"" if hop.method == "HEAD" else stored.body)


def _request_directives(hop: Hop) -> Directives:
    """The request's directives, or those of Pragma if it has none (RFC 9111, section 5.4)."""
    values = [value for name, value in hop.headers if name.lower() == "cache-control"]
    if values:
        return directives_of(values)
    pragma = directives_of(value for name, value in hop.headers if name.lower() == "pragma")
    return {"no-cache": ""} if "no-cache" in pragma else {}


def _with_validators(hop: Hop, stored: StoredResponse) -> Hop:
    return msgspec.structs.replace(hop, headers=(*hop.headers, *validators_of(stored)))
