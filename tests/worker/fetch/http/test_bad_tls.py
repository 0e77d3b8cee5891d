"""Every untrusted certificate is a TLS_ERROR, before a byte of the request is sent."""

from __future__ import annotations

import ssl

import pytest
import trustme
from tests.support.web.bad_tls import BAD_TLS, HOST, OLD_VERSIONS, ServerContext, good, old_server, trust
from tests.support.web.site import Site, http_response

from fetchq import FetchRequest, FetchStatus, RetryPolicy
from fetchq_worker.fetch import Fetcher, fetch


@pytest.mark.asyncio
@pytest.mark.parametrize("make", [good, *BAD_TLS.values()], ids=["good", *BAD_TLS])
async def test_an_untrusted_server_receives_nothing(make: ServerContext) -> None:
    authority = trustme.CA()
    site = Site(tls=make(authority), host=HOST)
    await site.start()
    url = site.serve("/", http_response(b"secret"))

    async with Fetcher(user_agent="x", allow_net=("127.0.0.0/8", "::1/128"), tls=trust(authority)) as fetcher:
        result = await fetch({"fetcher": fetcher}, FetchRequest(url=url, retry=RetryPolicy(max_tries=1)))
    await site.stop()

    assert result.status is (FetchStatus.OK if make is good else FetchStatus.TLS_ERROR), result.error
    assert len(site.visits) == (1 if make is good else 0)


@pytest.mark.asyncio
@pytest.mark.parametrize("version", OLD_VERSIONS.values(), ids=OLD_VERSIONS)
async def test_a_server_that_speaks_only_an_old_protocol_is_a_tls_error(version: ssl.TLSVersion) -> None:
    authority = trustme.CA()

    with old_server(authority, version) as port, authority.cert_pem.tempfile() as trusted:
        async with Fetcher(user_agent="x", allow_net=("127.0.0.0/8",), tls_ca_file=trusted) as fetcher:
            request = FetchRequest(url=f"https://127.0.0.1:{port}/", retry=RetryPolicy(max_tries=1))
            result = await fetch({"fetcher": fetcher}, request)

    assert (result.status, result.error) == (
        FetchStatus.TLS_ERROR,
        "the TLS handshake failed: tlsv1 alert protocol version",
    )
