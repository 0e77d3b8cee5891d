"""Stored responses as entries of the shared cache: their keys and their bytes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from hashlib import sha256
from secrets import token_hex
from typing import Annotated, Final

import msgspec

from fetchq.contract.wire import UNREADABLE
from fetchq_worker.fetch.http.redirect import Hop
from fetchq_worker.fetch.transport.headers import Headers

from .shared_cache import SharedCache
from .stored_response import StoredResponse
from .storing import CACHED_METHODS

_Time = Annotated[float, msgspec.Meta(ge=0, le=1e11)]


class Variants(msgspec.Struct, frozen=True, tag=True):
    """Stored for a URL whose responses vary."""

    names: tuple[str, ...]
    """Of the request headers that select one."""
    generation: str
    """Part of the variants' keys, so that removing this entry makes all variants unreachable."""


class Entry(msgspec.Struct, frozen=True, tag=True):
    status: Annotated[int, msgspec.Meta(ge=100, le=999)]
    fields: list[tuple[str, str]]
    body: bytes
    requested_at_s: _Time
    received_at_s: _Time

    def response(self) -> StoredResponse:
        return StoredResponse(self.status, Headers.of(self.fields), self.body, self.requested_at_s, self.received_at_s)


_encoder: Final = msgspec.msgpack.Encoder()
_decoder: Final[msgspec.msgpack.Decoder[Variants | Entry]] = msgspec.msgpack.Decoder(Variants | Entry)


class Entries:
    """The entries that one attempt reads and writes. A response to GET also answers HEAD."""

    def __init__(self, shared_cache: SharedCache, route_name: str, default_headers: Mapping[str, str]) -> None:
        """`route_name` is part of the keys, `default_headers` are those that the client adds."""
        self._shared_cache = shared_cache
        self._route_name = route_name
        self._default_headers = default_headers

    async def find(self, hop: Hop, method: str) -> StoredResponse | None:
        """The stored response to that method that the hop selects."""
        found = await self._read(self._key(hop.url, method))
        if isinstance(found, Variants):
            found = await self._read(self._variant_key(hop, method, found))
        return found.response() if isinstance(found, Entry) else None

    async def put(self, hop: Hop, stored: StoredResponse, ttl_s: float) -> None:
        entry = Entry(stored.status, stored.headers.items(), stored.body, stored.requested_at_s, stored.received_at_s)
        key, names = self._key(hop.url, hop.method), stored.vary
        if names:
            variants = await self._read(key)
            if not isinstance(variants, Variants) or variants.names != names:
                variants = Variants(names, token_hex(8))
            await self._shared_cache.put(key, _encoder.encode(variants), ttl_s)
            key = self._variant_key(hop, hop.method, variants)
        await self._shared_cache.put(key, _encoder.encode(entry), ttl_s)

    async def remove(self, urls: Iterable[str], methods: Iterable[str] = CACHED_METHODS) -> None:
        """Removes all responses of these URLs."""
        await self._shared_cache.evict(*[self._key(url, method) for url in urls for method in methods])

    async def _read(self, key: str) -> Variants | Entry | None:
        value = await self._shared_cache.get(key)
        return None if value is None else decode_entry(value)

    def _key(self, url: str, method: str) -> str:
        return self._digest([method, url.partition("#")[0], self._route_name])

    def _variant_key(self, hop: Hop, method: str, variants: Variants) -> str:
        parts = [method, hop.url.partition("#")[0], self._route_name, variants.generation]
        for name in variants.names:
            values = [value for key, value in hop.headers if key.lower() == name]
            members = ",".join(values or [self._default_headers.get(name, "")]).split(",")
            parts += (name, ",".join([member.strip() for member in members]))
        return self._digest(parts)

    def _digest(self, parts: list[str]) -> str:
        return f"{self._shared_cache.keys.cache}{sha256(msgspec.msgpack.encode(parts)).hexdigest()}"


def decode_entry(value: bytes) -> Variants | Entry | None:
    """None for bytes that another version wrote, or anybody else."""
    try:
        return _decoder.decode(value)
    except UNREADABLE:
        return None
