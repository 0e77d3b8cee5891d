"""Proxies by name: real ones on loopback, and the guard, which checks their targets."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import trustme
from tests.support.web.forward_proxy import ForwardProxy
from tests.support.web.site import Site, http_response

from fetchq import FetchRequest, FetchResult, FetchStatus, RetryPolicy
from fetchq_worker.fetch import Fetcher, fetch
from fetchq_worker.fetch.access.credentials import Credentials, Proxy, Secret, basic

pytestmark = pytest.mark.asyncio

ONCE = RetryPolicy(max_tries=1)
LOOPBACK = ("127.0.0.0/8", "::1/128")


@pytest_asyncio.fixture
async def proxy() -> AsyncIterator[ForwardProxy]:
    proxy = ForwardProxy(login=basic("me", "secret"))
    await proxy.start()
    yield proxy
    await proxy.stop()


def _fetcher(
    url: str, *, allow_net: tuple[str, ...] = LOOPBACK, password: str = "secret", ca_file: str | None = None
) -> Fetcher:
    out = Proxy(url=url, username="me", password=Secret(password))
    held = Credentials(proxies={"out": out})
    return Fetcher(user_agent="fetchq-tests/1", allow_net=allow_net, credentials=held, tls_ca_file=ca_file)


async def _fetch(fetcher: Fetcher, url: str, **options: Any) -> FetchResult:
    return await fetch({"fetcher": fetcher}, FetchRequest.of(url, retry=ONCE, proxy="out", **options))


async def test_only_a_fetch_that_names_a_proxy_uses_it(site: Site, proxy: ForwardProxy) -> None:
    url = site.serve("/in?x=1", http_response(b"hello"))
    site.serve("/in", http_response(b"hello"))
    async with _fetcher(proxy.url) as fetcher:
        results = [await _fetch(fetcher, url, robots=True) for _ in range(2)]
        await fetch({"fetcher": fetcher}, FetchRequest(url=url))

    assert [result.body for result in results] == [b"hello"] * 2
    assert proxy.requests == [("GET", site.url("/robots.txt")), ("GET", url), ("GET", url)]
    assert set(proxy.logins) == {proxy.login}
    assert [visit.header("Proxy-Authorization") for visit in site.visits] == [None] * 4


async def test_redirects_go_through_the_proxy(site: Site, proxy: ForwardProxy) -> None:
    url = site.serve("/", http_response(status=302, headers={"Location": "/there"}))
    site.serve("/there", http_response(b"there"))
    async with _fetcher(proxy.url) as fetcher:
        assert (await _fetch(fetcher, url)).body == b"there"
    assert [target for _, target in proxy.requests] == [url, site.url("/there")]


@pytest.mark.parametrize("proxy_tls", [False, True], ids=["http proxy", "https proxy"])
async def test_https_goes_through_a_tunnel(tmp_path: Path, proxy_tls: bool) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost").configure_cert(context)
    secure, proxy = Site(tls=context, host="localhost"), ForwardProxy(login=basic("me", "secret"))
    if proxy_tls:
        proxy.tls = context
    await secure.start()
    await proxy.start()
    url = secure.serve("/", http_response(b"hello"))
    async with _fetcher(proxy.url, ca_file=str(tmp_path / "ca.pem")) as fetcher:
        results = [await _fetch(fetcher, url) for _ in range(2)]
    await proxy.stop()
    await secure.stop()

    assert [(result.status, result.body, result.error) for result in results] == [(FetchStatus.OK, b"hello", None)] * 2
    assert set(proxy.requests) == {("CONNECT", f"localhost:{secure.port}")}


async def test_a_forbidden_target_is_not_requested_from_the_proxy(proxy: ForwardProxy) -> None:
    async with _fetcher(proxy.url, allow_net=()) as fetcher:  # the guard does not check the address of the proxy itself
        for url in (
            "http://127.0.0.1:8080/",
            "http://localhost:8080/",
            "http://169.254.169.254/",
            "http://[::1]:8080/",
        ):
            assert (await _fetch(fetcher, url)).status is FetchStatus.BLOCKED
    assert proxy.requests == []


async def test_a_redirect_to_a_forbidden_target_is_not_requested_from_the_proxy(
    site: Site, proxy: ForwardProxy
) -> None:
    url = site.serve("/", http_response(status=302, headers={"Location": "http://10.0.0.1/"}))
    async with _fetcher(proxy.url) as fetcher:
        assert (await _fetch(fetcher, url)).status is FetchStatus.BLOCKED
    assert proxy.requests == [("GET", url)]


async def test_a_name_that_only_the_proxy_can_resolve_is_fetched(site: Site, proxy: ForwardProxy) -> None:
    site.serve("/", http_response(b"hello"))
    async with _fetcher(proxy.url) as fetcher:
        result = await _fetch(fetcher, site.url("/", host="only-outside.invalid"), connect_timeout_s=1.0)
    assert result.body == b"hello"
    assert site.visits[0].header("Host") == f"only-outside.invalid:{site.port}"


async def test_a_wrong_proxy_password_is_reported_without_the_password(site: Site, proxy: ForwardProxy) -> None:
    async with _fetcher(proxy.url, password="wrong-password") as fetcher:
        plain = await _fetch(fetcher, site.url("/"))
        tunnel = await _fetch(fetcher, "https://localhost:8443/")
    assert (plain.status, plain.http_status) == (FetchStatus.HTTP_ERROR, 407)
    assert tunnel.status is FetchStatus.CONNECT_ERROR
    assert tunnel.error == "the proxy responded 407 to CONNECT"
    assert "wrong-password" not in repr((plain, tunnel, fetcher.credentials, fetcher.credentials.proxies))


async def test_an_unknown_or_unreachable_proxy_is_reported(site: Site, fetcher: Fetcher) -> None:
    unknown = await _fetch(fetcher, site.url("/"))
    assert (unknown.status, unknown.error) == (FetchStatus.INVALID_JOB, "this worker has no proxy named 'out'")
    async with _fetcher("http://127.0.0.1:9") as away:
        assert (await _fetch(away, site.url("/"))).status is FetchStatus.CONNECT_ERROR
    assert site.visits == []
