"""Credentials by name: sent to the origins they are bound to, and visible nowhere else."""

from __future__ import annotations

import logging
from base64 import b64encode
from pathlib import Path
from typing import Any

import pytest
from arq.connections import ArqRedis
from redis.asyncio import Redis
from tests.support.redis_server import RedisServer
from tests.support.web.site import Site, http_response

from fetchq import FetchRequest, FetchResult, FetchStatus, Producer, RetryPolicy
from fetchq.command.settings import InvalidSetting
from fetchq.store.connection import connect
from fetchq_worker.engine import Worker
from fetchq_worker.fetch import Fetcher, fetch
from fetchq_worker.fetch.access.credentials import read_credentials
from fetchq_worker.process.arq_settings import worker_settings
from fetchq_worker.process.make_worker import make_worker
from fetchq_worker.settings import Settings

ONCE = RetryPolicy(max_tries=1)
TOKEN, PASSWORD, API_KEY, PROXY_PASSWORD = "tok-f00ba4", "hunter2-secret", "key-c0ffee", "proxy-pass-1"
NAMED: tuple[dict[str, Any], ...] = (
    {"credential": "token"},
    {"credential": "login"},
    {"credential": "api-key"},
    {"proxy": "out"},
)
SECRETS = (TOKEN, PASSWORD, API_KEY, PROXY_PASSWORD, b64encode(f"me:{PASSWORD}".encode()).decode())


def _file(folder: Path, *origins: str, mode: int = 0o600) -> Path:
    bound = "[" + ", ".join(f'"{origin}"' for origin in origins) + "]"
    path = folder / "credentials.toml"
    path.write_text(
        f"""
        [credentials.token]
        kind = "bearer"
        token = "{TOKEN}"
        origins = {bound}

        [credentials.login]
        kind = "basic"
        username = "me"
        password = "{PASSWORD}"
        origins = {bound}

        [credentials.api-key]
        kind = "header"
        name = "X-Api-Key"
        value = "{API_KEY}"
        origins = {bound}

        [proxies.out]
        url = "http://127.0.0.1:9"
        username = "proxy"
        password = "{PROXY_PASSWORD}"
        """
    )
    path.chmod(mode)
    return path


def _fetcher(path: Path) -> Fetcher:
    return Fetcher(
        user_agent="fetchq-tests/1", allow_net=("127.0.0.0/8", "::1/128"), credentials=read_credentials(path)
    )


async def _fetch(fetcher: Fetcher, url: str, **options: Any) -> FetchResult:
    return await fetch({"fetcher": fetcher}, FetchRequest.of(url, retry=ONCE, **options))


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("name", "header", "value"),
    [
        ("token", "Authorization", f"Bearer {TOKEN}"),
        ("login", "Authorization", f"Basic {b64encode(f'me:{PASSWORD}'.encode()).decode()}"),
        ("api-key", "X-Api-Key", API_KEY),
    ],
)
async def test_a_credential_is_sent_to_its_origin(
    site: Site, tmp_path: Path, name: str, header: str, value: str
) -> None:
    url = site.serve("/", http_response(b"hello"))
    async with _fetcher(_file(tmp_path, site.url())) as fetcher:
        result = await _fetch(fetcher, url, credential=name, headers={"X-Api-Key": "mine"})

    assert result.status is FetchStatus.OK
    assert [held for key, held in site.visits[0].headers if key.lower() == header.lower()] == [value]


@pytest.mark.asyncio
async def test_an_unknown_credential_is_an_invalid_job(site: Site, fetcher: Fetcher) -> None:
    result = await _fetch(fetcher, site.url(), credential="token")
    assert (result.status, result.error) == (FetchStatus.INVALID_JOB, "this worker has no credential named 'token'")
    assert site.visits == []


@pytest.mark.asyncio
async def test_a_credential_for_another_origin_is_not_sent(site: Site, tmp_path: Path) -> None:
    other_port, other_host = site.url().replace(str(site.port), "1"), site.url(host="localhost")
    async with _fetcher(_file(tmp_path, other_port, other_host)) as fetcher:
        result = await _fetch(fetcher, site.url(), credential="token")
    assert result.status is FetchStatus.BLOCKED
    assert "'token' is not for" in (result.error or "")
    assert site.visits == []


@pytest.mark.asyncio
async def test_a_credential_is_dropped_for_good_at_the_first_other_origin(site: Site, tmp_path: Path) -> None:
    url = site.serve("/", http_response(status=302, headers={"Location": "/same"}))
    site.serve("/same", http_response(status=302, headers={"Location": site.url("/across", host="localhost")}))
    site.serve("/across", http_response(status=302, headers={"Location": site.url("/back")}))
    site.serve("/back", http_response(b"hello"))
    async with _fetcher(_file(tmp_path, site.url(), site.url(host="localhost"))) as fetcher:
        result = await _fetch(fetcher, url, credential="api-key")

    assert result.status is FetchStatus.OK
    assert [(visit.target, visit.header("X-Api-Key")) for visit in site.visits] == [
        ("/", API_KEY),
        ("/same", API_KEY),
        ("/across", None),
        ("/back", None),
    ]


@pytest.mark.asyncio
async def test_no_secret_is_in_redis_a_result_a_log_or_a_repr(
    site: Site, tmp_path: Path, redis_server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    path = _file(tmp_path, site.url())
    site.serve("/", http_response(status=302, headers={"Location": "/there"}))
    site.serve("/there", http_response(b"hello", headers={"ETag": '"a"'}), http_response(status=500))
    site.serve("/broken", b"nonsense\r\n\r\n")
    settings = Settings(
        redis_url=redis_server.url,
        allow_net=("127.0.0.0/8",),
        credentials_file=str(path),
    )
    redis: Redis = connect(redis_server.url)
    async with Producer(redis) as producer:
        jobs = [
            await producer.enqueue(FetchRequest.of(site.url(target), retry=ONCE, robots=True, **options))
            for target in ("/", "/there", "/broken")
            for options in NAMED
        ]
        worker = _worker(settings, redis_server.url)
        await worker.async_run()
        await worker.close()
        results = [await job.result(timeout_s=10) for job in jobs]
        stored = b"".join([await _dump(redis, key) for key in await redis.keys("*")])
    await redis.aclose()

    assert {visit.header("Authorization") for visit in site.visits} > {None, f"Bearer {TOKEN}"}
    assert {result.status for result in results} >= {
        FetchStatus.OK,
        FetchStatus.BAD_RESPONSE,
        FetchStatus.CONNECT_ERROR,
    }
    credentials = read_credentials(path)
    seen = f"{results!r} {caplog.text} {credentials!r} {credentials.credentials!r} {credentials.proxies!r} {settings!r}"
    for secret in SECRETS:
        assert secret not in seen
        assert secret.encode() not in stored
    assert b"hello" in stored


def _worker(settings: Settings, redis_url: str) -> Worker:
    return make_worker(worker_settings(settings=settings), connect(redis_url, redis_class=ArqRedis), burst=True)


async def _dump(redis: Any, key: bytes) -> bytes:
    value: bytes = await redis.get(key) if await redis.type(key) == b"string" else await redis.dump(key)
    return key + value


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604])
def test_a_credentials_file_that_others_can_read_is_refused(tmp_path: Path, mode: int) -> None:
    with pytest.raises(InvalidSetting, match="can be read by others than its owner; run chmod 600"):
        read_credentials(_file(tmp_path, "https://a.example", mode=mode))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("tok-f00ba4", "is not TOML"),
        ('[credentials.a]\nkind = "bearer"\ntoken = "tok-f00ba4"\norigins = []', "origins is empty"),
        ('[credentials.a]\nkind = "bearer"\ntoken = "tok-f00ba4"\norigins = ["nowhere"]', "not an absolute URL"),
        ('[credentials.a]\nkind = "bearer"\ntoken = 5\norigins = ["https://a.example"]', "takes a string"),
        ('[credentials.a]\nkind = "bearer"\ntoken = "tok-f00ba4"', "origins"),
        ('[credentials.a]\nkind = "magic"\nspell = "tok-f00ba4"', "magic"),
        ('[credentials.a]\nkind = "bearer"\ntoken = "tok-f00ba4\\n"\norigins = ["https://a.example"]', "valid header"),
        ('[proxies.a]\nurl = "socks5://a.example"', "http:// or https://"),
        ('[proxies.a]\nurl = "http://me:tok-f00ba4@a.example"', "have their own fields"),
        ('[elsewhere.a]\nkey = "tok-f00ba4"', "elsewhere"),
    ],
)
def test_an_invalid_credentials_file_is_refused_without_revealing_a_secret(
    tmp_path: Path, text: str, says: str
) -> None:
    path = tmp_path / "credentials.toml"
    path.write_text(text)
    path.chmod(0o600)
    with pytest.raises(InvalidSetting) as refusal:
        read_credentials(path)
    assert says in str(refusal.value)
    assert "--credentials-file (FETCHQ_CREDENTIALS_FILE)" in str(refusal.value)
    assert TOKEN not in str(refusal.value)


def test_a_missing_credentials_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidSetting, match=r"cannot read .*nowhere.toml: No such file"):
        read_credentials(tmp_path / "nowhere.toml")
