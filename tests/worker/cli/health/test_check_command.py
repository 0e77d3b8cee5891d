"""`fetchq worker --check`: cheap, and true for processes that are stopped, hung or dead. `--http`: the probes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from bench.check_cost import measure
from redis import Redis as RedisClient
from tests.support.ports import free_port
from tests.support.redis_server import RedisServer
from tests.worker.cli.conftest import NO_REDIS, PATIENCE_S, Fetchq, Site, at, wait_until
from tests.worker.cli.health.conftest import AWAY, get, start_worker

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="a worker listens on a unix socket")

CHECK = ("worker", "--check", "--timeout", "20")


def check(fetchq: Fetchq, *flags: str, timeout_s: float = 20) -> tuple[int, str]:
    """The exit status of a check and what it says. The timeout has effect only where no answer comes."""
    done = fetchq.run("worker", "--check", "--timeout", str(timeout_s), *flags)
    return done.returncode, done.stdout + done.stderr


def test_without_a_worker_a_check_fails_in_one_sentence(fetchq: Fetchq) -> None:
    status, said = check(fetchq)
    assert status == 1
    assert said.startswith("fetchq: no worker of this user runs on this machine")


def test_a_worker_passes_while_redis_is_away_until_it_is_stopped(fetchq: Fetchq) -> None:
    worker = start_worker(fetchq)
    status, said = check(fetchq)
    assert (status, "is alive: 0 of 100 slots in use" in said) == (0, True)
    worker.send_signal(signal.SIGTERM)
    worker.wait(PATIENCE_S)
    assert check(fetchq)[0] == 1
    assert list(fetchq.runtime_folder.iterdir()) == []


def test_a_worker_whose_process_is_stopped_fails(fetchq: Fetchq) -> None:
    worker = start_worker(fetchq)
    worker.send_signal(signal.SIGSTOP)
    status, said = check(fetchq, timeout_s=0.3)
    worker.send_signal(signal.SIGCONT)
    assert (status, "does not answer" in said) == (1, True)
    assert check(fetchq)[0] == 0


def test_a_worker_that_was_killed_fails_beside_one_that_lives_until_it_is_replaced(fetchq: Fetchq) -> None:
    killed, _ = start_worker(fetchq), start_worker(fetchq)
    assert check(fetchq)[0] == 0
    killed.kill()
    killed.wait()
    status, said = check(fetchq)
    assert (status, "was killed and not replaced" in said) == (1, True)
    start_worker(fetchq)
    assert check(fetchq)[0] == 0


def test_workers_of_another_queue_are_asked_only_if_no_queue_is_named(fetchq: Fetchq) -> None:
    worker = start_worker(fetchq, "--queue", "images")
    worker.kill()
    worker.wait()
    start_worker(fetchq, "--queue", "pages")
    assert check(fetchq, "--queue", "pages")[0] == 0
    assert check(fetchq, "--queue=images")[0] == 1
    assert check(fetchq, "--queue", "feeds")[0] == 1
    assert check(fetchq)[0] == 1


def test_each_of_several_processes_is_asked(fetchq: Fetchq) -> None:
    port = free_port()
    start_worker(fetchq, "--processes", "2", "--http", f"127.0.0.1:{port}")
    wait_until(lambda: get(port, "/livez?timeout_s=5")[0] == 200, "both processes")
    status, said = check(fetchq)
    assert (status, said.count("is alive")) == (0, 2)
    child, *_ = (int(path.stem) for path in fetchq.runtime_folder.glob("*.child"))
    os.kill(child, signal.SIGSTOP)
    status, said = check(fetchq, timeout_s=0.3)
    assert (status, f"process {child} does not answer" in said) == (1, True)
    assert get(port, "/livez?timeout_s=0.3") == (503, f"process {child} does not answer\n")
    os.kill(child, signal.SIGCONT)
    assert check(fetchq, "--http", f":{port}")[0] == 0


HANGING = """
from fetchq_worker import worker_settings

async def hang(ctx, path):
    with open(path) as fifo:  # blocks the event loop until the test writes
        fifo.read()

Mine = worker_settings(functions=[hang])
"""


def test_a_worker_whose_event_loop_hangs_fails(fetchq: Fetchq, redis_server: RedisServer) -> None:
    (fetchq.folder / "hanging.py").write_text(HANGING)
    fifo = fetchq.folder / "fifo"
    os.mkfifo(fifo)
    enqueue = (
        "import sys; from fetchq import SyncProducer\n"
        "with SyncProducer.from_url(sys.argv[1]) as producer: producer.enqueue_job('hang', sys.argv[2])\n"
    )
    subprocess.run([sys.executable, "-c", enqueue, redis_server.url, str(fifo)], check=True)
    start_worker(fetchq, "--settings", "hanging:Mine", environ=at(redis_server))
    writer = os.open(fifo, os.O_WRONLY)  # waits for the job
    status, said = check(fetchq, timeout_s=0.3)
    os.close(writer)
    assert (status, "does not answer" in said) == (1, True)
    assert check(fetchq)[0] == 0


def test_a_worker_is_ready_while_redis_answers_and_until_it_stops(
    fetchq: Fetchq, site: Site, own_redis_server: RedisServer
) -> None:
    port = free_port()
    environ = {**at(own_redis_server), "FETCHQ_HTTP": f"127.0.0.1:{port}", "FETCHQ_LEASE": "0.5"}
    fetchq.run("enqueue", f"{site.url}/gate/1", environ=environ)
    worker = start_worker(fetchq, environ=environ)
    wait_until(lambda: get(port, "/readyz")[0] == 200, "its readiness")
    assert fetchq.run(*CHECK, environ=environ).returncode == 0
    wait_until(lambda: site.hits["/gate/1"], "the fetch")
    with own_redis_server.hung():
        wait_until(lambda: get(port, "/readyz")[0] == 503, "the outage")
        assert "no answer from Redis" in get(port, "/readyz")[1]
        assert get(port, "/livez")[0] == 200
    wait_until(lambda: get(port, "/readyz")[0] == 200, "its readiness again")
    worker.send_signal(signal.SIGTERM)
    wait_until(lambda: get(port, "/readyz")[0] == 503, "the end of its readiness")
    assert "is stopping" in get(port, "/readyz")[1]
    assert get(port, "/livez")[0] == 200
    site.gate.set()
    assert worker.wait(PATIENCE_S) == 0
    assert fetchq.run(*CHECK, environ=environ).returncode == 1
    with RedisClient.from_url(own_redis_server.url) as client:
        assert client.zcard("arq:queue") == 0


def test_probes_are_answered_on_a_unix_socket_too(fetchq: Fetchq) -> None:
    path = fetchq.runtime_folder / "probes"
    start_worker(fetchq, "--http", str(path))
    assert check(fetchq, "--http", str(path))[0] == 0
    assert check(fetchq, "--http", f"unix:{path}", "--concurrency", "5")[0] == 0, "by the whole command line"


@pytest.mark.parametrize("address", ["nowhere", "host:port", "127.0.0.1", "1.2.3.4:70000", "::1:80", "a b:1"])
def test_an_address_that_is_none_is_wrong_usage(fetchq: Fetchq, address: str) -> None:
    for arguments in (("worker",), ("worker", "--check")):
        done = fetchq.run(*arguments, "--http", address, "--redis", NO_REDIS)
        assert done.returncode == 2
        assert "takes HOST:PORT or the absolute path of a unix socket" in done.stderr


def test_an_address_in_use_is_reported_by_its_flag(fetchq: Fetchq) -> None:
    port = free_port()
    start_worker(fetchq, "--http", f"127.0.0.1:{port}")
    for more in ((), ("--processes", "2")):
        second = fetchq.run("worker", "--http", f"127.0.0.1:{port}", *more, environ=AWAY)
        assert second.returncode == 2
        sentence = f"fetchq: --http (FETCHQ_HTTP): cannot listen on 127.0.0.1:{port}"
        assert second.stderr.splitlines()[-1].startswith(sentence)


def test_sockets_in_a_folder_that_others_can_write_to_are_not_trusted(fetchq: Fetchq, tmp_path: Path) -> None:
    start_worker(fetchq)
    environ = {"FETCHQ_RUNTIME_DIR": "", "TMPDIR": str(tmp_path)}
    (tmp_path / f"fetchq-{os.geteuid()}").symlink_to(fetchq.runtime_folder)
    done = fetchq.run("worker", "--check", environ=environ)
    assert done.returncode == 1
    assert "are not trusted" in done.stderr


def test_a_check_loads_no_command_line_redis_client_or_event_loop(fetchq: Fetchq) -> None:
    start_worker(fetchq)
    script = (
        "import sys; sys.argv = ['fetchq', 'worker', '--check', '--timeout', '20']\n"
        "from fetchq_worker.cli import main\n"
        "try: main()\n"
        "finally: print(*sys.modules)\n"
    )
    environ = {**os.environ, "FETCHQ_RUNTIME_DIR": str(fetchq.runtime_folder)}
    said = subprocess.run([sys.executable, "-c", script], env=environ, capture_output=True, text=True, check=True)
    loaded = {name.partition(".")[0] for name in said.stdout.split()}
    assert not loaded & {"typer", "redis", "msgspec", "asyncio", "arq", "pathlib", "ssl", "logging"}


def test_a_check_costs_less_than_150_ms_and_25_mb() -> None:
    costs = measure(3)
    assert min(cost.cpu_s for cost in costs) < 0.15
    assert max(cost.memory_mb for cost in costs) < 25
