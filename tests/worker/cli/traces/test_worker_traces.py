"""Traces of `fetchq worker`: OpenTelemetry that a settings module sets up, in each of several processes."""

from __future__ import annotations

import json
import signal
import subprocess
from typing import Any

import pytest
from redis import Redis as RedisClient
from tests.support.redis_server import RedisServer
from tests.worker.cli.conftest import PATIENCE_S, Fetchq, Site, at, wait_until

JOBS = """
import os, time
from fetchq_worker import worker_settings
from opentelemetry import trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter

spans = open(f"spans-{os.getpid()}", "w")
provider = TracerProvider(resource=Resource.create({"service.name": "my-worker"}))
class Slow(ConsoleSpanExporter):
    def export(self, spans):
        time.sleep(1)  # longer than a process that was stopped has to exit
        return super().export(spans)

exporter = Slow(out=spans, formatter=lambda span: span.to_json(None) + "\\n")
provider.add_span_processor(BatchSpanProcessor(exporter))
trace.set_tracer_provider(provider)

Mine = worker_settings()
"""


def spans_of(fetchq: Fetchq) -> list[dict[str, Any]]:
    """What the processes exported; each has a file of its own."""
    return [
        json.loads(line) | {"file": path.name}
        for path in fetchq.folder.glob("spans-*")
        for line in path.read_text().splitlines()
    ]


@pytest.mark.parametrize("processes", [1, 2])
def test_each_process_exports_its_spans_by_its_end(
    fetchq: Fetchq, site: Site, redis_server: RedisServer, processes: int
) -> None:
    (fetchq.folder / "traced.py").write_text(JOBS)
    urls = [f"{site.url}/gate/{n}" for n in range(processes)]
    fetchq.run("enqueue", *urls, environ=at(redis_server))
    flags = ("--processes", str(processes), "--concurrency", "1", "--traces", "child")
    worker = fetchq.start(
        "worker", "--settings", "traced:Mine", *flags, stderr=subprocess.DEVNULL, environ=at(redis_server)
    )
    wait_until(lambda: len(site.hits) == processes, "a fetch in each process")
    site.gate.set()
    with RedisClient.from_url(redis_server.url) as redis:
        wait_until(lambda: redis.zcard("arq:queue") == 0, "the end of all jobs")
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(PATIENCE_S) == 0
    spans = spans_of(fetchq)
    assert sorted(span["name"] for span in spans) == processes * ["GET"] + processes * ["process arq:queue"]
    assert len({span["file"] for span in spans}) == processes
    assert {span["resource"]["attributes"]["service.name"] for span in spans} == {"my-worker"}
