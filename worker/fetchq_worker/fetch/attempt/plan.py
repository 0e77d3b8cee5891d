"""What a request asks for beyond a plain fetch. A plain one has none of this and pays for none of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from fetchq import FetchStatus
from fetchq.contract.urls import origin_of
from fetchq_worker.fetch.access.cookies import Cookies
from fetchq_worker.fetch.access.credentials import Certificate, Credential
from fetchq_worker.fetch.cache.http_cache import CachedHead, HttpCache
from fetchq_worker.fetch.http.body import read_body
from fetchq_worker.fetch.http.failure import BodyTooLarge, Refused
from fetchq_worker.fetch.http.redirect import Hop
from fetchq_worker.fetch.http.route import Route

if TYPE_CHECKING:
    from fetchq import FetchRequest
    from fetchq_worker.fetch.http.client import Fetcher
    from fetchq_worker.fetch.http.response import Response


def plan_of(fetcher: Fetcher, request: FetchRequest) -> Plan | None:
    """None: the request is a plain one. Raises `Refused` for what this worker does not have or allow."""
    if (
        request.credential is None
        and request.proxy is None
        and request.verify_tls
        and not (request.robots or request.cookies or request.cache)
    ):
        return None
    return Plan(fetcher, request)


class Plan:
    """How the hops of one attempt are sent: robots, cache, credential, cookies, proxy, TLS."""

    __slots__ = ("_cache", "_cookies", "_credential", "_fetcher", "_origin", "_request", "_route")

    def __init__(self, fetcher: Fetcher, request: FetchRequest) -> None:
        self._fetcher = fetcher
        self._request = request
        self._origin = origin_of(request.url)
        self._credential = _credential(fetcher, request, self._origin)
        self._route = _route(fetcher, request, self._credential)
        self._cookies = Cookies() if request.cookies else None
        self._cache = _cache(fetcher, request, self._route)

    async def send(self, hop: Hop) -> Response | CachedHead:
        """As `Fetcher.send`, and raises `Refused` for a hop that is not to be made."""
        request, fetcher = self._request, self._fetcher
        if self._credential is not None and origin_of(hop.url) != self._origin:
            self._credential = None  # for good: who sent us away does not get it back by a second redirect
            self._route = _route(fetcher, request, None)
            self._cache = _cache(fetcher, request, self._route)
        if request.robots:
            await fetcher.robots.check(hop.url, self._route)
        with_secrets = self._dressed(hop)
        return await (
            self._forward(with_secrets) if self._cache is None else self._cache.answer(with_secrets, self._forward)
        )

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

    async def _forward(self, with_secrets: Hop) -> Response:
        request = self._request
        answer = await self._fetcher.send(with_secrets, request.connect_timeout_s, request.read_timeout_s, self._route)
        if self._cookies is not None:
            self._cookies.take(with_secrets.url, answer.headers)
        return answer

    def _dressed(self, hop: Hop) -> Hop:
        """The hop with what only the wire may see; the one that is recorded stays as it is."""
        headers = hop.headers
        pair = None if self._credential is None else self._credential.header()
        if pair is not None:
            headers = (*(held for held in headers if held[0].lower() != pair[0].lower()), pair)
        cookie = None if self._cookies is None else self._cookies.header(hop.url)
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
        raise Refused(FetchStatus.INVALID_JOB, f"this worker holds no credential named {name!r}")
    if origin not in held.origins:
        raise Refused(FetchStatus.BLOCKED, f"the credential {name!r} is not for {origin}")
    return held


def _cache(fetcher: Fetcher, request: FetchRequest, route: Route | None) -> HttpCache | None:
    """None: it is not asked for, or there is no Redis to keep it in."""
    if not request.cache or fetcher.shared_cache is None:
        return None
    has_credentials = request.credential is not None
    way = "" if route is None else route.name
    return HttpCache(fetcher.shared_cache, way=way, defaults=fetcher.own_headers, has_credentials=has_credentials)


def _route(fetcher: Fetcher, request: FetchRequest, credential: Credential | None) -> Route | None:
    """None: the plain one."""
    parts = []
    proxy = None
    if request.proxy is not None:
        proxy = fetcher.credentials.proxies.get(request.proxy)
        if proxy is None:
            raise Refused(FetchStatus.INVALID_JOB, f"this worker knows no proxy named {request.proxy!r}")
        parts.append(f"proxy={request.proxy}")
    certificate = request.credential if isinstance(credential, Certificate) else None
    if certificate is not None:
        parts.append(f"certificate={certificate}")
    if not request.verify_tls:
        if not fetcher.allow_unverified_tls:
            raise Refused(FetchStatus.BLOCKED, "this worker fetches from nobody whose certificate it has not verified")
        parts.append("unverified")
    if not parts:
        return None
    plain = certificate is None and request.verify_tls
    tls = None if plain else fetcher.contexts.context(certificate, verify=request.verify_tls)
    return Route(name=" ".join(parts), tls=tls, proxy=proxy)
