"""What one worker process answers: `/livez`, whether it works at all, `/readyz`, whether it takes jobs, `/metrics`, its
own figures, and `/metrics/queue`, those of its queue.

A worker whose event loop does not run, because user code blocks it or the process is stopped, does not answer. Redis is
no part of `/livez`: a worker that waits for Redis works, and a restart would not help.
"""

from __future__ import annotations

from collections.abc import Iterable
from http import HTTPStatus
from typing import Final

import msgspec

from fetchq.inspect.exposition import CONTENT_TYPES, choose_format, encode
from fetchq.inspect.families import Family
from fetchq_worker.engine import Worker

from .messages import Handler, Reply, Request, unavailable
from .process_metrics import process_families
from .queue_scrape import QueueScrape

MEASURES: Final = "/measures"
"""Under a supervisor: the metrics of the process as JSON, which the supervisor merges."""


def load_prometheus() -> None:
    """Imports what the first scrape would import, so that running jobs do not wait for that."""
    import fetchq.inspect.prometheus_text  # noqa: PLC0415
    import fetchq.inspect.python_metrics  # noqa: F401, PLC0415


def worker_handlers(worker: Worker) -> dict[str, Handler]:
    """The handlers of a worker without a supervisor."""

    async def metrics(request: Request) -> Reply:
        return metrics_reply(process_families(worker.measures()), request)

    return {**_probes(worker), "/metrics": metrics, "/metrics/queue": _queue_handler(worker)}


def supervised_handlers(worker: Worker) -> dict[str, Handler]:
    """Those of a worker process that a supervisor asks."""

    async def measures(_request: Request) -> Reply:
        families = msgspec.json.encode(process_families(worker.measures()))
        return Reply(HTTPStatus.OK, families.decode(), "application/json")

    return {**_probes(worker), MEASURES: measures, "/metrics/queue": _queue_handler(worker)}


def metrics_reply(families: Iterable[Family], request: Request) -> Reply:
    """Metrics in the format that the request prefers."""
    chosen = choose_format(request.accept)
    return Reply(HTTPStatus.OK, encode(families, chosen).decode().removesuffix("\n"), CONTENT_TYPES[chosen])


def _probes(worker: Worker) -> dict[str, Handler]:
    async def live(_request: Request) -> Reply:
        slots = f"{worker.running_count} of {worker.max_jobs} slots in use"
        return Reply(HTTPStatus.OK, f"worker {worker.id} is alive: {slots}")

    async def ready(_request: Request) -> Reply:
        if (why := worker.why_not_ready) is not None:
            return unavailable(f"worker {worker.id} {why}")
        return Reply(HTTPStatus.OK, f"worker {worker.id} is ready")

    return {"/livez": live, "/readyz": ready}


def _queue_handler(worker: Worker) -> Handler:
    scrape = QueueScrape(lambda: worker._pool, worker.keys)
    return scrape.answer
