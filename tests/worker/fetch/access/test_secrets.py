"""No secret leaks: unique secrets are used in every operation and every failure, and all logs, keys and `repr`s are
searched for them.

The headers of a *request* are stored in its job and beside its result in Redis, by design (docs/security.md), and
nowhere else. A `credential` is in neither.
"""

from __future__ import annotations

import asyncio
import os
import pickle
import signal
import ssl
import subprocess
import sys
import traceback
from base64 import b64encode
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import pytest
import pytest_asyncio
import redis
import trustme
from tests.support.redis_server import RedisServer
from tests.support.web.site import Site, Visit, http_response

from fetchq import FetchqError, FetchRequest, FetchResult, FetchStatus, InvalidRequest, Producer, Redirect, RetryPolicy
from fetchq.store.address import RedisAddress
from fetchq.store.connection import connect
from fetchq_worker.fetch.access.credentials import read_credentials
from fetchq_worker.process.arq_settings import worker_settings
from fetchq_worker.settings import Settings

REDIS_PASSWORD: Final = "canary-redis-0e1f"
HELD: Final = {  # configured at the worker
    "token": "canary-token-1a2b",
    "password": "canary-password-3c4d",
    "api_key": "canary-apikey-5e6f",
    "proxy": "canary-proxy-7a8b",
}
SENT: Final = {"authorization": "zqauth9c", "cookie": "zqcook1e"}
"""In request headers; short, so that a log line that is cut would still show them."""
USERINFO: Final = "canary-userinfo-3a4b"
SET_COOKIE: Final = "canary-setcookie-5c6d"
"""Set by a redirect; sent with the next hop, and never logged."""
CONTENT: Final = {"query": "canary-query-6a7b", "request-body": "canary-posted-8c9d", "body": "canary-read-0f1a"}

MAIN: Final = """
import logging, sys
logging.basicConfig(level=logging.DEBUG, stream=sys.stderr)
for name in ("fetchq.fetch", "fetchq.hosts", "fetchq.engine", "arq.worker"):
    logging.getLogger(name).setLevel(logging.DEBUG)
from fetchq_worker.cli import main
main()
"""
"""The command with all loggers at DEBUG."""

JOBS: Final = """
import sys

from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SimpleSpanProcessor

from fetchq_worker import worker_settings
from fetchq_worker.fetch import fetch

async def breaks(ctx, request):
    result = await fetch(ctx, request)
    raise RuntimeError(f"after {result.status}")

trace.set_tracer_provider(TracerProvider())
trace.get_tracer_provider().add_span_processor(SimpleSpanProcessor(ConsoleSpanExporter(out=sys.stderr)))
WorkerSettings = worker_settings(functions=[breaks], subscribers=[lambda event: print(event, file=sys.stderr)])
"""
"""Every event and span is printed."""


def encoded(secret: str) -> tuple[str, ...]:
    """The forms in which a secret may appear: itself, and in Basic credentials with each name used here."""
    logins = (f"{name}:{secret}".encode() for name in ("me", "proxy", "default"))
    return (secret, *(b64encode(login).decode().rstrip("=") for login in logins))


def found(text: str | bytes, secrets: dict[str, str]) -> set[str]:
    data = text if isinstance(text, bytes) else text.encode("utf-8", "surrogateescape")
    return {name for name, secret in secrets.items() if any(form.encode() in data for form in encoded(secret))}


EVERYTHING: Final = {
    **HELD, **SENT, **CONTENT, "redis": REDIS_PASSWORD, "userinfo": USERINFO, "set-cookie": SET_COOKIE
}  # fmt: skip


@pytest_asyncio.fixture
async def site() -> AsyncIterator[Site]:
    site = Site()
    await site.start()
    yield site
    await site.stop()


@pytest_asyncio.fixture
async def secure() -> AsyncIterator[Site]:
    """A site with a certificate of an untrusted authority."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)
    site = Site(tls=context)
    await site.start()
    yield site
    await site.stop()


@pytest.fixture
def credentials(tmp_path: Path, site: Site) -> Path:
    path = tmp_path / "credentials.toml"
    bound = f'origins = ["{site.url()}"]'
    path.write_text(
        f"""
        [credentials.token]
        kind = "bearer"
        token = "{HELD["token"]}"
        {bound}
        [credentials.login]
        kind = "basic"
        username = "me"
        password = "{HELD["password"]}"
        {bound}
        [credentials.api-key]
        kind = "header"
        name = "X-Api-Key"
        value = "{HELD["api_key"]}"
        {bound}
        [proxies.out]
        url = "http://127.0.0.1:9999"
        username = "proxy"
        password = "{HELD["proxy"]}"
        """
    )
    path.chmod(0o600)
    return path


class Output:
    """The output of processes on stdout and stderr."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._environ = {name: value for name, value in os.environ.items() if not name.startswith("FETCHQ_")}
        self._reading: dict[asyncio.subprocess.Process, asyncio.Task[tuple[bytes, bytes]]] = {}
        self.text = ""

    async def start(self, *arguments: str, **environ: str) -> asyncio.subprocess.Process:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", MAIN, *arguments),
            cwd=self._folder,
            env={**self._environ, **environ},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        self._reading[process] = asyncio.create_task(process.communicate())  # a full pipe would stop the process
        return process

    async def wait_end(self, process: asyncio.subprocess.Process) -> str:
        out, _ = await asyncio.wait_for(self._reading.pop(process), 60)
        self.text += out.decode("utf-8", "surrogateescape")
        return out.decode("utf-8", "surrogateescape")

    async def run(self, *arguments: str, **environ: str) -> str:
        return await self.wait_end(await self.start(*arguments, **environ))


PRODUCED: Final = {
    FetchStatus.OK,
    FetchStatus.BAD_RESPONSE,
    FetchStatus.HTTP_ERROR,
    FetchStatus.TIMEOUT,
    FetchStatus.TOO_LARGE,
    FetchStatus.TOO_MANY_REDIRECTS,
    FetchStatus.TLS_ERROR,
    FetchStatus.CONNECT_ERROR,
    FetchStatus.BLOCKED,
    FetchStatus.DNS_ERROR,
    FetchStatus.INVALID_JOB,
    FetchStatus.INVALID_URL,
}
"""The outcomes of `requests_of`."""


def requests_of(site: Site, secure: Site) -> list[FetchRequest]:
    """Every class of failure that can be produced on loopback, each with secrets in it."""

    async def hang(visit: Visit) -> None:
        await asyncio.Event().wait()

    authorization, cookie = ("Authorization", f"Bearer {SENT['authorization']}"), ("Cookie", f"s={SENT['cookie']}")
    headers = (authorization, cookie)
    ok = site.serve("/ok", http_response(CONTENT["body"].encode(), headers={"Set-Cookie": f"a={SET_COOKIE}"}))
    moved = {"Location": "/ok", "Set-Cookie": f"sid={SET_COOKIE}"}
    userinfo = {"Location": f"http://me:{USERINFO}@127.0.0.1:{site.port}/ok"}
    app = {"Location": f"example.app://me:{USERINFO}@callback/?code={CONTENT['query']}"}
    urls = [
        ok,
        site.serve("/moved", http_response(status=302, headers=moved)),
        site.serve("/userinfo", http_response(status=302, headers=userinfo)),
        site.serve("/app", http_response(status=302, headers=app)),
        site.serve("/broken", b"nonsense\r\n\r\n"),
        site.serve("/failing", http_response(CONTENT["body"].encode(), status=500)),
        site.serve("/hang", hang),
        site.serve("/big", http_response(b"x" * 5000)),
        site.serve("/loop", http_response(status=302, headers={"Location": "/loop"})),
        site.serve("/bomb", http_response(b"no gzip", headers={"Content-Encoding": "gzip"})),
        secure.url(),
        "http://127.0.0.1:9998/",
        "http://10.0.0.1/",
        "http://name.invalid/",
    ]
    options: list[dict[str, Any]] = [
        {"headers": headers},
        {"headers": (cookie, authorization)},
        {"credential": "token"},
        {"credential": "login"},
        {"credential": "api-key"},
        {"credential": "unknown"},
        {"proxy": "out", "headers": headers},
        {
            "headers": headers,
            "method": "POST",
            "body": CONTENT["request-body"].encode(),
            "robots": True,
            "cookies": True,
        },
    ]
    retry = RetryPolicy(max_tries=2, base_s=0.01)
    return [
        FetchRequest.of(f"{url}?token={CONTENT['query']}", timeout_s=2.0, max_bytes=4000, retry=retry, **option)
        for url in urls
        for option in options
    ]


async def _run_jobs(url: str, requests: list[FetchRequest]) -> tuple[list[FetchResult], set[str], list[Any]]:
    """Results, the names of the secrets that Redis holds, and all objects that a service could log."""
    async with Producer.from_url(url) as producer:
        jobs = await producer.enqueue_many(requests)
        results = [result async for result in producer.as_completed(jobs, timeout_s=100)]
        breaking = await producer.enqueue_job("breaks", requests[0])
        with pytest.raises(FetchqError) as broken:
            await breaking.value(timeout_s=20)
        unknown = await producer.enqueue_job("unknown_function", requests[0])
        with pytest.raises(FetchqError) as not_found:
            await unknown.value(timeout_s=20)
        with redis.Redis.from_url(url) as admin:
            keys: list[bytes] = admin.keys()
            stored = [admin.dump(key) or b"" for key in keys]
            stored += [admin.get(key) or b"" for key in keys if admin.type(key) == b"string"]
        held = {name for data in stored for name in found(data, EVERYTHING)}
        return results, held, [producer, producer.results, jobs, results, broken.value, not_found.value]


async def _run_commands(output: Output, printed: Output, site: Site, server: RedisServer, url: str) -> None:
    """Commands that succeed, and some whose Redis is down."""
    enqueued = await output.run("enqueue", f"{site.url()}ok", "--credential", "token", FETCHQ_REDIS_URL=url)
    job_id = enqueued.split()[-1]
    assert found(await printed.run("result", job_id, "--redis", url), EVERYTHING) <= {
        "set-cookie",
        "body",
    }  # of the response
    for command in (("status",), ("status", "--json"), ("cancel", "--all")):
        await output.run(*command, "--redis", url)
    server.stop()  # while the worker runs
    for command in (("status",), ("enqueue", site.url())):
        await output.run(*command, "--redis", url)
    server.start()


async def _run_wrong_commands(output: Output, url: str) -> None:
    """Commands with a wrong password, invalid addresses of Redis, and a URL with a password."""
    wrong = url.replace(REDIS_PASSWORD, f"{REDIS_PASSWORD}-mistyped")
    for command in (("status",), ("worker",), ("enqueue", "http://example.org/"), ("result", "x")):
        await output.run(*command, "--redis", wrong)
    for bad in (url.replace("unix://", "unix:/"), url.replace("unix", "redis") + "?x=1", f"redis://{url}"):
        await output.run("status", "--redis", bad)
    await output.run("enqueue", f"http://me:{USERINFO}@example.org/", "--redis", url)
    await output.run("fetch", f"http://me:{USERINFO}@example.org/")


@pytest.mark.asyncio
async def test_no_secret_is_logged_or_stored_whatever_fails(
    site: Site, secure: Site, credentials: Path, tmp_path: Path
) -> None:
    (tmp_path / "my_jobs.py").write_text(JOBS)
    server = RedisServer("--requirepass", REDIS_PASSWORD, password=REDIS_PASSWORD)
    url = f"unix://:{REDIS_PASSWORD}@{server.socket}"
    output = Output(tmp_path)
    try:
        flags = ("--credentials-file", str(credentials), "--allow-net", "127.0.0.0/8", "--verbose", "--grace", "1")
        worker = await output.start("worker", "--settings", "my_jobs:WorkerSettings", *flags, FETCHQ_REDIS_URL=url)
        results, held_in_redis, shown = await _run_jobs(url, requests_of(site, secure))
        await _run_commands(output, Output(tmp_path), site, server, url)
        worker.send_signal(signal.SIGTERM)
        log = await output.wait_end(worker)
        await _run_wrong_commands(output, url)
    finally:
        server.remove()
    assert {result.status for result in results} >= PRODUCED
    assert {visit.header("Authorization") for visit in site.visits} >= {
        f"Bearer {HELD['token']}",
        f"Bearer {SENT['authorization']}",
    }
    assert "fetch.finished" in log, "the log is at DEBUG"
    assert "AttemptEnded(" in log
    assert '"url.full": "http://127.0.0.1' in log
    without_urls = output.text.replace(f"http://me:{USERINFO}@example.org/", "")  # as it was typed
    lines = [line for line in without_urls.splitlines() if found(line, EVERYTHING)]
    assert lines == []
    for one in (*shown, *(hop for result in results for hop in (result.error, *result.redirects, result.attempts))):
        assert found(f"{one!r} {one!s}", _forbidden_in(one)) == set(), one
    assert held_in_redis <= SENT.keys() | CONTENT.keys() | {"set-cookie", "userinfo"}


def _forbidden_in(shown: Any) -> dict[str, str]:
    """What must not be in it. A result has the URL, the body and the headers, Set-Cookie and Location included."""
    is_response = isinstance(shown, list) and bool(shown) and isinstance(shown[0], FetchResult)
    own = {"set-cookie", "userinfo", "query", "body"} if is_response else set()
    own |= {"query"} if isinstance(shown, Redirect) else set()
    return {name: secret for name, secret in EVERYTHING.items() if name not in own}


def test_no_secret_is_in_a_repr_or_an_exception(credentials: Path, tmp_path: Path) -> None:
    url = f"redis://me:{REDIS_PASSWORD}@localhost:1/0"
    settings = Settings(redis_url=url, credentials_file=str(credentials))
    held = read_credentials(credentials)
    described = worker_settings(settings=settings)
    client: redis.asyncio.Redis = connect(url)
    things: list[Any] = [settings, held, held.credentials, held.proxies, RedisAddress.parse(url), client]
    things += [client.connection_pool, Producer(client)]
    things += [vars(described), described.redis_settings]  # type: ignore[attr-defined]
    for thing in things:
        assert found(f"{thing!r} {thing!s}", EVERYTHING) == set(), type(thing)


@pytest.mark.parametrize(
    "url",
    [f"http://me:{USERINFO}@example.org/", f"https://{USERINFO}@example.org/", f"http://me:{USERINFO}@[::1"],
)
def test_a_url_with_a_password_is_refused_and_the_refusal_does_not_repeat_it(url: str) -> None:
    with pytest.raises(InvalidRequest) as refusal:
        FetchRequest(url=url)
    shown = "".join(traceback.format_exception(refusal.value)).replace(url, "", 1) + repr(refusal.value)
    assert found(shown, EVERYTHING) == set()
    assert found(pickle.dumps(refusal.value), EVERYTHING) == set()
