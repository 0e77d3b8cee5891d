"""What a drill runs on: Redis behind a proxy, workers, a gateway, a web site and Prometheus, all on loopback."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from asyncio.subprocess import Process
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Final

from aiohttp import web
from harness.servers.durable_redis import DurableRedis
from harness.servers.prometheus import Prometheus, shortened
from harness.servers.proxy import Proxy
from redis.asyncio import Redis
from tests.support.ports import free_port

from fetchq import FetchqError, FetchRequest, Producer, RetryPolicy
from fetchq.store.connection import connect

REPOSITORY: Final = Path(__file__).parents[2]
QUEUE: Final = "drill"
WORKERS: Final = 2
CONCURRENCY: Final = 20
LEASE_S: Final = 2
GRACE_S: Final = 1
RESTART_S: Final = 1.0
"""After this time a worker that ended is started again, as by systemd."""
LOAD_EACH_S: Final = 0.25
ONE_ATTEMPT: Final = RetryPolicy(max_tries=1)
HOSTS: Final = tuple(f"127.0.1.{number}" for number in range(1, 31))
"""All of them are loopback, and each is a host of its own."""


class Stage:
    """Holds the parts. Faults act on them."""

    def __init__(self, folder: Path, redis: DurableRedis, proxy: Proxy, site_port: int) -> None:
        self._folder = folder
        self.redis = redis
        self.proxy = proxy
        self.site_port = site_port
        self.closed_port = free_port()
        """At which every host refuses connections."""
        self.worker_addresses = [f"127.0.0.1:{free_port()}" for _ in range(WORKERS)]
        self.gateway_address = f"127.0.0.1:{free_port()}"
        self.workers: dict[int, Process] = {}
        self.kept: set[int] = set()
        """The workers that are started again when they end."""
        self.gateway: Process | None = None
        self.admin: Redis
        self.producer: Producer
        self.prometheus: Prometheus

    async def start_worker(self, number: int) -> None:
        self.workers[number] = await self._start(
            *("worker", "--redis", self.proxy.url, "--http", self.worker_addresses[number]),
            *("--concurrency", str(CONCURRENCY), "--lease", str(LEASE_S), "--grace", str(GRACE_S)),
            *("--allow-net", "127.0.0.0/8", "--settings", "harness.drill.coroutines:Settings"),
        )
        self.kept.add(number)

    async def start_gateway(self) -> None:
        self.gateway = await self._start("serve", "--redis", self.redis.url, "--listen", self.gateway_address)

    async def kill_worker(self, number: int) -> None:
        """Kills it, and does not start it again."""
        self.kept.discard(number)
        self.workers[number].kill()
        await self.workers[number].wait()

    async def kill_gateway(self) -> None:
        assert self.gateway is not None
        self.gateway.kill()
        await self.gateway.wait()

    def signal_worker(self, number: int, signum: signal.Signals) -> None:
        self.workers[number].send_signal(signum)

    async def enqueue(self, count: int, *, host: str, path: str = "page", port: int | None = None) -> None:
        """Enqueues fetches that have one attempt. A Redis that is full or away takes none."""
        url = f"http://{host}:{port or self.site_port}/{path}"
        requests = [FetchRequest(url=f"{url}/{number}", retry=ONE_ATTEMPT) for number in range(count)]
        with suppress(FetchqError):
            await self.producer.enqueue_many(requests)

    async def enqueue_job(self, function: str, *arguments: float) -> None:
        await self.producer.enqueue_job(function, *arguments)

    async def _start(self, command: str, *flags: str) -> Process:
        with (self._folder / "log").open("ab") as log:
            return await asyncio.create_subprocess_exec(
                *(str(Path(sys.executable).with_name("fetchq")), command, "--queue", QUEUE, *flags),
                stdout=log,
                stderr=log,
                cwd=REPOSITORY,
                env={**os.environ, "FETCHQ_RUNTIME_DIR": str(self._folder)},
            )

    async def replace_workers(self) -> None:
        """Starts workers that end, until cancelled."""
        while True:
            for number in tuple(self.kept):
                if self.workers[number].returncode is not None:
                    await asyncio.sleep(RESTART_S)
                    await self.start_worker(number)
            await asyncio.sleep(0.1)

    async def keep_busy(self) -> None:
        """Enqueues a fetch four times a second, until cancelled: a queue that is at work."""
        while True:
            for host in HOSTS:
                await self.enqueue(1, host=host)
                await asyncio.sleep(LOAD_EACH_S)

    def stop_processes(self) -> None:
        for process in (*self.workers.values(), self.gateway):
            if process is not None and process.returncode is None:
                process.kill()


@asynccontextmanager
async def staged(folder: Path, *, shorter_by: float, at_most_s: float) -> AsyncIterator[Stage]:
    """All parts at work. Raises `RuntimeError` if one does not start."""
    async with AsyncExitStack() as stack:
        redis = DurableRedis("everysec")
        stack.callback(redis.remove)
        proxy = await stack.enter_async_context(Proxy(redis.port))
        site_port = free_port()
        await _serve_site(stack, site_port)
        stage = Stage(folder, redis, proxy, site_port)
        stack.callback(stage.stop_processes)
        stage.admin = await stack.enter_async_context(connect(redis.url))
        stage.producer = await stack.enter_async_context(Producer(stage.admin, queue=QUEUE))
        for number in range(WORKERS):
            await stage.start_worker(number)
        await stage.start_gateway()
        targets = {
            "fetchq-worker": ("/metrics", stage.worker_addresses),
            "fetchq-queue": ("/metrics/queue", [stage.gateway_address]),
        }
        rules = (REPOSITORY / "deploy/prometheus/alerts.yml").read_text(encoding="utf-8")
        binary = Prometheus.find()
        if binary is None:
            raise RuntimeError("prometheus is not installed")
        stage.prometheus = Prometheus(
            binary, folder / "prometheus", free_port(), targets, shortened(rules, shorter_by, at_most_s)
        )
        stack.callback(stage.prometheus.stop)
        for background in (stage.replace_workers(), stage.keep_busy()):
            stack.callback(asyncio.create_task(background).cancel)
        yield stage


async def _serve_site(stack: AsyncExitStack, port: int) -> None:
    """The same site on all hosts: `/none/...` is not there, every other page is."""

    async def answer(request: web.Request) -> web.Response:
        return web.Response(status=404 if request.path.startswith("/none") else 200, text="hello")

    app = web.Application()
    app.router.add_get("/{path:.*}", answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    for host in HOSTS:
        await web.TCPSite(runner, host, port).start()
