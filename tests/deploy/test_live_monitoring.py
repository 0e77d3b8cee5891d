"""A real Prometheus scrapes a worker and a gateway; every query of the dashboard and of the alerts is asked of it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Final

import pytest
from harness.servers.prometheus import Prometheus
from tests.support.ports import free_port
from tests.support.redis_server import RedisServer, needed_binary

from fetchq import FetchRequest, Priority, RetryPolicy, SyncProducer

from .manifests import DEPLOY
from .queries import alert_rules, panels, queries, series_in

QUEUE: Final = "live"
PATIENCE_S: Final = 30.0
EMPTY_WHILE_ALL_IS_WELL: Final = {
    "dashboard: annotation Paused",  # no queue is paused
    "dashboard: annotation Alerts",  # they wait for a minute at least
}
"""Beside the alerts themselves."""


class _Site(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.send_response(404 if self.path == "/none" else 200)
        self.send_header("Content-Length", "5")
        self.end_headers()
        self.wfile.write(b"hello")

    def log_message(self, *_: object) -> None:
        return


def _wait_until(holds: Callable[[], object], what: str) -> None:
    until = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < until, what
        time.sleep(0.1)


@contextmanager
def _running(commands: list[list[str]], folder: Path) -> Iterator[None]:
    environment = {**os.environ, "FETCHQ_RUNTIME_DIR": str(folder)}
    with (folder / "log").open("wb") as log:
        processes = [
            subprocess.Popen(command, stdout=log, stderr=log, cwd=DEPLOY.parent, env=environment)
            for command in commands
        ]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


@contextmanager
def _site() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Site) as site:
        Thread(target=site.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        yield f"http://127.0.0.1:{site.server_address[1]}"
        site.shutdown()


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """A Prometheus that has scraped a worker while jobs of all kinds ended."""
    binary = needed_binary("prometheus")
    folder = tmp_path_factory.mktemp("live")
    worker_address, gateway_address = (f"127.0.0.1:{free_port()}" for _ in range(2))
    targets = {"fetchq-worker": ("/metrics", [worker_address]), "fetchq-queue": ("/metrics/queue", [gateway_address])}
    fetchq = str(Path(sys.executable).with_name("fetchq"))
    with ExitStack() as stack:
        redis = RedisServer()
        stack.callback(redis.remove)
        site = stack.enter_context(_site())
        flags = ("--redis", redis.url, "--queue", QUEUE)
        worker = [fetchq, "worker", *flags, "--http", worker_address, "--lease", "2s", "--allow-net", "127.0.0.0/8"]
        worker += ["--settings", "harness.drill.coroutines:Settings"]
        gateway = [fetchq, "serve", *flags, "--listen", gateway_address]
        stack.enter_context(_running([worker, gateway], folder))
        rules = (DEPLOY / "prometheus" / "alerts.yml").read_text(encoding="utf-8")
        server = Prometheus(binary, folder / "prometheus", free_port(), targets, rules)
        stack.callback(server.stop)
        _wait_until(lambda: not server.targets_down() and server.query("fetchq_workers == 1"), "no scrape succeeds")
        _give_work(redis.url, site)
        counted = "max(sum by (queue) (fetchq_fetches_total)) >= 31 and on () max(fetchq_jobs_finished_total) >= 5"
        _wait_until(lambda: server.query(counted), "jobs are not counted")
        _give_work(redis.url, site)  # what grows has a rate
        for name in (
            "fetchq_attempt_duration_seconds_count",
            "fetchq_wait_seconds_count",
            "fetchq_jobs_finished_total",
        ):
            _wait_until(partial(server.query, f"max(rate({name}[15s])) > 0"), f"{name} does not grow")
        yield server


def _give_work(redis_url: str, site: str) -> None:
    with SyncProducer(redis_url, queue=QUEUE) as producer:
        once = RetryPolicy(max_tries=1)
        urls = [(lane, f"{site}/{lane}/{i}") for lane in Priority for i in range(10)]
        producer.enqueue_many([FetchRequest(url=url, priority=lane, retry=once) for lane, url in urls])
        producer.enqueue(FetchRequest(url=f"{site}/none", retry=once))
        for _ in range(5):
            producer.enqueue_job("work", 0.01)


def test_every_series_that_a_query_reads_exists(prometheus: Prometheus) -> None:
    read = {name for _, query in queries(QUEUE, "15s") for name in series_in(query)}
    of_supervisors = {"fetchq_worker_processes"}
    assert read - prometheus.series() - of_supervisors - {"ALERTS"} == set()


def test_every_query_of_the_dashboard_returns_data(prometheus: Prometheus) -> None:
    asked = {place: prometheus.query(query) for place, query in queries(QUEUE, "15s")}
    empty = {place for place, samples in asked.items() if not samples}
    assert len(asked) > len(panels())
    assert {place for place in empty if not place.startswith("alert: ")} == EMPTY_WHILE_ALL_IS_WELL


def test_every_alert_can_be_evaluated(prometheus: Prometheus) -> None:
    rules = prometheus.rules()
    assert rules.keys() == {rule["alert"] for rule in alert_rules()}
    assert {name: rule["lastError"] for name, rule in rules.items() if rule["health"] != "ok"} == {}


def test_each_line_of_the_dashboard_has_the_labels_that_its_name_takes(prometheus: Prometheus) -> None:
    asked = dict(queries(QUEUE, "15s"))
    for panel in panels():
        for target in panel["targets"]:
            taken = set(re.findall(r"{{(\w+)}}", target["legendFormat"])) - {
                "process"
            }  # which only a supervisor's have
            for sample in prometheus.query(asked[f"dashboard: {panel['title']} {target['refId']}"]):
                assert taken <= sample.labels.keys(), panel["title"]
