"""A web site on loopback, and the command as a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import redis
from tests.support.redis_server import RedisServer

PATIENCE_S = 60.0
"""How long anything here may take on a busy machine before it counts as hung."""


class Site(ThreadingHTTPServer):
    """Answers `/page/...`, `/json`, `/bin`, `/big/...` (30 KB), and `/gate/...`, which waits until the gate is open.

    Its robots.txt forbids `/page/private`.
    """

    daemon_threads = True
    request_queue_size = 512

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.hits: Counter[str] = Counter()
        self.gate = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that went away is what some of the tests are about."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Site

    def setup(self) -> None:
        super().setup()
        self.connection.settimeout(PATIENCE_S)

    def do_GET(self) -> None:
        self.server.hits[self.path] += 1
        kind = self.path.split("/")[1]
        if kind == "gate":
            self.server.gate.wait(PATIENCE_S)
        answers = {
            "page": (200, "text/html; charset=utf-8", "<p>größe</p>".encode()),
            "gate": (200, "text/plain", b"open"),
            "json": (200, "application/json", b"[42]"),
            "robots.txt": (200, "text/plain", b"User-agent: fetchq\nDisallow: /page/private"),
            "bin": (200, "image/png", b"\x89PNG\x00"),
            "big": (200, "application/octet-stream", b"\x00" * 30_000),
        }
        status, media_type, body = answers.get(kind, (404, "text/plain", b"not here"))
        self.send_response(status)
        self.send_header("Content-Type", media_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Nothing: the tests ask `hits`."""


@pytest.fixture
def site() -> Iterator[Site]:
    server = Site()
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield server
    server.gate.set()
    server.shutdown()
    server.server_close()
    thread.join()


class Fetchq:
    """Runs `fetchq` in a folder of its own, allowed to fetch from loopback."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._left: list[subprocess.Popen[str]] = []

    def start(
        self, *arguments: str | Path, environ: Mapping[str, str] | None = None, stderr: int = subprocess.PIPE
    ) -> subprocess.Popen[str]:
        clean = {name: value for name, value in os.environ.items() if not name.startswith("FETCHQ_")}
        process = subprocess.Popen(
            [sys.executable, "-c", "from fetchq_worker.cli import main; main()", *map(str, arguments)],
            text=True,
            cwd=self.folder,
            env={**clean, "FETCHQ_ALLOW_NET": "127.0.0.1/32", **(environ or {})},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
        )
        self._left.append(process)
        return process

    def run(
        self, *arguments: str | Path, stdin: str = "", environ: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Runs it to its end; whatever happens, it shows no traceback."""
        process = self.start(*arguments, environ=environ)
        out, err = process.communicate(stdin, timeout=PATIENCE_S)
        assert "Traceback" not in err, err
        return subprocess.CompletedProcess(arguments, process.returncode, out, err)

    def close(self) -> None:
        for process in self._left:
            if process.poll() is None:
                process.kill()
            process.communicate(timeout=PATIENCE_S)


@pytest.fixture
def fetchq(tmp_path: Path) -> Iterator[Fetchq]:
    command = Fetchq(tmp_path)
    yield command
    command.close()


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The lines of a file of results, each of which must be whole."""
    data = path.read_bytes()
    assert not data or data.endswith(b"\n")
    return [json.loads(line) for line in data.splitlines()]


def jobs_of(server: RedisServer) -> list[bytes]:
    """The keys of jobs, queues and results in a Redis."""
    with redis.Redis(unix_socket_path=str(server.socket)) as client:
        keys: list[bytes] = client.keys()
        queues = [key for key in keys if client.type(key) == b"zset" and key != b"fetchq:shared-cache"]
    of_a_job = (b"arq:job:", b"arq:result:", b"arq:retry:", b"arq:in-progress:", b"fetchq:attempts:", b"fetchq:lease")
    return queues + [key for key in keys if key.startswith(of_a_job)]


def wait_until(happened: Callable[[], object], what: str) -> None:
    until = time.monotonic() + PATIENCE_S
    while not happened():
        assert time.monotonic() < until, f"{what} has not happened"
        time.sleep(0.01)
