"""Reading an answer's body: streamed, decoded, and cut off at its limit."""

from __future__ import annotations

import asyncio

from fetchq_worker.fetch.content.encoding import ContentDecoder, codings_of

from .failure import BodyTooLarge
from .response import Response

_BREATH_BYTES = 1 << 20
"""How much is decoded before the other fetches of the process get a turn."""


async def read_body(answer: Response, max_bytes: int) -> bytes:
    """The decoded body; raises `BodyTooLarge` as soon as it passes `max_bytes`, whatever its headers say."""
    codings = codings_of(answer.headers.getall("Content-Encoding", []))
    if codings:
        return await _read_encoded(answer, codings, max_bytes)
    length = answer.content_length
    if length is not None and length > max_bytes and answer.method != "HEAD":
        raise BodyTooLarge
    stream = answer.content
    body = await stream.readany()
    if len(body) > max_bytes:
        raise BodyTooLarge
    if stream.at_eof():
        return body
    chunks = [body]
    size = len(body)
    while chunk := await stream.readany():
        size += len(chunk)
        if size > max_bytes:
            raise BodyTooLarge
        chunks.append(chunk)
    return b"".join(chunks)


async def _read_encoded(answer: Response, codings: tuple[str, ...], max_bytes: int) -> bytes:
    decoder = ContentDecoder(codings, max_bytes)
    body = bytearray()
    breathe_at = _BREATH_BYTES
    while chunk := await answer.content.readany():
        for piece in decoder.decode(chunk):
            body += piece
            if len(body) > max_bytes:
                raise BodyTooLarge
            if len(body) >= breathe_at:
                breathe_at = len(body) + _BREATH_BYTES
                await asyncio.sleep(0)
    decoder.check_ended()
    return bytes(body)
