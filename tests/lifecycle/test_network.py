"""A network that drops idle connections without an error, as routers do: a sender gets no reply for a long time."""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import hiredis
import pytest
from arq import func
from arq.connections import ArqRedis
from harness.servers.durable_redis import DurableRedis
from harness.servers.proxy import Proxy
from tests.support.running import running, wait_until

from fetchq.command.exit_status import ExitStatus
from fetchq.store.connection import connect
from fetchq_worker.engine import Worker


@pytest.mark.asyncio
async def test_leases_outlive_connections_that_the_network_has_forgotten() -> None:
    """If calls waited as long as the lease, another worker would claim the job, and it would run twice."""
    runs: Counter[str] = Counter()
    started, release = asyncio.Event(), asyncio.Event()

    async def work(ctx: Any) -> str:
        runs[ctx["job_id"]] += 1
        started.set()
        await release.wait()
        return "done"

    def worker_on(redis: ArqRedis) -> Worker:
        functions = [func(work, name="work")]
        return Worker(functions, redis_pool=redis, handle_signals=False, lease_s=4, poll_delay=0.1, max_jobs=2)

    server = DurableRedis()
    try:
        async with Proxy(server.port) as proxy:
            behind = worker_on(connect(proxy.url, redis_class=ArqRedis))
            async with connect(server.url, redis_class=ArqRedis) as admin:
                job = await admin.enqueue_job("work")
                assert job is not None
                async with running(behind):
                    await started.wait()
                    async with running(worker_on(connect(server.url, redis_class=ArqRedis))):
                        proxy.hold_established()
                        await asyncio.sleep(6)
                        assert runs.total() == 1
                        release.set()
                        await wait_until(lambda: _is_done(job), timeout_s=20)
    finally:
        server.remove()
    assert runs.total() == 1


async def _is_done(job: Any) -> bool:
    return await job.result_info() is not None


@pytest.mark.asyncio
async def test_a_worker_whose_redis_fails_during_its_start_reports_it_and_exits_as_without_redis() -> None:
    async def answer_pings_alone(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        commands = hiredis.Reader()
        while data := await reader.read(4096):
            commands.feed(data)
            while (command := commands.gets()) is not False:
                if command[0] == b"INFO":
                    writer.close()
                    return
                writer.write(b"+PONG\r\n" if command[0] == b"PING" else b"+OK\r\n")
        writer.close()

    async with await asyncio.start_server(answer_pings_alone, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        worker = await asyncio.create_subprocess_exec(
            str(Path(sys.executable).with_name("fetchq")), "worker", "--redis", f"redis://127.0.0.1:{port}",
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        async with asyncio.timeout(30):
            _, said = await worker.communicate()
    assert worker.returncode == ExitStatus.NO_REDIS
    assert b"Traceback" not in said
    assert b"cannot be reached" in said
