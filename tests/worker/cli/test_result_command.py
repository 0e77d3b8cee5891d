"""`fetchq result` for many jobs: a line each, as they arrive."""

from __future__ import annotations

import json
import subprocess
from typing import Any

import pytest
from redis import Redis as RedisClient
from tests.support.redis_server import RedisServer

from .conftest import PATIENCE_S, Fetchq, Site, at, read_lines


@pytest.fixture
def ids(fetchq: Fetchq, site: Site, redis_server: RedisServer) -> list[str]:
    """Three finished jobs: two pages, and one that is missing there."""
    urls = (f"{site.url}/page/1", f"{site.url}/json", f"{site.url}/nowhere")
    enqueued = fetchq.run("enqueue", *urls, environ=at(redis_server)).stdout.split()
    assert fetchq.run("worker", "--burst", environ=at(redis_server)).returncode == 0
    return enqueued


def by_id(stdout: str) -> dict[str, dict[str, Any]]:
    return {line["id"]: line for line in map(json.loads, stdout.splitlines())}


def test_each_id_has_a_line_and_a_failure_is_exit_status_1(
    fetchq: Fetchq, redis_server: RedisServer, ids: list[str]
) -> None:
    done = fetchq.run("result", *ids[:2], environ=at(redis_server))
    assert (done.returncode, done.stderr) == (0, "")
    lines = by_id(done.stdout)
    assert [lines[job_id]["status"] for job_id in ids[:2]] == ["OK", "OK"]
    assert lines[ids[0]]["text"] == "<p>größe</p>"

    done = fetchq.run("result", *ids, environ=at(redis_server))
    assert done.returncode == 1
    assert len(by_id(done.stdout)) == 3
    assert done.stderr == f"fetchq: job {ids[2]}: HTTP_ERROR: the server responded 404 Not Found\n"


def test_ids_come_from_a_file_or_stdin_and_lines_go_to_a_file(
    fetchq: Fetchq, redis_server: RedisServer, ids: list[str]
) -> None:
    (fetchq.folder / "ids.txt").write_text(f"# two jobs\n{ids[0]}\n\n{ids[1]}\n")
    done = fetchq.run("result", "--from", "ids.txt", "--out", "out.jsonl", environ=at(redis_server))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert sorted(line["id"] for line in read_lines(fetchq.folder / "out.jsonl")) == sorted(ids[:2])

    again = fetchq.run("result", "--from", "ids.txt", "--out", "out.jsonl", environ=at(redis_server))
    assert again.returncode == 2
    assert again.stderr == "fetchq: out.jsonl contains results: name another file\n"

    piped = fetchq.run("result", ids[1], "--from", "-", stdin=f"{ids[0]}\n", environ=at(redis_server))
    assert (piped.returncode, set(by_id(piped.stdout))) == (0, set(ids[:2]))
    assert fetchq.run("result", "--from", "-", environ=at(redis_server)).returncode == 0


def test_an_unknown_id_is_named_and_the_others_have_their_lines(
    fetchq: Fetchq, redis_server: RedisServer, ids: list[str]
) -> None:
    done = fetchq.run("result", ids[0], "unknown", ids[1], environ=at(redis_server))
    assert done.returncode == 1
    assert done.stderr.startswith("fetchq: no job and no result under id 'unknown'")
    lines = by_id(done.stdout)
    assert lines.keys() == {ids[0], ids[1], "unknown"}
    assert lines["unknown"].keys() == {"id", "error"}


def test_many_unknown_ids_are_counted(fetchq: Fetchq, redis_server: RedisServer) -> None:
    ids = "".join(f"no-{n}\n" for n in range(2500))
    done = fetchq.run("result", "--from", "-", stdin=ids, environ=at(redis_server))
    assert done.returncode == 1
    assert len(by_id(done.stdout)) == 2500
    *named, last = done.stderr.splitlines()
    assert len(named) == 10
    assert last == "fetchq: 2,500 of 2,500 jobs failed or have no result"


@pytest.mark.parametrize("timeout", ["0", "200ms"])
def test_a_job_without_a_result_in_time_has_a_line_that_says_so(
    fetchq: Fetchq, redis_server: RedisServer, site: Site, ids: list[str], timeout: str
) -> None:
    waiting = fetchq.run("enqueue", f"{site.url}/page/2", environ=at(redis_server)).stdout.strip()
    done = fetchq.run("result", waiting, ids[0], "--timeout", timeout, environ=at(redis_server))
    assert done.returncode == 1
    after = {"0": "0", "200ms": "0.2"}[timeout]
    lines = by_id(done.stdout)
    assert lines[waiting] == {"id": waiting, "error": f"job {waiting} had no result after {after} s"}
    assert lines[ids[0]]["status"] == "OK"


def test_lines_are_written_while_other_jobs_run_and_ids_still_arrive(
    fetchq: Fetchq, redis_server: RedisServer, site: Site, ids: list[str]
) -> None:
    slow = fetchq.run("enqueue", f"{site.url}/gate/1", environ=at(redis_server)).stdout.strip()
    worker = fetchq.start("worker", "--burst", stderr=subprocess.DEVNULL, environ=at(redis_server))
    reading = fetchq.start("result", "--from", "-", environ=at(redis_server))
    assert reading.stdin is not None
    assert reading.stdout is not None
    for job_id in (slow, ids[0]):
        reading.stdin.write(f"{job_id}\n")
        reading.stdin.flush()
    assert json.loads(reading.stdout.readline())["id"] == ids[0]
    site.gate.set()
    assert json.loads(reading.stdout.readline())["id"] == slow
    reading.stdin.close()
    reading.stdin = None  # so that the fixture does not write to it
    assert reading.wait(PATIENCE_S) == 0
    assert worker.wait(PATIENCE_S) == 0


def test_the_value_of_another_coroutine_has_its_line(fetchq: Fetchq, redis_server: RedisServer) -> None:
    (fetchq.folder / "two_jobs.py").write_text(
        "from fetchq_worker import worker_settings\n"
        "async def double(ctx, number): return {'twice': 2 * number}\n"
        "async def fail(ctx): raise ValueError('no number')\n"
        "Mine = worker_settings(functions=[double, fail])\n"
        "if __name__ == '__main__':\n"
        "    import sys\n"
        "    from fetchq import SyncProducer\n"
        "    with SyncProducer.from_url(sys.argv[1]) as producer:\n"
        "        producer.enqueue_job('double', 21, _job_id='a'), producer.enqueue_job('fail', _job_id='b')\n"
    )
    assert fetchq.run_script(fetchq.folder / "two_jobs.py", redis_server.url) == 0
    flags = ("worker", "--burst", "--settings", "two_jobs:Mine")
    assert fetchq.start(*flags, stderr=subprocess.DEVNULL, environ=at(redis_server)).wait(PATIENCE_S) == 0
    done = fetchq.run("result", "a", "b", environ=at(redis_server))
    assert done.returncode == 1
    assert by_id(done.stdout) == {
        "a": {"id": "a", "value": {"twice": 42}},
        "b": {"id": "b", "error": "ValueError: no number"},
    }


def test_no_wait_is_left_in_redis(fetchq: Fetchq, redis_server: RedisServer, ids: list[str]) -> None:
    fetchq.run("result", *ids, environ=at(redis_server))
    with RedisClient.from_url(redis_server.url) as client:
        assert client.pubsub_channels("*") == []
