"""A Redis master, its replica, and a Sentinel that monitors both."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Final

from redis.asyncio import Redis
from redis.exceptions import RedisError
from tests.support.ports import free_port
from tests.support.redis_server import needed_binary

from .durable_redis import DurableRedis

NAME: Final = "chaos"
DOWN_AFTER_MS: Final = 60_000
"""Longer than a busy machine delays a master. A Sentinel that fails over by itself leaves two masters for the ten
seconds until it demotes the old one, which loses every write to that one. `fail_over` does not wait for it."""
CATCH_UP_MS: Final = 15_000


class SentinelCluster:
    """`url` is the address for clients. `master` is the present master."""

    def __init__(self) -> None:
        self.master = DurableRedis("always")
        self.replica = DurableRedis(
            "always", "--replicaof", f"127.0.0.1 {self.master.port}", "--repl-diskless-sync-delay", "0"
        )
        self._servers = (self.master, self.replica)
        self._folder = Path(tempfile.mkdtemp(prefix="fetchq-sentinel-"))
        self.port = free_port()
        config = self._folder / "sentinel.conf"
        config.write_text(
            f"port {self.port}\nbind 127.0.0.1\ndir {self._folder}\n"
            f"sentinel monitor {NAME} 127.0.0.1 {self.master.port} 1\n"
            f"sentinel down-after-milliseconds {NAME} {DOWN_AFTER_MS}\n"
            f"sentinel failover-timeout {NAME} 5000\n"
        )
        command = [needed_binary("redis-server"), str(config), "--sentinel"]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        self.url = f"redis+sentinel://127.0.0.1:{self.port}/{NAME}"

    async def wait_replicating(self) -> None:
        """Returns when the replica is in sync, the Sentinel knows it, and its append-only file has begun."""
        async with asyncio.timeout(20), Redis.from_url(self.replica.url) as replica, self._sentinel() as sentinel:
            while True:
                try:
                    link, persistence = await replica.info("replication"), await replica.info("persistence")
                    known = await sentinel.execute_command("SENTINEL", "REPLICAS", NAME)  # type: ignore[no-untyped-call]
                    rewriting = persistence["aof_rewrite_in_progress"] or persistence["aof_rewrite_scheduled"]
                    if link.get("master_link_status") == "up" and known and not rewriting:
                        return
                except RedisError:
                    pass  # not started yet
                await asyncio.sleep(0.05)

    async def fail_over(self) -> None:
        """Kills the master, makes the Sentinel promote the replica, and restarts the old master as its replica.

        The replica is in sync when this is called, so Redis loses only what it acknowledges during this call. The old
        master does not return as a master: until the Sentinel demoted it, it would accept writes of clients that looked
        up the master before the switch.
        """
        old, new = self.master, self.replica
        async with Redis.from_url(old.url, socket_timeout=20) as master:
            await master.set("fence", "1")  # WAIT covers only the writes of its own connection
            await master.delete("fence")
            if await master.wait(1, CATCH_UP_MS) < 1:
                raise TimeoutError(f"the replica did not catch up within {CATCH_UP_MS} ms")
        await asyncio.to_thread(old.stop)
        async with asyncio.timeout(30), self._sentinel() as sentinel:
            await sentinel.execute_command("SENTINEL", "FAILOVER", NAME)  # type: ignore[no-untyped-call]
            while True:
                reply = await sentinel.execute_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", NAME)  # type: ignore[no-untyped-call]
                if int(reply[1]) == new.port:
                    break
                await asyncio.sleep(0.05)
        self.master, self.replica = new, old
        await asyncio.sleep(1)
        await asyncio.to_thread(old.start, "--replicaof", f"127.0.0.1 {new.port}")

    def _sentinel(self) -> Redis:
        return Redis(host="127.0.0.1", port=self.port)

    def remove(self) -> None:
        self._process.kill()
        self._process.wait()
        shutil.rmtree(self._folder)
        for server in self._servers:
            server.remove()
