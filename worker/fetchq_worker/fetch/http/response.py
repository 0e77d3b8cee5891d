"""A response whose head has arrived, and whose body is still to be read."""

from __future__ import annotations

from aiohttp import StreamReader
from aiohttp.http_parser import RawResponseMessage

from fetchq_worker.fetch.transport.headers import Headers

from .connector import Target
from .protocol import ConnectionProtocol


class Response:
    """The head, the stream of the encoded body, and the connection, which `release` returns to the pool."""

    __slots__ = ("_protocol", "_target", "content", "headers", "method", "status")

    def __init__(
        self,
        method: str,
        head: RawResponseMessage,
        content: StreamReader,
        target: Target,
        protocol: ConnectionProtocol,
    ) -> None:
        self.method = method
        self.status: int = head.code
        self.headers = Headers(head.raw_headers)
        self.content = content
        self._target = target
        self._protocol: ConnectionProtocol | None = protocol

    def __repr__(self) -> str:
        return f"<Response {self.status} to {self.method} from {self._target!r}>"

    @property
    def content_length(self) -> int | None:
        """The Content-Length field; None if there is none."""
        length = self.headers.get("Content-Length")
        return None if length is None else int(length)

    def release(self) -> None:
        """Returns the connection to the pool if the whole body has arrived, read or not, and closes it otherwise."""
        protocol = self._protocol
        if protocol is not None:
            self._protocol = None
            self._target.connector.release_connection(self._target.key, protocol, keep=self.content.is_eof())
