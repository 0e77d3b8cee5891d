"""The options of a request beyond a plain fetch: robots.txt, cache, credential, cookies, proxy, TLS."""

from __future__ import annotations

import time

import msgspec

from fetchq import FetchRequest, FetchStatus
from fetchq.contract.urls import origin_of
from fetchq_worker.fetch.access.cookies import Cookies
from fetchq_worker.fetch.access.credentials import Certificate, Credential
from fetchq_worker.fetch.cache.entries import Entries
from fetchq_worker.fetch.cache.http_cache import CachedHead, HttpCache
from fetchq_worker.fetch.cache.invalidation import SAFE_METHODS, invalidated_urls
from fetchq_worker.fetch.cache.shared_cache import SharedCache
from fetchq_worker.fetch.http.body import read_body
from fetchq_worker.fetch.http.errors import BodyTooLarge, RequestRefused
from fetchq_worker.fetch.http.redirect import Hop
from fetchq_worker.fetch.http.route import Route
from fetchq_worker.fetch.transport.response import Response

from .fetcher import Fetcher


def plan_of(fetcher: Fetcher, request: FetchRequest, *, repeats: bool = False) -> Plan | None:
    """None for a plain request, which has no such option, and whose method invalidates nothing in the cache.

    `repeats` says that an earlier attempt failed. Raises `RequestRefused` for what the worker does not allow.
    """
    if (
        request.credential is None
        and request.proxy is None
        and request.verify_tls
        and not (request.robots or request.cookies or request.cache)
        and (request.method in SAFE_METHODS or fetcher.shared_cache is None)
    ):
        return None
    return Plan(fetcher, request, repeats)


class Plan:
    """How the hops of one attempt are sent."""

    __slots__ = ("_cache", "_cookies", "_credential", "_fetcher", "_origin", "_repeats", "_request", "_route")

    def __init__(self, fetcher: Fetcher, request: FetchRequest, repeats: bool) -> None:
        self._fetcher = fetcher
        self._request = request
        self._repeats = repeats
        self._origin = origin_of(request.url)
        self._credential = _credential(fetcher, request, self._origin)
        self._route = _route(fetcher, request, self._credential)
        self._cookies = Cookies() if request.cookies else None
        self._cache = self._cache_of(self._route)

    async def send(self, hop: Hop) -> Response | CachedHead:
        """As `Fetcher.send`; also raises `RequestRefused`."""
        request, fetcher = self._request, self._fetcher
        if self._credential is not None and origin_of(hop.url) != self._origin:
            self._credential = None  # for the rest of the attempt: a second redirect must not restore it
            self._route = _route(fetcher, request, None)
            self._cache = self._cache_of(self._route)
        if request.robots:
            await fetcher.robots.check(hop.url, self._route)
        hop = self._with_secrets(hop)
        return await (self._forward(hop) if self._cache is None else self._cache.send(hop, self._forward))

    async def read(self, head: Response | CachedHead) -> bytes:
        """As `read_body`."""
        max_bytes = self._request.max_bytes
        if isinstance(head, CachedHead):
            if len(head.body) > max_bytes:
                raise BodyTooLarge
            return head.body
        body = await read_body(head, max_bytes)
        if self._cache is not None:
            await self._cache.store(head, body)
        return body

    async def _forward(self, hop: Hop) -> Response:
        request = self._request
        response = await self._fetcher.send(hop, request.connect_timeout_s, request.read_timeout_s, self._route)
        if self._cookies is not None:
            self._cookies.update(hop.url, response.headers.getall("Set-Cookie"), time.time())
        if hop.method not in SAFE_METHODS:
            try:
                await self._invalidate(invalidated_urls(hop.url, response.status, response.headers))
            except BaseException:
                response.release()
                raise
        return response

    async def _invalidate(self, urls: tuple[str, ...]) -> None:
        shared_cache = self._fetcher.shared_cache
        if urls and shared_cache is not None and await shared_cache.wait_in_use():
            await self._entries_of(shared_cache, self._route).remove(urls)

    def _cache_of(self, route: Route | None) -> HttpCache | None:
        """None if the request does not ask for it, or if there is no Redis."""
        shared_cache = self._fetcher.shared_cache
        if not self._request.cache or shared_cache is None:
            return None
        return HttpCache(
            self._entries_of(shared_cache, route),
            has_credentials=self._request.credential is not None,
            repeats=self._repeats,
        )

    def _entries_of(self, shared_cache: SharedCache, route: Route | None) -> Entries:
        return Entries(shared_cache, "" if route is None else route.name, self._fetcher.client.default_headers)

    def _with_secrets(self, hop: Hop) -> Hop:
        """A copy with credential and cookies. It is sent, and never stored."""
        headers = hop.headers
        pair = None if self._credential is None else self._credential.header()
        if pair is not None:
            headers = (*(held for held in headers if held[0].lower() != pair[0].lower()), pair)
        cookie = None if self._cookies is None else self._cookies.header(hop.url, time.time())
        if cookie is not None:
            own = [value for name, value in headers if name.lower() == "cookie"]
            headers = (
                *(held for held in headers if held[0].lower() != "cookie"),
                ("Cookie", "; ".join([*own, cookie])),
            )
        return hop if headers is hop.headers else msgspec.structs.replace(hop, headers=headers)


def _credential(fetcher: Fetcher, request: FetchRequest, origin: str) -> Credential | None:
    name = request.credential
    if name is None:
        return None
    held = fetcher.credentials.credentials.get(name)
    if held is None:
        raise RequestRefused(FetchStatus.INVALID_JOB, f"this worker has no credential named {name!r}")
    if origin not in held.origins:
        raise RequestRefused(FetchStatus.BLOCKED, f"the credential {name!r} is not for {origin}")
    return held


def _route(fetcher: Fetcher, request: FetchRequest, credential: Credential | None) -> Route | None:
    """None: a direct connection with the client's own TLS context."""
    parts = []
    proxy = None
    if request.proxy is not None:
        proxy = fetcher.credentials.proxies.get(request.proxy)
        if proxy is None:
            raise RequestRefused(FetchStatus.INVALID_JOB, f"this worker has no proxy named {request.proxy!r}")
        parts.append(f"proxy={request.proxy}")
    certificate = request.credential if isinstance(credential, Certificate) else None
    if certificate is not None:
        parts.append(f"certificate={certificate}")
    if not request.verify_tls:
        if not fetcher.allow_unverified_tls:
            raise RequestRefused(FetchStatus.BLOCKED, "this worker does not allow verify_tls=False")
        parts.append("unverified")
    if not parts:
        return None
    plain = certificate is None and request.verify_tls
    tls = None if plain else fetcher.tls_contexts.context(certificate, verify=request.verify_tls)
    return Route(name=" ".join(parts), tls=tls, proxy=proxy)
