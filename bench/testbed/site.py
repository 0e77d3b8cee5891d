"""The site that all peers fetch from: nginx on loopback with three bodies of ASCII text; over TLS too, if asked."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shutil
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Final

import msgspec
import trustme

from .failure import BenchFailure, Unavailable
from .processes import Child, free_port

BODIES: Final = {"2k": 2_048, "100k": 102_400, "1m": 1_048_576}
"""Page by size in bytes."""

START_S: Final = 10.0

_COUNTS: Final = re.compile(r"accepts handled requests\s+(\d+) \d+ (\d+)")

# One worker, no log, unlimited keep-alive: the site must not be the bottleneck.
_CONFIG: Final = """
daemon off;
{user}
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/nginx-errors.log warn;
events {{ worker_connections 8192; }}
http {{
    log_format starts '$msec $request_time $status $host';
    access_log {access_log};
    sendfile on;
    tcp_nopush on;
    keepalive_requests 1000000000;
    keepalive_timeout {keep_alive_s}s;
    open_file_cache max=16;
    default_type "text/plain; charset=utf-8";
    client_body_temp_path {folder}/client-body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    server {{
        listen {address}:{port} backlog=4096;
        allow 127.0.0.0/8;
        deny all;
        root {folder}/pages;
        location = /served {{ stub_status; access_log off; }}
        location = /too-many {{ add_header Retry-After {retry_after_s} always; return 429; }}
    }}
    {tls}
}}
"""

# Each address has its own certificate: with one for all hosts, a client could take them for one.
_TLS: Final = """
    server {{
        listen 0.0.0.0:{port} ssl backlog=4096;
        ssl_certificate {folder}/certificates/$server_addr.crt;
        ssl_certificate_key {folder}/certificates/$server_addr.key;
        allow 127.0.0.0/8;
        deny all;
        root {folder}/pages;
    }}
"""


RETRY_AFTER_S: Final = 5
"""The Retry-After of `/too-many`'s 429."""


class Request(msgspec.Struct, frozen=True):
    """One line of the site's log."""

    at_s: float
    """When it arrived, in seconds since the epoch."""
    status: int
    host: str


class Counts(msgspec.Struct, frozen=True):
    """What nginx counted since its start; reading it takes one connection and one request."""

    connections: int
    requests: int


class Tls(msgspec.Struct, frozen=True):
    """The same pages over TLS."""

    port: int
    ca: Path
    """The certificate of the authority, as a PEM file."""

    def url(self, page: str, host: str) -> str:
        return f"https://{host}:{self.port}/{page}"


class Site(msgspec.Struct, frozen=True):
    port: int
    log: Path | None = None
    tls: Tls | None = None

    def requests(self) -> list[Request]:
        """All requests so far, in order of arrival; requires `logs`."""
        if self.log is None:
            raise BenchFailure("the site keeps no log")
        lines = (line.split() for line in self.log.read_text().splitlines())
        found = [Request(float(at) - float(took), int(status), host) for at, took, status, host in lines]
        return sorted(found, key=lambda request: request.at_s)

    def url(self, page: str, host: str = "127.0.0.1") -> str:
        return f"http://{host}:{self.port}/{page}"

    async def served(self) -> int:
        """Requests answered since the start, by nginx's own count."""
        return (await self.counts()).requests

    async def counts(self) -> Counts:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            writer.write(b"GET /served HTTP/1.0\r\n\r\n")
            await writer.drain()
            answer = (await reader.read()).decode()
        finally:
            writer.close()
            await writer.wait_closed()
        counts = _COUNTS.search(answer)
        if counts is None:
            raise BenchFailure("nginx's stub_status did not answer as it should")
        return Counts(connections=int(counts[1]), requests=int(counts[2]))


def _binary() -> str:
    binary = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if binary is None:
        raise Unavailable("nginx is missing; install your system's package of that name")
    return binary


async def nginx_version(folder: Path) -> str:
    async with Child("nginx-version", [_binary(), "-v"], folder) as child:
        await child.process.wait()
        return child.last_words().rpartition("/")[2]


@contextlib.asynccontextmanager
async def nginx_site(
    folder: Path,
    *,
    keep_alive: bool = True,
    all_loopback: bool = False,
    logs: bool = False,
    tls_hosts: Sequence[str] = (),
) -> AsyncIterator[Site]:
    """Starts it, waits until it responds, and stops it at the end.

    `all_loopback`: listens on every address in 127.0.0.0/8, each of which is a host. `logs`: see `Site.requests`.
    `tls_hosts`: addresses that `Site.tls` has certificates for.
    """
    binary = _binary()
    pages = folder / "pages"
    pages.mkdir(parents=True)
    for page, size in BODIES.items():
        (pages / page).write_text(("fetchq " * (size // 7 + 1))[:size])
    tls = _issue_certificates(folder, tls_hosts) if tls_hosts else None
    site = Site(free_port(), folder / "requests.log" if logs else None, tls)
    config = folder / "nginx.conf"
    config.write_text(
        _CONFIG.format(
            folder=folder,
            # Its worker of another user could not read a folder in the temporary folder.
            user="user root;" if os.geteuid() == 0 else "",
            address="0.0.0.0" if all_loopback else "127.0.0.1",
            port=site.port,
            keep_alive_s=300 if keep_alive else 0,
            access_log=f"{site.log} starts" if logs else "off",
            retry_after_s=RETRY_AFTER_S,
            tls=_TLS.format(folder=folder, port=tls.port) if tls else "",
        )
    )
    (folder / "nginx-errors.log").touch()
    async with Child("nginx", [binary, "-c", config, "-p", folder, "-e", folder / "nginx-errors.log"], folder) as child:
        await _wait_answers(site, child)
        yield site


def _issue_certificates(folder: Path, hosts: Sequence[str]) -> Tls:
    authority = trustme.CA()
    tls = Tls(free_port(), folder / "authority.pem")
    authority.cert_pem.write_to_path(str(tls.ca))
    certificates = folder / "certificates"
    certificates.mkdir()
    for host in hosts:
        issued = authority.issue_cert(host)
        issued.cert_chain_pems[0].write_to_path(str(certificates / f"{host}.crt"))
        issued.private_key_pem.write_to_path(str(certificates / f"{host}.key"))
    return tls


async def _wait_answers(site: Site, child: Child) -> None:
    deadline = asyncio.get_running_loop().time() + START_S
    while True:
        child.check()
        try:
            await site.served()
        except OSError as problem:
            if asyncio.get_running_loop().time() > deadline:
                raise BenchFailure(f"nginx did not answer: {problem}") from problem
            await asyncio.sleep(0.02)  # it gives no event to wait for
        else:
            return
