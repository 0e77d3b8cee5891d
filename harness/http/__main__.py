"""`make conformance-http`: expected outcomes of fetches from httpbin, broken servers and bad TLS.

Prints each row with pass or fail. Exits with status 1 if one fails.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

import trustme
import uvloop
from tests.support.web.bad_tls import BAD_TLS, HOST, OLD_VERSIONS, good, old_server, trust
from tests.support.web.broken_responses import TABLES
from tests.support.web.site import Site, http_response

from fetchq import FetchRequest, RetryPolicy
from fetchq_worker.fetch import Fetcher, fetch

from . import httpbin

_LOOPBACK = ("127.0.0.0/8", "::1/128")
_ONCE = RetryPolicy(max_tries=1)

Row = tuple[str, bool, str]
"""What was fetched, whether the outcome is the expected one, and the outcome."""


async def _httpbin() -> AsyncIterator[Row]:
    with httpbin.serving() as origin:
        async with Fetcher(user_agent="fetchq-conformance/1", allow_net=_LOOPBACK) as fetcher:
            for path, options, check in httpbin.ROWS:
                result = await fetch({"fetcher": fetcher}, httpbin.request_of(origin, path, options))
                try:
                    passed = bool(check(result))
                except (AttributeError, KeyError, TypeError):  # the response has another structure than the row expects
                    passed = False
                name = f"{options.get('method', 'GET')} {path}"
                yield name, passed, f"{result.status} {result.http_status or ''}"


async def _broken_answers() -> AsyncIterator[Row]:
    for table, cases in TABLES.items():
        for case in cases:
            site = Site()
            await site.start()
            async with Fetcher(user_agent="fetchq-conformance/1", allow_net=_LOOPBACK) as fetcher:
                url = site.serve("/", case.handler())
                request = FetchRequest(url=url, method=case.method, read_timeout_s=0.3, timeout_s=5, retry=_ONCE)
                result = await fetch({"fetcher": fetcher}, request)
                await fetch({"fetcher": fetcher}, FetchRequest(url=site.serve("/good", http_response()), retry=_ONCE))
            reused = site.connections == 1
            await site.stop()
            passed = (result.status, result.body, reused) == (case.status, case.body, case.reusable)
            yield f"{table}: {case.name}", passed, f"{result.status}, connection {'kept' if reused else 'closed'}"


async def _bad_tls() -> AsyncIterator[Row]:
    authority = trustme.CA()
    async with Fetcher(user_agent="fetchq-conformance/1", allow_net=_LOOPBACK, tls=trust(authority)) as fetcher:
        for name, make in {"good": good, **BAD_TLS}.items():
            site = Site(tls=make(authority), host=HOST)
            await site.start()
            result = await fetch({"fetcher": fetcher}, FetchRequest(url=site.serve("/", http_response()), retry=_ONCE))
            await site.stop()
            yield name, result.status == ("OK" if make is good else "TLS_ERROR"), result.error or str(result.status)
        for name, version in OLD_VERSIONS.items():
            with old_server(authority, version) as port:
                request = FetchRequest(url=f"https://127.0.0.1:{port}/", retry=_ONCE)
                result = await fetch({"fetcher": fetcher}, request)
            yield name, result.status == "TLS_ERROR", result.error or str(result.status)


async def _run() -> int:
    failed = 0
    summary = []
    for title, rows in (("httpbin", _httpbin()), ("broken servers", _broken_answers()), ("bad TLS", _bad_tls())):
        print(f"\n{title}")
        results = []
        async for name, passed, came in rows:
            results.append(passed)
            print(f"  {'pass' if passed else 'FAIL'}  {name:62} {came}", flush=True)
        failed += results.count(False)
        summary.append(f"{title}: {results.count(True)} of {len(results)} pass")
    print("\n" + "\n".join(summary))
    return 1 if failed else 0


def main() -> int:
    httpbin.install()
    return uvloop.run(_run())


if __name__ == "__main__":
    raise SystemExit(main())
