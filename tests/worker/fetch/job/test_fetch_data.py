"""A small example to start from: one request, one result."""

from __future__ import annotations

import pytest
from tests.support.web.site import Site

from fetchq import FetchRequest
from fetchq_worker import fetch_data
from fetchq_worker.fetch import Fetcher


@pytest.mark.asyncio
async def test_a_json_response_is_decoded(site: Site, fetcher: Fetcher) -> None:
    url = site.serve_json("/answer", [42])

    result = await fetch_data({"fetcher": fetcher}, FetchRequest(url=url))

    assert result.status == "OK"
    assert result.data == [42]


@pytest.mark.asyncio
async def test_without_a_client_in_ctx_one_is_made_for_the_call(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FETCHQ_ALLOW_NET", "127.0.0.0/8")
    monkeypatch.setenv("FETCHQ_USER_AGENT", "my-service/2 (+mailto:me@example.org)")

    result = await fetch_data({}, FetchRequest(url=site.serve_json("/answer", [42])))

    assert result.data == [42]
    assert site.visits[0].header("User-Agent") == "my-service/2 (+mailto:me@example.org)"
