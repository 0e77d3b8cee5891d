"""The README's examples, run as they are; only the addresses are those of the test."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import msgspec
import pytest
from tests.support.redis_server import RedisServer

from fetchq import Producer
from fetchq.command.settings import variable_of
from fetchq.units import duration_text, size_text
from fetchq_worker.settings import Settings

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
PAGE = b"<html><title> An example </title></html>"


class _Site(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(PAGE)))
        self.end_headers()
        self.wfile.write(PAGE)

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.do_GET()

    def log_message(self, *_: object) -> None:
        """Does nothing: pytest has its own output."""


@pytest.fixture
def site() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Site) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


@pytest.fixture
def folder(tmp_path: Path, site: str, redis_server: RedisServer) -> Path:
    """A folder with the examples in files, under the names that they use."""
    for name, text in zip(("app", "many", "sync", "test_feeds", "my_jobs"), EXAMPLES, strict=True):
        here = text.replace("redis://localhost:6379", redis_server.url).replace("https://example.org/", site)
        (tmp_path / f"{name}.py").write_text(here, encoding="utf-8")
    return tmp_path


@contextmanager
def _running(folder: Path, *command: str) -> Iterator[subprocess.Popen[bytes]]:
    log = (folder / "log.txt").open("ab")
    process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(30)
        finally:
            process.kill()
            log.close()


@contextmanager
def _worker(folder: Path, redis: RedisServer) -> Iterator[subprocess.Popen[bytes]]:
    command = [str(Path(sys.executable).with_name("fetchq")), "worker", "--settings", "my_jobs:WorkerSettings"]
    with _running(folder, *command, "--redis", redis.url, "--allow-net", "127.0.0.0/8") as process:
        yield process


def test_there_are_five_examples_and_each_compiles() -> None:
    assert len(EXAMPLES) == 5
    for number, text in enumerate(EXAMPLES):
        compile(text, f"README example {number}", "exec")


def test_the_table_of_settings_is_that_of_the_struct() -> None:
    rows = re.findall(r"^\| `--[\w-]+` \| `FETCHQ_(\w+)` \| (.*?) \| (.*) \|$", README, re.MULTILINE)
    assert [f"FETCHQ_{name}" for name, _, _ in rows] == [variable_of(name) for name in Settings.__struct_fields__]
    for (name, default, meaning), field in zip(rows, msgspec.structs.fields(Settings), strict=True):
        assert meaning == field.type.__metadata__[0].description, name
        if isinstance(field.default, float):
            assert default == f"`{duration_text(field.default)}`", name
        elif isinstance(field.default, int) and not isinstance(field.default, bool):
            text = size_text(field.default) if name.endswith("_BYTES") else str(field.default)
            assert default == f"`{text}`", name


@pytest.mark.parametrize(("name", "says"), [("many", r"OK http.*\nOK http"), ("sync", r"OK <html><title> An example")])
def test_a_script_out_of_the_readme_runs(folder: Path, redis_server: RedisServer, name: str, says: str) -> None:
    with _worker(folder, redis_server):
        done = subprocess.run(
            [sys.executable, f"{name}.py"], cwd=folder, capture_output=True, text=True, timeout=60, check=False
        )
    assert done.returncode == 0, done.stderr
    assert re.search(says, done.stdout), done.stdout


@pytest.mark.asyncio
async def test_a_coroutine_of_ones_own_runs_beside_the_fetch(
    folder: Path, redis_server: RedisServer, site: str
) -> None:
    with _worker(folder, redis_server):
        async with Producer.from_url(redis_server.url) as producer:
            title = await (await producer.enqueue_job("page_title", site)).value(timeout_s=60)
    assert title == "An example"


@pytest.mark.asyncio
async def test_it_runs_under_the_stock_arq_command_too(folder: Path, redis_server: RedisServer, site: str) -> None:
    environ = {"FETCHQ_REDIS_URL": redis_server.url, "FETCHQ_ALLOW_NET": "127.0.0.0/8"}
    arq = str(Path(sys.executable).with_name("arq"))
    command = ["env", *(f"{name}={value}" for name, value in environ.items()), arq, "my_jobs.WorkerSettings"]
    with _running(folder, *command):
        async with Producer.from_url(redis_server.url) as producer:
            title = await (await producer.enqueue_job("page_title", site)).value(timeout_s=60)
            result = await (await producer.enqueue(site)).result(timeout_s=60)
    assert (title, result.status) == ("An example", "OK")


def test_the_service_starts_fetches_and_gives_their_results(folder: Path, redis_server: RedisServer, site: str) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    service = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "uvicorn", "app:app", "--host", "127.0.0.1", "--port", str(port)]
    with _worker(folder, redis_server), _running(folder, *command) as process:
        _wait_until_served(service, process)
        started = _ask("POST", f"{service}/fetches?url={urllib.parse.quote(site, safe='')}")
        finished = _ask("GET", f"{service}/fetches/{started['id']}")
        assert finished == {"status": "OK", "http_status": 200, "size": len(PAGE)}
        with pytest.raises(urllib.error.HTTPError) as refused:
            _ask("POST", f"{service}/fetches?url=nonsense")
        with refused.value as answer:
            assert answer.code == 422
            assert "not an absolute URL" in json.load(answer)["detail"]


def _wait_until_served(service: str, process: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + 30
    while True:
        try:
            with urllib.request.urlopen(f"{service}/docs", timeout=5):
                return
        except OSError:
            if process.poll() is not None or time.monotonic() > until:
                raise
            time.sleep(0.05)


def _ask(method: str, url: str) -> dict[str, object]:
    with urllib.request.urlopen(urllib.request.Request(url, method=method), timeout=60) as answer:
        found: dict[str, object] = json.load(answer)
        return found
