"""`fetchq worker --http`: /metrics and /metrics/queue, of one process and of several."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from prometheus_client import parser
from prometheus_client.openmetrics import parser as openmetrics_parser
from tests.support.metrics.promtool import problems_of
from tests.support.ports import free_port
from tests.support.redis_server import RedisServer
from tests.worker.cli.conftest import PATIENCE_S, Fetchq, Site, at, wait_until
from tests.worker.cli.health.conftest import get, start_worker

from fetchq_worker.process.http.client import get as get_from_socket

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="a worker listens on a unix socket")

OPENMETRICS = "application/openmetrics-text; version=1.0.0"


def values(port: int, path: str = "/metrics") -> dict[tuple[str, ...], float]:
    """Each series of an answer: name and values of the labels, without that of the queue. The answer may come late."""
    answers: list[tuple[int, str]] = []

    def is_there() -> bool:
        answers.append(get(port, path))
        return answers[-1][0] == 200

    wait_until(is_there, path)
    _, text = answers[-1]
    return {
        (sample.name, *(value for label, value in sorted(sample.labels.items()) if label != "queue")): sample.value
        for family in parser.text_string_to_metric_families(text)
        for sample in family.samples
    }


def of_process(found: dict[tuple[str, ...], float], name: str) -> dict[str, float]:
    """A metric by the number of the process."""
    return {key[1]: value for key, value in found.items() if key[0] == name}


def test_a_worker_tells_its_own_figures_and_those_of_its_queue(
    fetchq: Fetchq, site: Site, redis_server: RedisServer
) -> None:
    port = free_port()
    environ = {**at(redis_server), "FETCHQ_NAMESPACE": "{a}:", "FETCHQ_QUEUE": 'qu"ote'}
    worker = start_worker(fetchq, "--http", f"127.0.0.1:{port}", "--concurrency", "7", environ=environ)
    wait_until(lambda: get(port, "/readyz")[0] == 200, "its readiness")
    fetchq.run("enqueue", f"{site.url}/gate/1", environ=environ)
    wait_until(lambda: values(port)["fetchq_worker_running_jobs",] == 1, "the run")
    wait_until(lambda: values(port, "/metrics/queue")["fetchq_jobs", "running"] == 1, "a new reading")
    queue = values(port, "/metrics/queue")
    assert (queue["fetchq_workers",], queue["fetchq_worker_slots",], queue["fetchq_demand",]) == (1, 7, 1)
    assert queue["fetchq_enqueued_total",] == 1
    for path in ("/metrics", "/metrics/queue"):
        assert problems_of(get(port, path)[1].encode()) == ""
        assert list(openmetrics_parser.text_string_to_metric_families(get(port, path, OPENMETRICS)[1]))  # type: ignore[no-untyped-call]
    assert get(port, "/nothing") == (404, "/livez, /readyz, /metrics, /metrics/queue are answered\n")
    site.gate.set()
    wait_until(lambda: values(port)["fetchq_worker_jobs_total", "complete"] == 1, "its end")
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(PATIENCE_S) == 0


def test_while_redis_is_away_a_worker_tells_its_own_figures_only(fetchq: Fetchq) -> None:
    port = free_port()
    start_worker(fetchq, "--http", f"127.0.0.1:{port}")
    status, text = get(port, "/metrics/queue")
    assert (status, "Redis at /nowhere/redis.sock cannot be reached" in text) == (503, True)
    assert values(port)["fetchq_worker_ready",] == 0


@pytest.fixture
def port_of_two(fetchq: Fetchq, redis_server: RedisServer) -> Iterator[int]:
    """The port of a supervisor with two processes, both of which answer."""
    port = free_port()
    flags = ("--processes", "2", "--http", f"127.0.0.1:{port}", "--concurrency", "5")
    supervisor = start_worker(fetchq, *flags, environ=at(redis_server))
    wait_until(lambda: get(port, "/readyz?timeout_s=5")[0] == 200, "both processes")
    yield port
    for child in children(fetchq):
        os.kill(child, signal.SIGCONT)
    supervisor.send_signal(signal.SIGTERM)
    supervisor.wait(PATIENCE_S)


def children(fetchq: Fetchq) -> list[int]:
    return [int(path.stem) for path in fetchq.runtime_folder.glob("*.child")]


def test_a_supervisor_merges_its_processes_and_leaves_out_one_that_hangs(fetchq: Fetchq, port_of_two: int) -> None:
    both = values(port_of_two, "/metrics?timeout_s=5")
    assert of_process(both, "fetchq_worker_max_jobs") == {"0": 5, "1": 5}
    assert (both["fetchq_worker_processes", "running"], both["fetchq_worker_processes", "missing"]) == (2, 0)
    assert problems_of(get(port_of_two, "/metrics?timeout_s=5")[1].encode()) == ""

    hanging, *_ = children(fetchq)
    os.kill(hanging, signal.SIGSTOP)
    one = values(port_of_two, "/metrics?timeout_s=1")
    os.kill(hanging, signal.SIGCONT)
    assert len(of_process(one, "fetchq_worker_max_jobs")) == 1
    assert (one["fetchq_worker_processes", "running"], one["fetchq_worker_processes", "missing"]) == (1, 1)


def test_a_process_that_replaces_another_has_its_number(fetchq: Fetchq, port_of_two: int) -> None:
    def starts() -> dict[str, float]:
        return of_process(values(port_of_two, "/metrics?timeout_s=5"), "process_start_time_seconds")

    before, killed = starts(), children(fetchq)[0]
    os.kill(killed, signal.SIGKILL)
    wait_until(lambda: len(starts()) == 2 and starts() != before, "its replacement")
    after = starts()
    assert after.keys() == before.keys()
    assert sum(after[number] == before[number] for number in before) == 1


def test_a_supervisor_tells_the_figures_of_the_queue_by_any_process(fetchq: Fetchq, port_of_two: int) -> None:
    for hanging in children(fetchq):
        os.kill(hanging, signal.SIGSTOP)
        queue = values(port_of_two, "/metrics/queue")
        os.kill(hanging, signal.SIGCONT)
        assert (queue["fetchq_workers",], queue["fetchq_worker_slots",]) == (2, 10)
    wait_until(lambda: get(port_of_two, "/metrics/queue", OPENMETRICS)[1].endswith("# EOF\n"), "OpenMetrics")


@pytest.mark.asyncio
async def test_metrics_are_answered_on_a_unix_socket_too(fetchq: Fetchq, redis_server: RedisServer) -> None:
    path = fetchq.runtime_folder / "metrics"
    start_worker(fetchq, "--http", str(path), environ=at(redis_server))
    for target in ("/metrics", "/metrics/queue"):
        reply: Any = await get_from_socket(str(path), target, PATIENCE_S)
        assert (reply.status, reply.text.startswith("# HELP fetchq_")) == (200, True)
