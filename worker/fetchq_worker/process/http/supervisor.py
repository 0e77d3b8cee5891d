"""What a supervisor answers: it asks its processes, each on the unix socket of that process."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from functools import partial
from http import HTTPStatus
from typing import Final, Protocol

import msgspec

from fetchq.inspect.families import Family
from fetchq_worker.health_address import child_path

from .client import get
from .messages import Handler, Reply, Request, unavailable
from .process_metrics import merged, supervisor_family
from .worker import MEASURES, metrics_reply

CHILD_TIMEOUT_S: Final = 0.7
"""How long a supervisor waits for the answers of its processes: less than the second that Kubernetes waits for its."""
SCRAPE_TIMEOUT_S: Final = 1.2
"""How long it waits for the queue's figures from one process, before it asks the next."""
SCRAPED_PROCESSES: Final = 3
"""How many it asks, so that the answer comes in time."""


class Processes(Protocol):
    """A supervisor."""

    @property
    def missing(self) -> int:
        """How many processes should run and do not."""

    @property
    def pids(self) -> Mapping[int, int]:
        """The processes that run, by their number, which a process that replaces another takes over."""


def supervisor_handlers(processes: Processes) -> dict[str, Handler]:
    """The handlers of a supervisor. A probe succeeds if it does in each of its processes."""

    async def probe(target: str, request: Request) -> Reply:
        pids = processes.pids.values()
        replies = list(await asyncio.gather(*(_ask(pid, target, _timeout_s(request)) for pid in pids)))
        if processes.missing:
            replies.append(unavailable(f"{processes.missing} processes are not running"))
        status = max((reply.status for reply in replies), default=HTTPStatus.OK)
        return Reply(status, "; ".join(reply.text for reply in replies if reply.status == status))

    async def metrics(request: Request) -> Reply:
        pids = dict(processes.pids)
        replies = await asyncio.gather(*(_ask(pid, MEASURES, _timeout_s(request)) for pid in pids.values()))
        families = {
            number: msgspec.json.decode(reply.text, type=list[Family])
            for number, reply in zip(pids, replies, strict=True)
            if reply.status is HTTPStatus.OK
        }
        missing = len(pids) - len(families) + processes.missing
        return metrics_reply([supervisor_family(len(families), missing), *merged(families)], request)

    probes: dict[str, Handler] = {target: partial(probe, target) for target in ("/livez", "/readyz")}
    return {**probes, "/metrics": metrics, "/metrics/queue": _QueueRelay(processes).answer}


class _QueueRelay:
    """Passes scrapes of the queue's figures to one process, and to the next one if that does not answer."""

    def __init__(self, processes: Processes) -> None:
        self._processes: Final = processes
        self._first = 0
        """The number of the process that is asked first: the last one that answered."""

    async def answer(self, request: Request) -> Reply:
        pids = dict(self._processes.pids)
        for number in sorted(pids, key=lambda number: (number < self._first, number))[:SCRAPED_PROCESSES]:
            target = f"/metrics/queue?timeout_s={SCRAPE_TIMEOUT_S}"
            try:
                reply = await get(child_path(pids[number]), target, SCRAPE_TIMEOUT_S, accept=request.accept)
            except OSError:
                self._first = number + 1
                continue
            self._first = number
            return reply
        return unavailable("no worker process answers")


def _timeout_s(request: Request) -> float:
    return CHILD_TIMEOUT_S if request.timeout_s is None else 0.9 * request.timeout_s


async def _ask(pid: int, target: str, timeout_s: float) -> Reply:
    try:
        return await get(child_path(pid), target, timeout_s)
    except TimeoutError:
        return unavailable(f"process {pid} does not answer")
    except OSError:
        return unavailable(f"process {pid} has not started")
