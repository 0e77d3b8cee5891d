"""`python -m bench.pool`: how many connections a crawl of many hosts opens.

Each host is visited several times, the hosts one after another in rounds, so that each connection is used again only
after those to all other hosts. The hosts are addresses of loopback with one server.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from typing import Final, cast

import uvloop

from fetchq import FetchRequest, RetryPolicy
from fetchq.command.open_files import raise_open_files
from fetchq_worker.fetch import Fetcher, fetch

_RESPONSE: Final = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Hosts(asyncio.Protocol):
    """The server's side of a connection; counts them all."""

    made = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        Hosts.made += 1
        self._transport = cast(asyncio.WriteTransport, transport)

    def data_received(self, data: bytes) -> None:
        self._transport.write(_RESPONSE)


async def count_connections(hosts: int, rounds: int) -> tuple[int, float]:
    """The connections that `hosts` x `rounds` fetches open, one fetch at a time, and the seconds that they take."""
    Hosts.made = 0
    server = await asyncio.get_running_loop().create_server(Hosts, "0.0.0.0", 0)
    port = server.sockets[0].getsockname()[1]
    urls = [f"http://127.{1 + n // 62_500}.{n // 250 % 250}.{n % 250 + 1}:{port}/" for n in range(hosts)]
    began = time.monotonic()
    async with Fetcher(user_agent="fetchq-bench/1", allow_net=("127.0.0.0/8",)) as fetcher:
        for _ in range(rounds):
            for url in urls:
                result = await fetch({"fetcher": fetcher}, FetchRequest(url=url, retry=RetryPolicy(max_tries=1)))
                if not result.ok:
                    raise RuntimeError(f"a fetch ended as {result.status}: {result.error}")
    took_s = time.monotonic() - began
    server.close()
    return Hosts.made, took_s


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.pool", description="Connections of a crawl of many hosts.")
    parser.add_argument("--hosts", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=10)
    given = parser.parse_args()
    raise_open_files()
    made, took_s = uvloop.run(count_connections(given.hosts, given.rounds))
    print(f"{given.hosts} hosts x {given.rounds} URLs: {made} connections, {took_s:.1f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
