"""`fetchq serve`, as an operator runs it."""

from __future__ import annotations

import contextlib
import json
import signal
import stat
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families
from redis import Redis
from tests.gateway.conftest import PATIENCE_S, Answer, Gateway, Gateways
from tests.support.redis_server import RedisServer
from tests.support.redis_users import create_users, refusals, user_url

from fetchq import SyncProducer
from fetchq.store.registry import Role

NO_REDIS = "unix:///nowhere/redis.sock"


def test_it_answers_the_paths_that_its_index_names(gateways: Gateways, redis_server: RedisServer) -> None:
    gateway = gateways.start(redis_url=redis_server.url)
    index = gateway.get("/")
    paths = [line.split()[0] for line in index.text.splitlines()[1:]]
    assert index.status == 200
    assert paths == ["/metrics/queue", "/metrics", "/livez", "/readyz"]
    for path in paths:
        assert gateway.get(path).status == 200
    for path in ("/v1/fetches", "/metrics/", "//metrics", "/metrics/queue/"):
        assert gateway.get(path).status == 404


def test_the_figures_of_several_queues_are_in_one_answer(gateways: Gateways, redis_server: RedisServer) -> None:
    for queue, jobs in (("a", 1), ("b", 2)):
        with SyncProducer.from_url(redis_server.url, queue=queue) as producer:
            producer.enqueue_many([f"http://127.0.0.1/{number}" for number in range(jobs)])
    gateway = gateways.start("--queue", "a", "--queue", "b", redis_url=redis_server.url)
    answer = gateway.get("/metrics/queue")
    families = {family.name: family for family in text_string_to_metric_families(answer.text)}
    due = {one.labels["queue"]: one.value for one in families["fetchq_jobs"].samples if one.labels["state"] == "due"}
    assert due == {"a": 1, "b": 2}
    assert {one.labels["queue"] for family in families.values() for one in family.samples} == {"a", "b"}
    opened = gateway.get("/metrics/queue", Accept="application/openmetrics-text")
    assert opened.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
    assert opened.text.endswith("# EOF\n")


def _until_it_answers(status: int, gateway: Gateway) -> Answer:
    """Figures are up to a second old, and so is the failure to read them."""
    until = time.monotonic() + PATIENCE_S
    while (answer := gateway.get("/metrics/queue")).status != status:
        assert time.monotonic() < until
    return answer


def test_it_says_that_redis_is_gone_and_answers_again_when_it_is_back(
    gateways: Gateways, own_redis_server: RedisServer
) -> None:
    gateway = gateways.start(redis_url=own_redis_server.url)
    assert gateway.get("/metrics/queue").status == 200
    own_redis_server.stop()
    assert gateway.get("/readyz").status == 503
    assert gateway.get("/livez").status == 200
    gone = _until_it_answers(503, gateway)
    assert "cannot be reached" in gone.text
    assert gone.text.count("\n") == 1
    own_redis_server.start()
    assert gateway.get("/readyz").status == 200
    _until_it_answers(200, gateway)
    assert gateway.stop() == 0
    assert gateway.log.read_text().count("redis.unavailable") == 1
    assert gateway.log.read_text().count("redis.available") == 1


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_within_three_seconds_whatever_its_clients_do(
    gateways: Gateways, redis_server: RedisServer, signum: signal.Signals
) -> None:
    gateway = gateways.start(redis_url=redis_server.url)
    with gateway.connect(), gateway.connect() as half, gateway.connect() as idle:
        half.sendall(b"GET /livez HTTP/1.1\r\n")
        idle.sendall(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert idle.recv(15) == b"HTTP/1.1 200 OK"
        began = time.monotonic()
        assert gateway.stop(signum) == 0
        assert time.monotonic() - began < 3
    log = gateway.log.read_text()
    assert f"gateway.stopping signal={signum.name}" in log
    assert log.splitlines()[-1].endswith("gateway.stopped")
    assert "Traceback" not in log


def test_a_signal_ends_it_while_redis_hangs_and_the_scrape_is_answered(
    gateways: Gateways, own_redis_server: RedisServer
) -> None:
    gateway = gateways.start(redis_url=own_redis_server.url)
    assert gateway.get("/readyz").status == 200
    with own_redis_server.hung(), gateway.connect() as scraper:
        scraper.sendall(b"GET /metrics/queue HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        assert gateway.get("/livez").status == 200  # the connection before it is read by now
        began = time.monotonic()
        assert gateway.stop() == 0
        assert time.monotonic() - began < 3
        assert scraper.recv(65_536).startswith(b"HTTP/1.1 503 ")
    assert "Traceback" not in gateway.log.read_text()


def test_a_second_signal_ends_it_at_once(gateways: Gateways, own_redis_server: RedisServer) -> None:
    gateway = gateways.start(redis_url=own_redis_server.url)
    assert gateway.get("/readyz").status == 200
    with own_redis_server.hung(), gateway.connect() as scraper:
        scraper.sendall(b"GET /metrics/queue HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert gateway.get("/livez").status == 200  # the connection before it is read by now
        gateway.process.send_signal(signal.SIGTERM)
        until = time.monotonic() + PATIENCE_S
        while "gateway.stopping" not in gateway.log.read_text():
            assert time.monotonic() < until
        assert gateway.stop() == 128 + signal.SIGTERM


def test_it_listens_before_redis_answers_and_ends_with_status_3_if_it_never_does(gateways: Gateways) -> None:
    gateway = gateways.start("--start-wait", "1s", redis_url=NO_REDIS)
    assert gateway.get("/livez").status == 200
    assert gateway.get("/readyz").status == 503
    assert gateway.process.wait(PATIENCE_S) == 3
    lines = gateway.log.read_text().splitlines()
    assert "redis.waiting try=1" in lines[1]
    assert lines[-1].startswith("fetchq: Redis at /nowhere/redis.sock cannot be reached")


def test_a_signal_ends_the_wait_for_redis(gateways: Gateways) -> None:
    gateway = gateways.start("--start-wait", "1h", redis_url=NO_REDIS)
    assert gateway.get("/livez").status == 200
    assert gateway.stop() == 0


def test_a_wrong_password_ends_it_at_once_with_advice(gateways: Gateways) -> None:
    server = RedisServer("--requirepass", "s3cret", password="s3cret")
    try:
        gateway = gateways.start("--start-wait", "1h", redis_url=server.url.replace("unix://", "unix://:wrong@"))
        assert gateway.process.wait(PATIENCE_S) == 3
        assert "give its user name and password" in gateway.log.read_text().splitlines()[-1]
    finally:
        server.remove()


def test_it_needs_the_rights_of_an_operator_and_no_others(gateways: Gateways, own_redis_server: RedisServer) -> None:
    with Redis(unix_socket_path=str(own_redis_server.socket)) as admin:
        create_users(admin)
        gateway = gateways.start(redis_url=user_url(own_redis_server, Role.OPERATOR))
        for path in ("/readyz", "/metrics/queue", "/metrics"):
            assert gateway.get(path).status == 200
        assert refusals(admin) == []


def test_more_connections_than_files_leave_no_traceback_and_it_ends_in_time(
    gateways: Gateways, redis_server: RedisServer
) -> None:
    gateway = gateways.start(redis_url=redis_server.url, max_files=160)
    with contextlib.ExitStack() as clients, ThreadPoolExecutor(50) as threads:
        for client in threads.map(lambda _: gateway.connect(), range(200)):
            clients.enter_context(client)
        signalled = time.monotonic()
        gateway.process.terminate()
        assert gateway.process.wait(PATIENCE_S) == 0
        assert time.monotonic() - signalled < 3
    assert len(gateway.log.read_text().splitlines()) == 3, gateway.log.read_text()


def test_an_address_in_use_is_one_sentence_and_status_2(gateways: Gateways, redis_server: RedisServer) -> None:
    first = gateways.start(redis_url=redis_server.url)
    second = gateways.start("--listen", first.address, redis_url=redis_server.url)
    assert second.process.wait(PATIENCE_S) == 2
    assert second.log.read_text() == (
        f"fetchq: --listen (FETCHQ_LISTEN): cannot listen on {first.address}: address already in use\n"
    )


def test_a_unix_socket_is_removed_at_the_end_and_taken_from_a_process_that_was_killed(
    gateways: Gateways, redis_server: RedisServer, tmp_path: Path
) -> None:
    path = tmp_path / "gateway.sock"
    listen = ("--listen", f"unix:{path}")
    killed = gateways.start(*listen, redis_url=redis_server.url)
    assert killed.get("/livez", Host="anything.example").status == 200
    assert not path.stat().st_mode & (stat.S_IWGRP | stat.S_IWOTH), "only its user can connect"
    killed.stop(signal.SIGKILL)
    assert path.exists()
    again = gateways.start(*listen, redis_url=redis_server.url)
    assert again.get("/readyz").status == 200
    third = gateways.start(*listen, redis_url=redis_server.url)
    assert third.process.wait(PATIENCE_S) == 2
    assert third.log.read_text().endswith(f"cannot listen on {path}: another process listens on it\n")
    assert again.stop() == 0
    assert not path.exists()


def test_a_file_that_is_no_socket_is_left_alone(gateways: Gateways, redis_server: RedisServer, tmp_path: Path) -> None:
    (tmp_path / "notes").write_text("mine")
    gateway = gateways.start("--listen", f"unix:{tmp_path / 'notes'}", redis_url=redis_server.url)
    assert gateway.process.wait(PATIENCE_S) == 2
    assert gateway.log.read_text().endswith("notes: the file is not a socket\n")
    assert (tmp_path / "notes").read_text() == "mine"


def test_its_log_has_the_workers_shape(gateways: Gateways, redis_server: RedisServer) -> None:
    gateway = gateways.start("--log-format", "json", redis_url=redis_server.url)
    assert gateway.get("/livez").status == 200
    gateway.stop()
    lines = [json.loads(line) for line in gateway.log.read_text().splitlines()]
    assert [line["event"] for line in lines] == ["gateway.started", "gateway.stopping", "gateway.stopped"]
    assert lines[0]["address"] == gateway.address


def test_it_runs_without_the_worker(gateways: Gateways, redis_server: RedisServer) -> None:
    gateway = gateways.start(redis_url=redis_server.url, program="fetchq_gateway.cli")
    assert gateway.get("/readyz").status == 200


def test_another_address_is_answered_with_metrics_only(gateways: Gateways, redis_server: RedisServer) -> None:
    gateway = gateways.start("--listen", "0.0.0.0:0", "--metrics-only", redis_url=redis_server.url)
    assert gateway.get("/metrics", Host="worker-7.cluster.local:8080").status == 200
