"""The upper limit: an aiohttp loop without a queue, which shows what client, site and machine allow."""

import asyncio
import json
import ssl
import sys
import time
from importlib.metadata import version
from pathlib import Path

import uvloop

from . import jobs


async def _fetch_for(url: str, concurrency: int, duration_s: float, body_bytes: int) -> dict[str, float]:
    """`concurrency` loops fetch until the time is over; the first quarter is not counted."""
    counted = 0
    warm = time.monotonic() + duration_s * 0.25
    end = time.monotonic() + duration_s * 1.25

    async def loop() -> None:
        nonlocal counted
        while (now := time.monotonic()) < end:
            answer = await jobs.fetch(session, url)
            if answer["status"] != 200 or len(answer["body"]) != body_bytes:
                raise ValueError(f"not the page that was asked for: {str(answer)[:200]}")
            counted += now >= warm

    async with jobs.new_session() as session:
        await asyncio.gather(*(loop() for _ in range(concurrency)))
    return {"count": counted, "elapsed_s": time.monotonic() - warm}


async def _fetch_one_by_one(url: str, count: int) -> dict[str, list[float]]:
    latencies_ms = []
    async with jobs.new_session() as session:
        for _ in range(count):
            await asyncio.sleep(0.005)
            started = time.perf_counter()
            await jobs.fetch(session, url)
            latencies_ms.append((time.perf_counter() - started) * 1e3)
    return {"latencies_ms": latencies_ms}


async def _crawl(urls: str, concurrency: int, authority: str, out: str) -> dict[str, int]:
    """Every URL of a file to a line of JSON, in their order."""
    context = ssl.create_default_context(cafile=authority)
    todo = iter(Path(urls).read_text().split())
    written = 0

    async def loop() -> None:
        nonlocal written
        for url in todo:
            answer = await jobs.fetch(session, url)
            results.write(json.dumps({"url": url, "http_status": answer["status"], "text": answer["body"]}) + "\n")
            written += 1

    async with jobs.new_session(context) as session:
        with Path(out).open("w") as results:
            await asyncio.gather(*(loop() for _ in range(concurrency)))
    return {"written": written}


def main() -> None:
    """Runs one command with its arguments; prints one JSON object."""
    match sys.argv[1:]:
        case ["loop", url, concurrency, duration_s, body_bytes]:
            answer: object = uvloop.run(_fetch_for(url, int(concurrency), float(duration_s), int(body_bytes)))
        case ["single", url, count]:
            answer = uvloop.run(_fetch_one_by_one(url, int(count)))
        case ["crawl", urls, concurrency, authority, out]:
            answer = uvloop.run(_crawl(urls, int(concurrency), authority, out))
        case ["versions"]:
            answer = {"aiohttp": version("aiohttp"), "uvloop": version("uvloop")}
        case _:
            sys.exit("say loop, single, crawl or versions")
    print(json.dumps(answer))


if __name__ == "__main__":
    main()
