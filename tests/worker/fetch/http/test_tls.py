"""TLS: servers are verified, and the result says why a handshake failed."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
import trustme
from tests.support.web.site import Site, Visit, http_response

from fetchq import FetchRequest, FetchStatus, RetryPolicy
from fetchq_worker.fetch import Fetcher, fetch

pytestmark = pytest.mark.asyncio

ONCE = RetryPolicy(max_tries=1)


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest_asyncio.fixture
async def trusting(authority: trustme.CA) -> AsyncIterator[Fetcher]:
    """A client that trusts the test's own authority."""
    context = ssl.create_default_context()
    authority.configure_trust(context)
    async with Fetcher(user_agent="x", allow_net=("127.0.0.0/8", "::1/128"), tls=context) as fetcher:
        yield fetcher


@pytest_asyncio.fixture
async def secure(authority: trustme.CA) -> AsyncIterator[Site]:
    """A site with a certificate for `localhost`."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost").configure_cert(context)
    site = Site(tls=context, host="localhost")
    await site.start()
    yield site
    await site.stop()


async def test_a_server_with_a_good_certificate_is_fetched_and_the_handshake_is_timed(
    secure: Site, trusting: Fetcher
) -> None:
    url = secure.serve("/", http_response(b"secret"))

    result = await fetch({"fetcher": trusting}, FetchRequest(url=url))

    assert (result.status, result.body) == (FetchStatus.OK, b"secret")
    assert result.timing.tls_s is not None
    assert result.timing.connect_s is not None
    assert result.timing.tls_s > 0


async def test_an_unknown_authority_is_a_tls_error(secure: Site, fetcher: Fetcher) -> None:
    result = await fetch({"fetcher": fetcher}, FetchRequest(url=secure.serve("/", http_response()), retry=ONCE))

    assert result.status is FetchStatus.TLS_ERROR
    assert result.error is not None
    assert result.error.startswith("the certificate is not trusted: ")
    assert secure.visits == []


async def test_a_certificate_for_another_name_is_a_tls_error(secure: Site, trusting: Fetcher) -> None:
    secure.serve("/", http_response())

    result = await fetch({"fetcher": trusting}, FetchRequest(url=secure.url("/", host="127.0.0.1"), retry=ONCE))

    assert result.status is FetchStatus.TLS_ERROR
    assert "IP address mismatch" in (result.error or "")


async def test_a_server_without_tls_is_a_tls_error(trusting: Fetcher) -> None:
    def greet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mail.example.org ESMTP\r\n")
        writer.close()

    server = await asyncio.start_server(greet, "127.0.0.1", 0)
    async with server:
        url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        result = await fetch({"fetcher": trusting}, FetchRequest(url=url, retry=ONCE))

    assert result.status is FetchStatus.TLS_ERROR
    assert result.error == "the TLS handshake failed: wrong version number"


async def test_a_non_idempotent_request_that_failed_in_the_handshake_is_retryable(
    secure: Site, fetcher: Fetcher
) -> None:
    policy = RetryPolicy(max_tries=2, on=(FetchStatus.TLS_ERROR,))

    result = await fetch(
        {"fetcher": fetcher}, FetchRequest(url=secure.serve("/", http_response()), method="POST", retry=policy)
    )

    assert [attempt.status for attempt in result.attempts] == [FetchStatus.TLS_ERROR] * 2


@pytest.mark.parametrize("is_confirmed", [True, False], ids=["with close_notify", "without"])
async def test_a_body_until_the_end_of_the_connection_is_marked_if_tls_does_not_confirm_that_end(
    secure: Site, trusting: Fetcher, is_confirmed: bool
) -> None:
    async def end(visit: Visit) -> None:
        await visit.send(b"HTTP/1.1 200 OK\r\n\r\nabc")
        visit.writer.close() if is_confirmed else visit.writer.transport.abort()

    result = await fetch({"fetcher": trusting}, FetchRequest(url=secure.serve("/", end), retry=ONCE))

    assert (result.status, result.body) == (FetchStatus.OK, b"abc")
    assert result.maybe_cut is not is_confirmed


async def test_a_body_of_known_length_is_whole_however_the_connection_ends(secure: Site, trusting: Fetcher) -> None:
    async def end(visit: Visit) -> None:
        await visit.send(http_response(b"abc", headers={"Connection": "close"}))
        visit.writer.transport.abort()

    result = await fetch({"fetcher": trusting}, FetchRequest(url=secure.serve("/", end), retry=ONCE))

    assert (result.status, result.body, result.maybe_cut) == (FetchStatus.OK, b"abc", False)
