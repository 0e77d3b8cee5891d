"""`fetchq worker`, against a real Redis."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time

import pytest
from redis import Redis as RedisClient
from tests.support.redis_server import RedisServer

from .conftest import NO_REDIS, PATIENCE_S, Fetchq, Site, at, wait_until


def test_a_stopping_worker_finishes_its_running_jobs(fetchq: Fetchq, site: Site, redis_server: RedisServer) -> None:
    job_id = fetchq.run("enqueue", f"{site.url}/gate/1", environ=at(redis_server)).stdout.strip()
    worker = fetchq.start("worker", stderr=subprocess.DEVNULL, environ=at(redis_server))
    wait_until(lambda: site.hits["/gate/1"], "the fetch")
    state = json.loads(fetchq.run("status", "--json", environ=at(redis_server)).stdout)
    assert (state["due"], state["deferred"], state["running"]) == (0, 0, 1)
    assert [one["pid"] for one in state["workers"]] == [worker.pid]
    assert f"(pid {worker.pid}, " in fetchq.run("status", environ=at(redis_server)).stdout
    worker.send_signal(signal.SIGTERM)
    with pytest.raises(subprocess.TimeoutExpired):
        worker.wait(0.5)
    site.gate.set()
    assert worker.wait(PATIENCE_S) == 0
    assert json.loads(fetchq.run("result", job_id, environ=at(redis_server)).stdout)["text"] == "open"
    assert site.hits["/gate/1"] == 1


def test_fetches_that_exceed_the_grace_time_are_requeued_uncounted_and_the_worker_ends_in_time(
    fetchq: Fetchq, site: Site, redis_server: RedisServer
) -> None:
    count, grace_s = 100, 1
    environ = at(redis_server)
    fetchq.run("limits", "set", "*", "--concurrency", str(count), environ=environ)
    ids = fetchq.run("enqueue", *(f"{site.url}/gate/{n}" for n in range(count)), environ=environ).stdout.split()
    options = ("--concurrency", str(count), "--grace", str(grace_s))
    worker = fetchq.start("worker", *options, stderr=subprocess.DEVNULL, environ=environ)
    wait_until(lambda: len(site.hits) == count, "a hundred fetches at a time")
    told_at = time.monotonic()
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(PATIENCE_S) == 0
    assert time.monotonic() - told_at < grace_s + 2, "and what a process takes to end on a busy machine"
    with RedisClient.from_url(redis_server.url) as client:
        assert {job_id.decode() for job_id in client.zrange("arq:queue", 0, -1)} == set(ids)
        assert client.exists(*(f"arq:job:{job_id}" for job_id in ids)) == count
        assert client.exists(*(f"arq:{kind}:{job_id}" for kind in ("retry", "in-progress") for job_id in ids)) == 0
        assert client.hlen("fetchq:leases:arq:queue") == 0
    site.gate.set()
    assert fetchq.run("worker", "--burst", environ=environ).returncode == 0
    for job_id in ids[:: count // 10]:
        result = json.loads(fetchq.run("result", job_id, environ=environ).stdout)
        assert (result["text"], len(result["attempts"])) == ("open", 1)


def test_a_worker_counts_outcomes_by_name_and_logs_each_if_asked(
    fetchq: Fetchq, site: Site, redis_server: RedisServer
) -> None:
    urls = (f"{site.url}/page/1", f"{site.url}/json", f"{site.url}/nowhere")
    for flags in ((), ("--verbose",)):
        fetchq.run("enqueue", *urls, "--max-tries", "1", environ=at(redis_server))
        said = fetchq.run("worker", "--burst", *flags, environ=at(redis_server)).stderr
        assert "complete=3 failed=0 retried=0 OK=2 HTTP_ERROR=1" in said
        finished = [line for line in said.splitlines() if "fetch.finished" in line]
        if not flags:
            assert finished == []
            continue
        assert len(finished) == 3
        [failed] = [line for line in finished if "/nowhere" in line]
        assert "status=HTTP_ERROR http_status=404" in failed


def test_several_processes_stop_together_and_each_has_worked(
    fetchq: Fetchq, site: Site, redis_server: RedisServer
) -> None:
    ids = fetchq.run("enqueue", *(f"{site.url}/gate/{n}" for n in range(2)), environ=at(redis_server)).stdout.split()
    worker = fetchq.start(
        "worker", "--processes", "2", "--concurrency", "1", stderr=subprocess.DEVNULL, environ=at(redis_server)
    )
    wait_until(lambda: len(site.hits) == 2, "two fetches at a time")  # each process runs one
    site.gate.set()
    for job_id in ids:
        assert json.loads(fetchq.run("result", job_id, environ=at(redis_server)).stdout)["text"] == "open"
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(PATIENCE_S) == 0


def test_several_processes_without_redis_end_with_exit_status_3(fetchq: Fetchq) -> None:
    done = fetchq.run_process("worker", "--processes", "2", "--redis", NO_REDIS)
    assert done.returncode == 3
    assert "start Redis" in done.stderr


SETTINGS_MODULE = """
from fetchq_worker import worker_settings

async def double(ctx, number):
    return {"twice": 2 * number}

Mine = worker_settings(functions=[double], queue_name="mine")
NOT_A_CLASS = 1
"""


def test_a_worker_runs_the_users_functions(fetchq: Fetchq, redis_server: RedisServer) -> None:
    (fetchq.folder / "my_settings.py").write_text(SETTINGS_MODULE)
    script = (
        "import asyncio, sys\n"
        "from fetchq import Producer\n"
        "async def main():\n"
        "    async with Producer.from_url(sys.argv[1], queue='mine') as producer:\n"
        "        print((await producer.enqueue_job('double', 21)).id)\n"
        "asyncio.run(main())\n"
    )
    made = subprocess.run([sys.executable, "-c", script, redis_server.url], capture_output=True, text=True, check=True)
    job_id = made.stdout.strip()
    assert fetchq.run("worker", "--burst", "--settings", "my_settings:Mine", environ=at(redis_server)).returncode == 0
    shown = fetchq.run("result", job_id, "--queue", "mine", environ=at(redis_server))
    assert json.loads(shown.stdout) == {"twice": 42}


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("my_settings", "--settings takes module.Class or module:Class, not 'my_settings'"),
        ("nowhere.settings:Mine", "there is no module 'nowhere.settings' here"),
        ("my_settings:Yours", "my_settings has no 'Yours'"),
        (
            "my_settings.NOT_A_CLASS",
            "my_settings.NOT_A_CLASS is of type int; it must be a class, a dict, or have a __dict__",
        ),
    ],
)
def test_an_invalid_settings_class_is_wrong_usage(fetchq: Fetchq, name: str, sentence: str) -> None:
    (fetchq.folder / "my_settings.py").write_text(SETTINGS_MODULE)
    done = fetchq.run("worker", "--settings", name, "--redis", NO_REDIS)
    assert done.returncode == 2
    assert sentence in done.stderr
