"""`fetchq enqueue`, `result`, `cancel` and `status`, against a real Redis."""

from __future__ import annotations

import json
import signal

import pytest
from redis import Redis as RedisClient
from tests.support.redis_server import RedisServer

from fetchq.store.keys import Keys

from .conftest import NO_REDIS, PATIENCE_S, Fetchq, Site, at, jobs_of


def test_a_fetch_is_enqueued_run_and_its_result_printed(fetchq: Fetchq, site: Site, redis_server: RedisServer) -> None:
    enqueued = fetchq.run(
        "enqueue", f"{site.url}/json", f"{site.url}/nowhere", "--max-tries", "1", environ=at(redis_server)
    )
    assert enqueued.returncode == 0
    good, bad = enqueued.stdout.split()
    state = json.loads(fetchq.run("status", "--json", environ=at(redis_server)).stdout)
    assert (state["due"], state["deferred"], state["running"]) == (2, 0, 0)
    assert fetchq.run("worker", "--burst", environ=at(redis_server)).returncode == 0
    shown = fetchq.run("result", good, environ=at(redis_server))
    assert shown.returncode == 0
    assert json.loads(shown.stdout)["text"] == "[42]"
    assert fetchq.run("result", good, "--body", environ=at(redis_server)).stdout == "[42]"
    failed = fetchq.run("result", bad, environ=at(redis_server))
    assert failed.returncode == 1
    assert json.loads(failed.stdout)["http_status"] == 404


def test_a_result_timeout_is_one_sentence(fetchq: Fetchq, redis_server: RedisServer) -> None:
    job_id = fetchq.run("enqueue", "http://127.0.0.1/", environ=at(redis_server)).stdout.strip()
    late = fetchq.run("result", job_id, "--timeout", "0.2", environ=at(redis_server))
    assert late.returncode == 1
    assert late.stderr == f"fetchq: job {job_id} had no result after 0.2 s\n"


def test_an_unknown_job_is_one_sentence(fetchq: Fetchq, redis_server: RedisServer) -> None:
    for command in ("result", "cancel"):
        done = fetchq.run(command, "unknown", environ=at(redis_server))
        assert done.returncode == 1
        assert "no job and no result under id 'unknown'" in done.stderr


def test_a_job_can_be_cancelled(fetchq: Fetchq, redis_server: RedisServer) -> None:
    job_id = fetchq.run("enqueue", "http://127.0.0.1/", "--delay", "3600", environ=at(redis_server)).stdout.strip()
    assert json.loads(fetchq.run("status", "--json", environ=at(redis_server)).stdout)["deferred"] == 1
    assert fetchq.run("cancel", job_id, environ=at(redis_server)).stdout == f"{job_id} cancelled\n"
    again = fetchq.run("cancel", job_id, "--json", environ=at(redis_server))
    assert json.loads(again.stdout) == {"id": job_id, "outcome": "finished"}
    assert json.loads(fetchq.run("result", job_id, environ=at(redis_server)).stdout)["status"] == "CANCELLED"


def test_jobs_are_cancelled_by_their_tag_or_all_at_once(fetchq: Fetchq, redis_server: RedisServer) -> None:
    fetchq.run("enqueue", "http://127.0.0.1/1", "http://127.0.0.1/2", "--tag", "feeds", environ=at(redis_server))
    fetchq.run("enqueue", "http://127.0.0.1/3", environ=at(redis_server))
    assert fetchq.run("cancel", "--tag", "feeds", environ=at(redis_server)).stdout.startswith("2 cancelled")
    assert fetchq.run("cancel", "--all", environ=at(redis_server)).stdout.startswith("1 cancelled")
    counts = json.loads(fetchq.run("cancel", "--all", "--json", environ=at(redis_server)).stdout)
    assert counts == {"cancelled": 0, "requested": 0}
    assert json.loads(fetchq.run("status", "--json", environ=at(redis_server)).stdout)["due"] == 0


@pytest.mark.parametrize("arguments", [(), ("anid", "--all"), ("--tag", "a", "--all")])
def test_cancel_accepts_ids_or_filters_or_all_but_only_one_of_these(
    fetchq: Fetchq, redis_server: RedisServer, arguments: tuple[str, ...]
) -> None:
    done = fetchq.run("cancel", *arguments, environ=at(redis_server))
    assert done.returncode == 2
    assert "--tag TAG" in done.stderr


def test_a_bad_url_among_the_arguments_is_named_and_nothing_is_enqueued(
    fetchq: Fetchq, redis_server: RedisServer
) -> None:
    done = fetchq.run("enqueue", "http://127.0.0.1/", "nonsense", environ=at(redis_server))
    assert done.returncode == 2
    assert done.stderr == "fetchq: 'nonsense' is not an absolute URL\n"
    assert jobs_of(redis_server) == []


@pytest.mark.parametrize("name", ["nowhere.txt", "."])
def test_a_file_that_cannot_be_read_is_named_and_nothing_is_enqueued(
    fetchq: Fetchq, redis_server: RedisServer, name: str
) -> None:
    done = fetchq.run("enqueue", "http://127.0.0.1/", "--from", name, environ=at(redis_server))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"fetchq: cannot read {name}: ")
    assert jobs_of(redis_server) == []


def test_bad_lines_of_a_file_are_named_and_the_others_enqueued(fetchq: Fetchq, redis_server: RedisServer) -> None:
    lines = "# list\nhttp://127.0.0.1/1\nnonsense\nhttp://127.0.0.1/2\n"
    done = fetchq.run("enqueue", "--from", "-", stdin=lines, environ=at(redis_server))
    assert done.returncode == 2
    assert "'nonsense' is not an absolute URL" in done.stderr
    assert len(done.stdout.split()) == 2


def test_the_same_key_gives_the_same_job_and_another_request_under_it_is_refused(
    fetchq: Fetchq, redis_server: RedisServer
) -> None:
    ids = {fetchq.run("enqueue", "http://127.0.0.1/", "--key", "k", environ=at(redis_server)).stdout for _ in range(2)}
    assert len(ids) == 1
    refused = fetchq.run("enqueue", "http://127.0.0.1/other", "--key", "k", environ=at(redis_server))
    assert refused.returncode == 1
    assert "belongs to job" in refused.stderr


def test_a_request_carries_method_headers_and_body(fetchq: Fetchq, redis_server: RedisServer) -> None:
    fetchq.run(
        "enqueue", "http://127.0.0.1/", "-H", "X-One: 1", "--body", "größe", "--key", "k", environ=at(redis_server)
    )
    same = ("--method", "POST", "--header", "X-One:1", "--key", "k", "--body-file", "-")
    assert fetchq.run("enqueue", "http://127.0.0.1/", *same, stdin="größe", environ=at(redis_server)).returncode == 0


def test_a_job_goes_into_its_lane_and_under_its_limit_key(fetchq: Fetchq, redis_server: RedisServer) -> None:
    with RedisClient.from_url(redis_server.url) as redis:
        redis.hset(Keys().limits, "key:tenant-a", "p=1")
        arguments = ("--priority", "high", "--limit-key", "tenant-a")
        [job_id] = fetchq.run("enqueue", "http://127.0.0.1/", *arguments, environ=at(redis_server)).stdout.split()
        assert redis.zrange(f"{Keys().waiting}key:tenant-a", 0, -1) == [job_id.encode()]
    refused = fetchq.run("enqueue", "http://127.0.0.1/", "--priority", "urgent", environ=at(redis_server))
    assert refused.returncode == 2
    assert "takes high, default or low" in refused.stderr


def test_a_body_can_be_json_as_it_is_typed_or_the_fields_of_a_form(fetchq: Fetchq, redis_server: RedisServer) -> None:
    def same(*arguments: str) -> bool:
        ids = [
            fetchq.run("enqueue", "http://127.0.0.1/", "--key", arguments[1], *way, environ=at(redis_server)).stdout
            for way in (
                arguments,
                (
                    "-X",
                    "POST",
                    "-H",
                    f"Content-Type: application/{KINDS[arguments[0]][0]}",
                    "--body",
                    KINDS[arguments[0]][1],
                ),
            )
        ]
        return len(ids[0]) > 1 and ids[0] == ids[1]

    assert same("--json", '{"a": 1}')
    assert same("--form", "a=b c")
    for bad in ("--json", "{"), ("--form", "nonsense"):
        done = fetchq.run("enqueue", "http://127.0.0.1/", *bad, "--redis", NO_REDIS)
        assert done.returncode == 2
        assert f"{bad[0]} takes" in done.stderr


KINDS = {"--json": ("json", '{"a": 1}'), "--form": ("x-www-form-urlencoded", "a=b+c")}
"""The request with this body as bytes."""


def test_a_deadline_that_is_past_is_wrong_usage(fetchq: Fetchq) -> None:
    done = fetchq.run("enqueue", "http://127.0.0.1/", "--deadline", "-5", "--redis", NO_REDIS)
    assert done.returncode == 2
    assert done.stderr == "fetchq: --deadline takes a time after now\n"


def test_a_full_queue_ends_an_enqueue_which_prints_the_ids_that_it_enqueued(
    fetchq: Fetchq, redis_server: RedisServer
) -> None:
    urls = [f"http://127.0.0.1/{n}" for n in range(5)]
    full = fetchq.run("enqueue", *urls, "--max-queued", "3", environ=at(redis_server))
    assert (full.returncode, full.stderr) == (1, "fetchq: the queue arq:queue holds 3 jobs, and max_queued is 3\n")
    ids = full.stdout.split()
    assert len(ids) == 3
    waiting = fetchq.start("enqueue", *urls[3:], "--max-queued", "3", "--when-full", "wait", environ=at(redis_server))
    assert fetchq.run("cancel", *ids[:2], environ=at(redis_server)).returncode == 0
    out, _ = waiting.communicate(timeout=PATIENCE_S)
    assert (waiting.returncode, len(out.split())) == (0, 2)
    late = fetchq.run(
        *("enqueue", urls[0], "--max-queued", "3", "--when-full", "wait", "--full-timeout", "0.1"),
        environ=at(redis_server),
    )
    assert (late.returncode, late.stdout) == (1, "")


def test_a_durability_that_fails_is_reported_with_the_state_of_the_jobs(
    fetchq: Fetchq, redis_server: RedisServer
) -> None:
    url = "http://127.0.0.1/"
    refused = fetchq.run("enqueue", url, "--durability", "fsync", environ=at(redis_server))
    assert (refused.returncode, refused.stdout) == (3, "")
    assert "cannot provide durability='fsync'" in refused.stderr
    doubtful = fetchq.run(
        "enqueue", url, "--durability", "replicated", "--durable-timeout", "0.2", environ=at(redis_server)
    )
    assert doubtful.returncode == 1
    assert f"job {doubtful.stdout.strip()} is on the queue, but not known to be durable" in doubtful.stderr
    wrong = fetchq.run("enqueue", url, "--durability", "disk", environ=at(redis_server))
    assert (wrong.returncode, wrong.stderr) == (
        2,
        "fetchq: --durability: takes memory, fsync or replicated, not 'disk'\n",
    )


def test_ctrl_c_ends_an_enqueue_which_says_how_many_jobs_it_enqueued(fetchq: Fetchq, redis_server: RedisServer) -> None:
    command = fetchq.start("enqueue", "--from", "-", environ=at(redis_server))
    assert command.stdin is not None
    assert command.stdout is not None
    command.stdin.write("http://127.0.0.1/1\n")
    command.stdin.flush()
    job_id = command.stdout.readline().strip()
    command.send_signal(signal.SIGINT)
    said = command.communicate(timeout=PATIENCE_S)[1]
    assert (command.returncode, said) == (130, "fetchq: stopped; jobs enqueued, with their ids on stdout: 1\n")
    assert f"arq:job:{job_id}".encode() in jobs_of(redis_server)
