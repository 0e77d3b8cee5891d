"""`python -m harness.suites.http_cache CHECKOUT [ID]`: the tests of http-tests/cache-tests, with Node.

The suite's own server is the origin, and its own client asks a caching reverse proxy: a small server that turns each
request into a fetch, GET and HEAD with `cache=True`. Prints the counts by kind and each test that failed. Exits with
status 1 if a required one did. With the id of a test, prints that test's requests and responses.

The suite's client needs `npm install undici` in the checkout for its tests of interim responses, which do not count.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
from collections import Counter
from pathlib import Path
from typing import Any, Final

from tests.support.ports import free_port

from fetchq import FetchRequest, FetchResult, RetryPolicy
from fetchq.store.keys import Keys
from fetchq_worker.fetch import Fetcher, fetch
from fetchq_worker.fetch.cache.shared_cache import SharedCache
from fetchq_worker.process.embedded import EmbeddedRedis

_CACHED: Final = frozenset({"GET", "HEAD"})
_NOT_FORWARDED: Final = frozenset({"host", "connection", "content-length", "transfer-encoding"})
_BODILESS: Final = frozenset({204, 205, 304})
_NOT_COUNTED: Final = {
    "cdn-cache-control": "a fetch queue is no CDN, to which alone this field is addressed (RFC 9213)",
    "interim": "a result has no interim responses",
}
"""Suites by id, with the reason."""
_VERDICTS: Final = """
import tests from './tests/index.mjs'
import { determineTestResult, resultTypes } from './test-engine/lib/results.mjs'
import fs from 'fs'
const results = JSON.parse(fs.readFileSync(0))
const names = new Map(Object.entries(resultTypes).map(([name, type]) => [type, name]))
const rows = tests.flatMap(suite => suite.tests.map(test => ({ ...test, suite: suite.id })))
console.log(JSON.stringify(rows.filter(test => test.browser_only !== true).map(test => ({
  id: test.id, suite: test.suite, kind: test.kind ?? 'required', detail: results[test.id],
  verdict: names.get(determineTestResult(tests, test.id, results))
}))))
"""
"""Prints the suite's own verdict on each test, by the results on its standard input."""


class Proxy:
    """A reverse proxy in front of `origin`: what is below /test is fetched through the cache, all else without it."""

    def __init__(self, fetcher: Fetcher, origin: str) -> None:
        self._fetcher = fetcher
        self._origin = origin

    async def converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                first, *lines = head.decode("latin-1")[:-4].split("\r\n")
                method, target, _ = first.split(" ")
                pairs = [(name, value.strip()) for name, _, value in (line.partition(":") for line in lines)]
                length = next((int(value) for name, value in pairs if name.lower() == "content-length"), 0)
                body = await reader.readexactly(length)
                writer.write(_answer(method, await self._fetch(method, target, pairs, body)))
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the client closed the connection
        finally:
            writer.close()

    async def _fetch(self, method: str, target: str, pairs: list[tuple[str, str]], body: bytes) -> FetchResult:
        request = FetchRequest(
            url=self._origin + target,
            method=method,
            headers=tuple(pair for pair in pairs if pair[0].lower() not in _NOT_FORWARDED),
            body=body or None,
            max_redirects=0,
            retry=RetryPolicy(max_tries=1),
            cache=method in _CACHED and target.startswith("/test/"),
        )
        return await fetch({"fetcher": self._fetcher}, request)


def _answer(method: str, result: FetchResult) -> bytes:
    status, headers, body = result.http_status, result.headers, result.body or b""
    if status is None:
        status, headers, body = 502, (("Fetchq-Error", f"{result.status}: {result.error}"),), b""
    lines = [f"HTTP/1.1 {status} Whatever"]
    lines += [f"{name}: {value}" for name, value in headers if name.lower() not in _NOT_FORWARDED]
    if status in _BODILESS or method == "HEAD":
        body = b""
    else:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


async def _node(checkout: Path, *arguments: str, stdin: bytes = b"", **settings: str) -> bytes:
    environment = {**os.environ, **{f"npm_package_config_{name}": value for name, value in settings.items()}}
    process = await asyncio.create_subprocess_exec(
        "node",
        "--no-warnings",
        *arguments,
        cwd=checkout,
        env=environment,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        out, _ = await process.communicate(stdin)
    except asyncio.CancelledError:
        process.terminate()
        await process.wait()
        raise
    return out


async def _wait_until_open(port: int) -> None:
    while True:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except ConnectionError:
            await asyncio.sleep(0.05)
        else:
            writer.close()
            return


async def run(checkout: Path, test_id: str) -> bytes:
    """The suite's results as JSON; with an id, what it prints about that test."""
    port = free_port()
    origin = asyncio.create_task(
        _node(checkout, "test-engine/server/server.mjs", protocol="http", port=str(port), pidfile=str(Path(os.devnull)))
    )
    await _wait_until_open(port)
    redis = EmbeddedRedis().client()
    cache = SharedCache(redis, Keys())
    async with Fetcher(
        user_agent="fetchq-suite/1", allow_net=("127.0.0.0/8", "::1/128"), shared_cache=cache
    ) as fetcher:
        proxy = await asyncio.start_server(Proxy(fetcher, f"http://127.0.0.1:{port}").converse, "127.0.0.1", 0)
        base = f"http://127.0.0.1:{proxy.sockets[0].getsockname()[1]}"
        try:
            return await _node(checkout, "test-engine/cli.mjs", base=base, id=test_id)
        finally:
            proxy.close()
            origin.cancel()
            await asyncio.gather(origin, return_exceptions=True)
            await redis.aclose()


async def verdicts(checkout: Path, results: bytes) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads(
        await _node(checkout, "--input-type=module", "--eval", _VERDICTS, stdin=results)
    )
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkout", type=Path)
    parser.add_argument("id", nargs="?", default="")
    arguments = parser.parse_args()
    checkout, test_id = arguments.checkout, arguments.id
    results = asyncio.run(run(checkout, test_id))
    if test_id:
        print(results.decode())
        return 0
    rows = asyncio.run(verdicts(checkout, results))
    for suite, reason in _NOT_COUNTED.items():
        print(f"not counted: {suite}: {reason}")
    rows = [row for row in rows if row["suite"] not in _NOT_COUNTED]
    good = ("pass", "yes")
    for row in rows:
        if row["verdict"] not in good:
            print(f"{row['kind']:9} {row['verdict']:15} {row['id']}: {row['detail']}")
    for kind in ("required", "optimal", "check"):
        counts = Counter(row["verdict"] for row in rows if row["kind"] == kind)
        print(f"{kind:9}", *(f"{count} {verdict}" for verdict, count in counts.most_common()), sep="  ")
    return int(not rows or any(row["kind"] == "required" and row["verdict"] == "fail" for row in rows))


if __name__ == "__main__":
    sys.exit(main())
