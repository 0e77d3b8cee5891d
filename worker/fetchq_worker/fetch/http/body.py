"""Reading the body of a response: streamed, decoded, and limited in size."""

from __future__ import annotations

import asyncio

from fetchq_worker.fetch.content.encoding import ContentDecoder, codings_of
from fetchq_worker.fetch.transport.response import Response

from .errors import BodyTooLarge

_ENOUGH_BYTES = 64 << 10
"""A body without a coding is read in parts of this size, not segment by segment."""
_YIELD_BYTES = 1 << 20
"""How much is decoded before the event loop runs other tasks."""


def read_arrived(response: Response, max_bytes: int) -> bytes | None:
    """As `read_body` for a body that has arrived and has no coding, without waiting; None for any other."""
    if not response.arrived or "Content-Encoding" in response.headers:
        return None
    body = response.take()
    if len(body) > max_bytes:
        raise BodyTooLarge
    return body


async def read_body(response: Response, max_bytes: int) -> bytes:
    """The decoded body; raises `BodyTooLarge` as soon as it exceeds `max_bytes`, whatever the headers say."""
    codings = codings_of(response.headers.getall("Content-Encoding"))
    if codings:
        return await _read_encoded(response, codings, max_bytes)
    length = response.content_length
    if length is not None and length > max_bytes:
        raise BodyTooLarge
    chunks: list[bytes] = []
    size = 0
    while chunk := await response.readany(min(_ENOUGH_BYTES, max_bytes - size + 1)):
        size += len(chunk)
        if size > max_bytes:
            raise BodyTooLarge
        chunks.append(chunk)
        if response.at_eof():
            break
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)


async def _read_encoded(response: Response, codings: tuple[str, ...], max_bytes: int) -> bytes:
    decoder = ContentDecoder(codings, max_bytes)
    body = bytearray()
    yield_at = _YIELD_BYTES
    while chunk := await response.readany():
        for piece in decoder.decode(chunk):
            body += piece
            if len(body) > max_bytes:
                raise BodyTooLarge
            if len(body) >= yield_at:
                yield_at = len(body) + _YIELD_BYTES
                await asyncio.sleep(0)
    decoder.check_ended()
    return bytes(body)
