"""What a supervisor answers for its processes, which are listeners on sockets here."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator
from http import HTTPStatus
from pathlib import Path

import pytest
import pytest_asyncio

from fetchq.command.listen_address import ListenAddress
from fetchq_worker.health_address import FOLDER_ENV, child_path
from fetchq_worker.process.http import supervisor
from fetchq_worker.process.http.messages import Handler, Reply, Request
from fetchq_worker.process.http.server import HttpServer
from fetchq_worker.process.http.supervisor import supervisor_handlers

pytestmark = pytest.mark.asyncio


class Processes:
    """The processes 0 to 5, of which some answer and the others hang."""

    missing = 0

    def __init__(self) -> None:
        self.pids = {number: 1000 + number for number in range(6)}
        self.asked: list[int] = []
        self.hanging: set[int] = set()
        self._servers: list[HttpServer] = []

    async def start(self) -> None:
        for number, pid in self.pids.items():
            server = HttpServer({"/metrics/queue": self._handler(number)})
            await server.listen(ListenAddress("", 0, child_path(pid)))
            self._servers.append(server)

    def _handler(self, number: int) -> Handler:
        async def answer(request: Request) -> Reply:
            self.asked.append(number)
            if number in self.hanging:
                await asyncio.Event().wait()
            return Reply(HTTPStatus.OK, f"{number} {request.accept}", "text/x")

        return answer

    def stop(self) -> None:
        for server in self._servers:
            server.close()


@pytest_asyncio.fixture
async def processes(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Processes]:
    with tempfile.TemporaryDirectory(prefix="fetchq-") as folder:
        monkeypatch.setenv(FOLDER_ENV, str(Path(folder)))
        found = Processes()
        await found.start()
        yield found
        found.stop()


async def test_the_figures_of_the_queue_come_from_one_process(processes: Processes) -> None:
    scrape = supervisor_handlers(processes)["/metrics/queue"]
    replies = [await scrape(Request(accept="text/y")) for _ in range(3)]
    assert replies == [Reply(HTTPStatus.OK, "0 text/y", "text/x")] * 3
    assert processes.asked == [0, 0, 0]


async def test_processes_that_hang_are_passed_over_a_few_a_scrape(
    processes: Processes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "SCRAPE_TIMEOUT_S", 0.05)
    scrape = supervisor_handlers(processes)["/metrics/queue"]
    processes.hanging = {0, 1, 2, 3}

    assert await scrape(Request()) == Reply(HTTPStatus.SERVICE_UNAVAILABLE, "no worker process answers")
    assert processes.asked == [0, 1, 2]
    monkeypatch.setattr(supervisor, "SCRAPE_TIMEOUT_S", 1.0)
    assert (await scrape(Request())).text.startswith("4 ")
    assert (await scrape(Request())).text.startswith("4 ")
    assert processes.asked == [0, 1, 2, 3, 4, 4]


async def test_without_a_process_there_are_no_figures(processes: Processes) -> None:
    processes.pids = {}
    handlers = supervisor_handlers(processes)
    assert (await handlers["/metrics/queue"](Request())).status is HTTPStatus.SERVICE_UNAVAILABLE
    own = await handlers["/metrics"](Request())
    assert 'fetchq_worker_processes{state="running"} 0.0' in own.text
