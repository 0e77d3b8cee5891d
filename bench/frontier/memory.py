"""Redis memory of a job that waits for its host, compared with one in arq's own queue."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from arq import create_pool
from arq.connections import RedisSettings

from bench.testbed.redis_server import RedisServer
from bench.testbed.site import Site
from fetchq import Producer
from fetchq.store.scores import PARKED

from .figures import Figure, Sizes

URL: Final = "http://example.com/"


async def measure(server: RedisServer, _site: Site, _folder: Path, sizes: Sizes) -> list[Figure]:
    await server.empty()
    before = await server.memory_bytes()
    pool = await create_pool(RedisSettings(port=server.port))
    for _ in range(sizes.memory_jobs):
        await pool.enqueue_job("fetch", URL)
    arq_bytes = (await server.memory_bytes() - before) / sizes.memory_jobs
    await pool.aclose(close_connection_pool=True)
    await server.empty()
    before = await server.memory_bytes()
    async with Producer.from_url(f"redis://127.0.0.1:{server.port}") as producer:
        await server.ask("HSET", producer.keys.limits, "example.com", "p=1")
        await producer.enqueue_many([URL] * sizes.memory_jobs)
        waiting = int(await server.ask("ZCOUNT", producer.keys.pending, PARKED, "+inf"))
        own_bytes = (await server.memory_bytes() - before) / waiting
    await server.empty()
    return [
        Figure(
            "Redis memory of a job that waits for its host, the URL short",
            f"{own_bytes:,.0f} bytes; a job in arq's own queue {arq_bytes:,.0f}",
            "no more than that",
            own_bytes <= arq_bytes,
        )
    ]
