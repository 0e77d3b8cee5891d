"""Addresses of Redis: what is understood, what is refused, and that no password shows."""

from __future__ import annotations

import ssl

import pytest
from redis.asyncio import Redis, SSLConnection
from redis.asyncio.sentinel import SentinelConnectionPool

from fetchq import InvalidRedisURL
from fetchq.redis_url import RedisAddress, connect


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
        ("rediss://h?ssl_ca_certs=/ca", RedisAddress(hosts=(("h", 6379),), tls=True, ssl_ca_certs="/ca")),
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
def test_an_address_is_understood(url: str, address: RedisAddress) -> None:
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


def test_no_password_shows_in_a_repr() -> None:
    address = RedisAddress.parse("redis://user:hunter2@h")
    assert "hunter2" not in f"{address} {address!r}"


def test_tls_verifies_the_host_name_and_every_socket_has_timeouts() -> None:
    client: Redis = connect("rediss://h")
    pool = client.connection_pool
    assert pool.connection_class is SSLConnection
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
