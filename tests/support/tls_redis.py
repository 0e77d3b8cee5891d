"""A real `redis-server` that speaks TLS alone and asks clients for a certificate, and the authorities behind both."""

from __future__ import annotations

import socket
import ssl
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Final

import trustme

from .ports import free_port
from .redis_server import needed_binary

HOST: Final = "localhost"


class Papers:
    """PEM files in a folder: those that a client needs, and others that are each wrong in one way."""

    def __init__(self, folder: Path) -> None:
        authority, stranger = trustme.CA(), trustme.CA()
        self.authority = _write(folder / "ca.pem", authority.cert_pem.bytes())
        self.other_authority = _write(folder / "other-ca.pem", stranger.cert_pem.bytes())
        self.server_certificate, self.server_key = _pair(folder, "server", authority.issue_cert(HOST))
        self.certificate, self.key = _pair(folder, "client", authority.issue_cert("client.example"))
        self.strangers_certificate, self.strangers_key = _pair(
            folder, "stranger", stranger.issue_cert("client.example")
        )


class TLSRedis:
    """The server, on a port of loopback."""

    def __init__(self, papers: Papers) -> None:
        binary = needed_binary("redis-server")  # before the folder: it skips the test where there is no server
        self._folder = tempfile.TemporaryDirectory(prefix="fetchq-tls-")
        self.port = free_port()
        options = ["--port", "0", "--tls-port", str(self.port), "--tls-auth-clients", "yes", "--save", ""]
        options += ["--tls-ca-cert-file", str(papers.authority), "--tls-cert-file", str(papers.server_certificate)]
        options += ["--tls-key-file", str(papers.server_key), "--dir", self._folder.name, "--loglevel", "warning"]
        self._process = subprocess.Popen([binary, *options], stdout=subprocess.DEVNULL)
        self._wait_ready(papers)

    def url(self, papers: Papers, *, host: str = HOST, **changed: Path | None) -> str:
        """Its address; an option that is None is left out."""
        options: dict[str, Path | None] = {
            "ssl_ca_certs": papers.authority,
            "ssl_certfile": papers.certificate,
            "ssl_keyfile": papers.key,
            **changed,
        }
        query = "&".join(f"{name}={path}" for name, path in options.items() if path is not None)
        return f"rediss://{host}:{self.port}?{query}"

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait()
        self._folder.cleanup()

    def _wait_ready(self, papers: Papers) -> None:
        context = ssl.create_default_context(cafile=papers.authority)
        context.load_cert_chain(papers.certificate, papers.key)
        until = time.monotonic() + 20
        while True:
            try:
                with (
                    socket.create_connection(("127.0.0.1", self.port), timeout=5) as plain,
                    context.wrap_socket(plain, server_hostname=HOST) as secure,
                ):
                    secure.sendall(b"PING\r\n")
                    if secure.recv(16).startswith(b"+PONG"):
                        return
            except OSError:
                if self._process.poll() is not None or time.monotonic() > until:
                    self.stop()
                    raise
            time.sleep(0.01)


def _pair(folder: Path, name: str, issued: trustme.LeafCert) -> tuple[Path, Path]:
    certificate = b"".join(blob.bytes() for blob in issued.cert_chain_pems)
    return (
        _write(folder / f"{name}.pem", certificate),
        _write(folder / f"{name}-key.pem", issued.private_key_pem.bytes()),
    )


def _write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path
