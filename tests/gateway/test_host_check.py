"""Which Host headers are answered on loopback."""

from __future__ import annotations

import pytest
from tests.gateway.conftest import Gateways
from tests.support.redis_server import RedisServer

from fetchq_gateway.host_check import HostCheck


async def _app(*_: object) -> None:
    raise AssertionError("not called")


@pytest.mark.parametrize(
    "header",
    [
        "",
        "localhost",
        "localhost:8080",
        "LOCALHOST.",
        "127.0.0.1",
        "127.0.0.1:9",
        "127.1.2.3:80",
        "[::1]",
        "[::1]:8080",
        "fetchq.example",
        "FETCHQ.example:443",
    ],
)
def test_names_of_this_machine_and_allowed_ones_are_accepted(header: str) -> None:
    assert HostCheck(_app, ["Fetchq.Example"]).accepts(header)


@pytest.mark.parametrize(
    "header",
    [
        "evil.example",
        "evil.example:8080",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "10.0.0.1",
        "[::2]:80",
        "[::1",
        "[::1]evil.example",
        "[::1]:80.evil.example",
        "::1",
        "localhost:80:80",
        "evil.example, localhost",
        "localhost evil.example",
        "0.0.0.0",
        "[::ffff:10.0.0.1]",
    ],
)
def test_other_names_are_refused(header: str) -> None:
    assert not HostCheck(_app).accepts(header)


def test_a_page_that_rebinds_its_name_to_loopback_reads_nothing(gateways: Gateways, redis_server: RedisServer) -> None:
    gateway = gateways.start("--allow-host", "fetchq.example", redis_url=redis_server.url)
    for path in ("/", "/metrics", "/metrics/queue", "/livez"):
        refused = gateway.get(path, Host="evil.example:8080")
        assert refused.status == 421
        assert refused.text == "this host is not served here; --allow-host (FETCHQ_ALLOW_HOST) adds one\n"
        assert gateway.get(path, Host="fetchq.example").status == 200
    two = b"GET /livez HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\nConnection: close\r\n\r\n"
    assert gateway.send(two).startswith(b"HTTP/1.1 400 ")
    assert gateway.send(b"GET /livez HTTP/1.0\r\n\r\n").startswith(b"HTTP/1.1 200 ")
