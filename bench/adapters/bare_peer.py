"""The upper limit: an aiohttp loop without a queue, which shows what client, site and machine allow."""

import asyncio
import json
import sys
import time
from importlib.metadata import version

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


def main() -> None:
    """`loop URL CONCURRENCY DURATION_S BODY_BYTES` or `single URL COUNT`; prints one JSON object."""
    match sys.argv[1:]:
        case ["loop", url, concurrency, duration_s, body_bytes]:
            answer: object = uvloop.run(_fetch_for(url, int(concurrency), float(duration_s), int(body_bytes)))
        case ["single", url, count]:
            answer = uvloop.run(_fetch_one_by_one(url, int(count)))
        case ["versions"]:
            answer = {"aiohttp": version("aiohttp"), "uvloop": version("uvloop")}
        case _:
            sys.exit("say loop, single or versions")
    print(json.dumps(answer))


if __name__ == "__main__":
    main()
