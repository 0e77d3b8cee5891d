"""The test bed of the guard: a client, its DNS names, private servers, and a record of every socket."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from tests.support.web.dns_server import DnsServer
from tests.support.web.sockets import SocketWatch

from fetchq import FetchResult
from fetchq_worker.fetch import Fetcher, fetch

REDIRECTOR = "127.66.66.66"
"""The one private address that a redirected client may connect to: it stands for the public server that redirects."""
PUBLIC = "93.184.215.14"
"""The address of names without an entry. It is never connected to: the record of sockets would fail the test."""
NAME = "public.example"


@dataclass
class Listener:
    """A server that counts its connections, stores what it receives, and responds with a redirect or a page."""

    host: str
    location: str | None = None
    connections: int = 0
    heads: list[bytes] = field(default_factory=list)
    port: int = 0

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._connected, self.host, 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        self._server.close()
        await self._server.wait_closed()

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}/"

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            self.heads.append(await reader.readuntil(b"\r\n\r\n"))
            if self.location is None:
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\nConnection: close\r\n\r\nsecret")
            else:
                location = self.location.encode("utf-8", "surrogatepass")
                writer.write(b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\nConnection: close\r\nLocation: ")
                writer.write(location + b"\r\n\r\n")
            await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the client disconnected
        finally:
            writer.close()


@dataclass
class Arena:
    dns: DnsServer
    inside: Listener
    """Listens on 127.0.0.1, to which no client here may connect."""
    redirector: Listener
    watch: SocketWatch
    fetcher: Fetcher
    redirected: Fetcher

    async def fetch(self, url: str, *, fetcher: Fetcher | None = None) -> FetchResult:
        """One attempt at an untrusted URL, as in a job."""
        request = {"url": url, "retry": {"max_tries": 1}, "timeout_s": 10.0}
        return await fetch({"fetcher": fetcher or self.fetcher}, request)

    async def fetch_redirected(self, location: str) -> FetchResult:
        """The same URL as the Location of a public server's redirect."""
        self.redirector.location = location
        return await self.fetch(self.redirector.url, fetcher=self.redirected)

    @property
    def reached(self) -> list[tuple[str, int]]:
        """All addresses that were connected to, except the redirecting server."""
        return [(address, port) for address, port in self.watch.connects if address != REDIRECTOR]


@asynccontextmanager
async def make_arena(allow_net: tuple[str, ...] = (), allow_port: tuple[int, ...] = ()) -> AsyncIterator[Arena]:
    dns = DnsServer()
    dns.default = (PUBLIC,)
    inside, redirector = Listener("127.0.0.1"), Listener(REDIRECTOR)
    await dns.start()
    await inside.start()
    await redirector.start()
    made = {"user_agent": "fetchq-tests/1", "nameservers": (dns.address,), "allow_port": allow_port}
    try:
        async with (
            Fetcher(**made, allow_net=allow_net) as fetcher,  # type: ignore[arg-type]
            Fetcher(**made, allow_net=(*allow_net, REDIRECTOR)) as redirected,  # type: ignore[arg-type]
        ):
            with SocketWatch() as watch:
                yield Arena(dns, inside, redirector, watch, fetcher, redirected)
    finally:
        dns.stop()
        await inside.stop()
        await redirector.stop()
