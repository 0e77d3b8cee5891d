"""A web site on loopback, and the command: in the test's process, or in a separate one."""

from __future__ import annotations

import json
import logging
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import IO, Any

import pytest
import redis
from tests.support.redis_server import RedisServer

from fetchq_worker.cli import main

PATIENCE_S = 60.0
"""Maximum duration of any step on a busy machine before it counts as hung."""
NO_REDIS = "unix:///nowhere/redis.sock"


def at(server: RedisServer) -> dict[str, str]:
    """The environment in which commands use `server`."""
    return {"FETCHQ_REDIS_URL": server.url}


class Site(ThreadingHTTPServer):
    """Serves `/page/...`, `/json`, `/bin`, `/big/...` (100 KB), and `/gate/...`, which waits until the gate is open.

    Its robots.txt forbids `/page/private`; the first `busy` requests of it get a 503 with `retry_after`.
    """

    daemon_threads = True
    request_queue_size = 512

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.hits: Counter[str] = Counter()
        self.gate = threading.Event()
        self.busy = 0
        self.retry_after = "1"

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request: object, client_address: object) -> None:
        """Clients that disconnect are expected here."""


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
            "big": (200, "application/octet-stream", b"\x00" * 100_000),
        }
        status, media_type, body = answers.get(kind, (404, "text/plain", b"not here"))
        if is_busy := kind == "robots.txt" and self.server.hits[self.path] <= self.server.busy:
            status = 503
        self.send_response(status)
        if is_busy:
            self.send_header("Retry-After", self.server.retry_after)
        self.send_header("Content-Type", media_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Logs nothing: the tests read `hits`."""


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
    """Runs `fetchq` in its own folder, allowed to fetch from loopback."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.runtime_folder = Path(tempfile.mkdtemp(prefix="fetchq-"))  # short enough for the paths of sockets
        self._started: list[subprocess.Popen[str]] = []

    def run(
        self, *arguments: str | Path, stdin: str = "", environ: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Runs the command in this process, to its end, on its own file descriptors. It must show no traceback."""
        words = [str(word) for word in arguments]
        with ExitStack() as stack:
            files = [stack.enter_context(tempfile.TemporaryFile()) for _ in range(3)]
            files[0].write(stdin.encode())
            files[0].seek(0)
            with as_a_process(words, self.folder, self._environ(environ), files), pytest.raises(SystemExit) as end:
                main()
            assert isinstance(end.value.code, int)
            files[1].seek(0)
            files[2].seek(0)
            out, err = files[1].read().decode(), files[2].read().decode()
        done = subprocess.CompletedProcess(words, end.value.code, out, err)
        assert "Traceback" not in done.stderr, done.stderr
        return done

    def run_process(
        self, *arguments: str | Path, stdin: str = "", environ: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """The same in a separate process."""
        process = self.start(*arguments, environ=environ)
        out, err = process.communicate(stdin, timeout=PATIENCE_S)
        assert "Traceback" not in err, err
        return subprocess.CompletedProcess(arguments, process.returncode, out, err)

    def start(
        self, *arguments: str | Path, environ: Mapping[str, str] | None = None, stderr: int = subprocess.PIPE
    ) -> subprocess.Popen[str]:
        """A separate process that keeps running."""
        process = subprocess.Popen(
            [sys.executable, "-c", "from fetchq_worker.cli import main; main()", *map(str, arguments)],
            text=True,
            cwd=self.folder,
            env=self._environ(environ),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
        )
        self._started.append(process)
        return process

    def run_script(self, *words: str | Path) -> int:
        """Runs a Python script of the folder; returns its exit status."""
        return subprocess.run([sys.executable, *words], cwd=self.folder, timeout=PATIENCE_S, check=False).returncode

    def close(self) -> None:
        for process in self._started:
            if process.poll() is None:
                process.kill()
            process.communicate(timeout=PATIENCE_S)
        shutil.rmtree(self.runtime_folder)

    def _environ(self, more: Mapping[str, str] | None) -> dict[str, str]:
        clean = {name: value for name, value in os.environ.items() if not name.startswith("FETCHQ_")}
        ours = {
            "FETCHQ_ALLOW_NET": "127.0.0.1/32",
            "FETCHQ_START_WAIT": "0",
            "FETCHQ_RUNTIME_DIR": str(self.runtime_folder),
        }
        return {**clean, **ours, **(more or {})}


@contextmanager
def as_a_process(
    arguments: list[str], folder: Path, environ: Mapping[str, str], files: Sequence[IO[bytes]]
) -> Iterator[None]:
    """Gives this process the state of a new one: arguments, folder, environment, descriptors 0 to 2, logs."""
    with ExitStack() as stack:
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        patch.setattr(sys, "argv", ["fetchq", *arguments])
        patch.setattr(sys, "path", sys.path.copy())
        patch.chdir(folder)
        patch.setattr("fetchq_worker.cli.actions.worker.tune_gc", lambda: None)  # this process continues
        stack.callback(forget_modules, set(sys.modules))
        stack.enter_context(environment(environ))
        stack.enter_context(fresh_logs())
        for fd, file in enumerate(files):
            saved = os.dup(fd)
            stack.callback(os.close, saved)
            stack.callback(os.dup2, saved, fd)
            os.dup2(file.fileno(), fd)
        for fd, name in enumerate(("stdin", "stdout", "stderr")):
            stream = stack.enter_context(open(fd, "w" if fd else "r", encoding="utf-8", closefd=False))
            patch.setattr(sys, name, stream)
        yield


def forget_modules(before: set[str]) -> None:
    """Forgets modules that were imported from the folder of a test."""
    folder = str(Path.cwd())
    for name in sys.modules.keys() - before:
        if (getattr(sys.modules[name], "__file__", None) or "").startswith(folder):
            del sys.modules[name]


@contextmanager
def environment(content: Mapping[str, str]) -> Iterator[None]:
    """Replaces the environment by `content`."""
    before = dict(os.environ)
    os.environ.clear()
    os.environ.update(content)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


@contextmanager
def fresh_logs() -> Iterator[None]:
    """Removes the root logger's handlers and all levels, as in a new process, and restores them afterwards."""
    loggers = [
        logging.root,
        *(one for one in logging.root.manager.loggerDict.values() if isinstance(one, logging.Logger)),
    ]
    levels = [(logger, logger.level) for logger in loggers]
    handlers, logging.root.handlers = logging.root.handlers, []
    for logger in loggers[1:]:
        if logger.name.startswith(("fetchq", "arq")):
            logger.setLevel(logging.NOTSET)
    try:
        yield
    finally:
        logging.root.handlers = handlers
        for logger, level in levels:
            logger.setLevel(level)


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
