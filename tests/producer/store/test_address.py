"""Addresses of Redis: what is parsed, what is refused, and that no password is shown."""

from __future__ import annotations

import asyncio
import ssl
import traceback
from pathlib import Path
from typing import Any

import msgspec
import pytest
import uvloop
from harness.servers.sentinel import SentinelCluster
from redis.asyncio import Redis, SSLConnection
from redis.asyncio.sentinel import SentinelConnectionPool
from redis.exceptions import ConnectionError as RedisConnectionError
from tests.support.redis_server import RedisServer

from fetchq import InvalidRedisURL, Producer, SyncProducer
from fetchq.store.address import RedisAddress, UrlInEnvironment
from fetchq.store.connection import connect


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("redis://", RedisAddress()),
        ("redis://h", RedisAddress(hosts=(("h", 6379),))),
        ("redis://h:1/3", RedisAddress(hosts=(("h", 1),), db=3)),
        ("redis://h?db=3", RedisAddress(hosts=(("h", 6379),), db=3)),
        ("redis://[::1]:1", RedisAddress(hosts=(("::1", 1),))),
        ("redis://:p%40%2Fs@h", RedisAddress(hosts=(("h", 6379),), password="p@/s")),
        ("rediss://u:p@h", RedisAddress(hosts=(("h", 6379),), username="u", password="p", tls=True)),
        (f"rediss://h?ssl_ca_certs={__file__}", RedisAddress(hosts=(("h", 6379),), tls=True, ssl_ca_certs=__file__)),
        ("unix:///run/r.sock?db=2", RedisAddress(unix_path="/run/r.sock", db=2)),
        ("unix://:pw@/run/r.sock", RedisAddress(unix_path="/run/r.sock", password="pw")),
        (
            "redis+sentinel://u:p@a,b:1/mymaster/2?sentinel_password=s",
            RedisAddress(
                hosts=(("a", 26379), ("b", 1)),
                master="mymaster",
                db=2,
                username="u",
                password="p",
                sentinel_password="s",
            ),
        ),
    ],
)
def test_an_address_is_parsed(url: str, address: RedisAddress) -> None:
    assert RedisAddress.parse(url) == address
    assert RedisAddress.parse(str(address)).hosts == address.hosts


@pytest.mark.parametrize(
    "url",
    [
        "", "localhost", "localhost:6379", "http://h", "redis:/h", "redis://h:99999", "redis://h:x", "redis://h/x",
        "redis://h/1/2", "redis://h/-1", "redis://h?colour=red", "redis://a,b", "unix://", "redis+sentinel://a,b",
        "redis+sentinel://a/m/1/2", "redis://[::1", "redis://u:se[cret@h", "redis://h/\u0663",
    ],
)  # fmt: skip
def test_a_broken_address_is_refused_in_a_sentence_without_the_password(url: str) -> None:
    with pytest.raises(InvalidRedisURL) as refusal:
        RedisAddress.parse(url)
    assert "cret" not in str(refusal.value)


@pytest.mark.parametrize(
    "url",
    [
        "redis://:p@ss:/%w@host", "redis://:cr/et@host", "redis://:1/cret@host", "redis://:cr?cret@host", "redis://:1#cret@host",
        "redis://:cr?a&cret@host", "redis://:12?db=cret@host", "redis+sentinel://:1/cret@host", "unix://:cr/cret@/run/r.sock",
        "redis://:[cret]@host", "rediss://:1?ssl_ca_certs=cret@host",
    ],
)  # fmt: skip
def test_a_password_that_is_not_percent_encoded_is_refused_and_no_part_of_it_shown(url: str) -> None:
    with pytest.raises(InvalidRedisURL) as refusal:
        RedisAddress.parse(url)
    assert not any(piece in str(refusal.value) for piece in ("cret", "w@", "ss:"))
    shown = "".join(traceback.format_exception(refusal.value)).rpartition("InvalidRedisURL")[2]
    assert "cret" not in shown


def test_the_error_of_an_address_with_a_password_says_how_to_encode_one() -> None:
    with pytest.raises(InvalidRedisURL, match=r"Redis database number .* percent-encoded"):
        RedisAddress.parse("redis://:hunter2@host/x")


def test_a_socket_path_can_contain_an_at_sign() -> None:
    assert RedisAddress.parse("unix:///run/a@b.sock").unix_path == "/run/a@b.sock"


def test_a_value_that_is_no_string_is_refused_in_a_sentence() -> None:
    nothing: Any = None
    for call in (connect, RedisAddress.parse, Producer.from_url, SyncProducer.from_url):
        with pytest.raises(InvalidRedisURL, match="not a NoneType"):
            call(nothing)


@pytest.mark.parametrize("option", ["ssl_ca_certs", "ssl_certfile", "ssl_keyfile"])
def test_a_missing_certificate_file_is_refused_at_once(option: str) -> None:
    with pytest.raises(InvalidRedisURL, match=f"the file that {option} names cannot be read: No such file"):
        RedisAddress.parse(f"rediss://h?{option}=/nowhere/at/all.pem")


def test_no_password_shows_in_a_repr() -> None:
    address = RedisAddress.parse("redis://user:hunter2@h")
    assert "hunter2" not in f"{address} {address!r}"


def test_tls_verifies_the_host_name_and_every_socket_has_timeouts() -> None:
    client: Redis = connect("rediss://h")
    pool = client.connection_pool
    assert issubclass(pool.connection_class, SSLConnection)
    connection = pool.make_connection()  # type: ignore[no-untyped-call]  # redis-py 5 leaves it untyped
    assert connection.ssl_context.check_hostname
    assert connection.ssl_context.cert_reqs == ssl.CERT_REQUIRED
    assert connection.socket_timeout
    assert connection.socket_connect_timeout


def test_a_sentinel_address_asks_the_sentinels_for_the_master() -> None:
    client: Redis = connect("redis+sentinel://a,b/mymaster/2")
    pool = client.connection_pool
    assert isinstance(pool, SentinelConnectionPool)
    assert pool.service_name == "mymaster"
    assert pool.connection_kwargs["db"] == 2


@pytest.mark.asyncio
async def test_a_closed_client_leaves_no_connection_to_a_sentinel() -> None:
    cluster = SentinelCluster()
    try:
        await cluster.wait_replicating()
        sentinel = Redis(host="127.0.0.1", port=cluster.port)
        async with sentinel, connect(cluster.url) as client:
            assert await client.ping()
            assert len(await sentinel.client_list(_type="normal")) == 2
            await client.aclose()
            async with asyncio.timeout(5):
                while len(await sentinel.client_list(_type="normal")) > 1:
                    await asyncio.sleep(0.01)
    finally:
        cluster.remove()


def test_a_connection_closed_by_uvloop_raises_a_connection_error(redis_server: RedisServer) -> None:
    """uvloop raises a RuntimeError, which callers do not handle as an error of Redis: a worker died of it."""

    async def write_to_a_closed_one() -> None:
        async with connect(redis_server.url) as client:
            connection = await client.connection_pool.get_connection()
            await connection.send_command("PING")
            assert await connection.read_response() == b"PONG"
            connection._writer.transport.abort()
            await asyncio.sleep(0)
            with pytest.raises(RedisConnectionError):
                await connection.send_command("PING")
            await client.connection_pool.release(connection)

    uvloop.run(write_to_a_closed_one())


@pytest.mark.asyncio
async def test_a_connection_closed_by_another_task_raises_a_connection_error(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """redis-py then reads an attribute of None, and a producer died of it."""
    async with connect(redis_server.url) as client:
        connection = await client.connection_pool.get_connection()

        async def close_meanwhile() -> None:
            await connection.disconnect(nowait=True)

        monkeypatch.setattr(connection, "check_health", close_meanwhile)
        with pytest.raises(RedisConnectionError):
            await connection.send_command("PING")
        await client.connection_pool.release(connection)


@pytest.mark.asyncio
async def test_a_connection_sends_no_more_than_the_rights_of_a_producer_allow(redis_server: RedisServer) -> None:
    """No CLIENT SETINFO and no HELLO, on any version of redis-py."""
    async with connect(redis_server.url) as client, connect(redis_server.url) as other:
        await client.config_resetstat()
        await other.ping()
        stats: dict[str, Any] = await client.info("commandstats")
        assert not {"cmdstat_hello", "cmdstat_client|setinfo"} & stats.keys()


@pytest.mark.parametrize(
    "url",
    [
        "redis://h",
        "redis://user@h:1/3",
        "rediss://h?db=2",
        "unix:///run/r.sock?db=2",
        "redis+sentinel://a,[::1]:1/main?sentinel_password=s",
    ],
)
@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
def test_the_password_of_a_file_becomes_that_of_the_address(url: str, end: str, tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_bytes(f" p@s/s:%?#ü{end}".encode())
    environ = {"FETCHQ_REDIS_URL": url, "FETCHQ_REDIS_PASSWORD_FILE": str(file)}
    address = RedisAddress.parse(UrlInEnvironment.of(environ).read())
    assert address.password == " p@s/s:%?#ü"
    assert address == msgspec.structs.replace(RedisAddress.parse(url), password=address.password)


def test_the_address_itself_can_be_in_a_file(tmp_path: Path) -> None:
    file = tmp_path / "url"
    file.write_text("redis://:pw@h/1\n", encoding="utf-8")
    found = UrlInEnvironment.of({"FETCHQ_REDIS_URL_FILE": str(file), "FETCHQ_REDIS_URL": " "})
    assert (found.origin, found.read()) == ("FETCHQ_REDIS_URL_FILE", "redis://:pw@h/1")


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (None, "cannot be read: No such file or directory"),
        (b"", "does not contain exactly one line of text"),
        (b"\n", "does not contain exactly one line of text"),
        (b"s3cret\nmore\n", "does not contain exactly one line of text"),
        (b"s3cret\0", "does not contain exactly one line of text"),
        (b"s" * 70_000, "does not contain exactly one line of text"),
        (b"s3cret\xff", "is not UTF-8"),
    ],
)
def test_a_file_that_cannot_be_used_is_one_sentence_without_its_content(
    content: bytes | None, sentence: str, tmp_path: Path
) -> None:
    file = tmp_path / "password"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(InvalidRedisURL) as problem:
        UrlInEnvironment.of({"FETCHQ_REDIS_PASSWORD_FILE": str(file)}).read()
    assert str(problem.value) == f"FETCHQ_REDIS_PASSWORD_FILE: {file} {sentence}"


def test_two_addresses_or_two_passwords_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text("redis://h", encoding="utf-8")
    with pytest.raises(InvalidRedisURL, match=r"^FETCHQ_REDIS_URL is set too; give one of them$"):
        UrlInEnvironment("redis://a", str(file)).read()
    with pytest.raises(InvalidRedisURL, match=r"has a password, and FETCHQ_REDIS_PASSWORD_FILE is set; give one$"):
        UrlInEnvironment("redis://:pw@a", "", str(file)).read()
