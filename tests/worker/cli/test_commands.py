"""The other commands, against a real Redis."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time

import msgspec
import pytest
import typer.main
from redis import Redis as RedisClient
from tests.support.redis_server import RedisServer

from fetchq import FetchRequest
from fetchq.store.keys import DEFAULT_QUEUE, Keys
from fetchq_worker.cli.app import app
from fetchq_worker.settings import Settings

from .conftest import PATIENCE_S, Fetchq, Site, jobs_of, wait_until

NO_REDIS = "unix:///nowhere/redis.sock"


def at(server: RedisServer) -> dict[str, str]:
    return {"FETCHQ_REDIS_URL": server.url}


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


def test_a_result_that_does_not_come_in_time_is_one_sentence(fetchq: Fetchq, redis_server: RedisServer) -> None:
    job_id = fetchq.run("enqueue", "http://127.0.0.1/", environ=at(redis_server)).stdout.strip()
    late = fetchq.run("result", job_id, "--timeout", "0.2", environ=at(redis_server))
    assert late.returncode == 1
    assert late.stderr == f"fetchq: job {job_id} had no result after 0.2 s\n"


def test_an_unknown_job_is_one_sentence(fetchq: Fetchq, redis_server: RedisServer) -> None:
    for command in ("result", "cancel"):
        done = fetchq.run(command, "nobody", environ=at(redis_server))
        assert done.returncode == 1
        assert "no job and no result under id 'nobody'" in done.stderr


def test_a_job_can_be_cancelled(fetchq: Fetchq, redis_server: RedisServer) -> None:
    job_id = fetchq.run("enqueue", "http://127.0.0.1/", "--delay-s", "3600", environ=at(redis_server)).stdout.strip()
    assert json.loads(fetchq.run("status", "--json", environ=at(redis_server)).stdout)["deferred"] == 1
    assert fetchq.run("cancel", job_id, environ=at(redis_server)).stdout == f"{job_id} cancelled\n"
    assert json.loads(fetchq.run("result", job_id, environ=at(redis_server)).stdout)["status"] == "CANCELLED"


def test_jobs_are_cancelled_by_their_tag_or_all_at_once(fetchq: Fetchq, redis_server: RedisServer) -> None:
    fetchq.run("enqueue", "http://127.0.0.1/1", "http://127.0.0.1/2", "--tag", "feeds", environ=at(redis_server))
    fetchq.run("enqueue", "http://127.0.0.1/3", environ=at(redis_server))
    assert fetchq.run("cancel", "--tag", "feeds", environ=at(redis_server)).stdout.startswith("2 cancelled")
    assert fetchq.run("cancel", "--all", environ=at(redis_server)).stdout.startswith("1 cancelled")
    assert json.loads(fetchq.run("status", "--json", environ=at(redis_server)).stdout)["due"] == 0


@pytest.mark.parametrize("arguments", [(), ("anid", "--all"), ("--tag", "a", "--all")])
def test_what_is_to_be_cancelled_is_said_in_one_way(
    fetchq: Fetchq, redis_server: RedisServer, arguments: tuple[str, ...]
) -> None:
    done = fetchq.run("cancel", *arguments, environ=at(redis_server))
    assert done.returncode == 2
    assert "--tag TAG" in done.stderr


def test_a_check_without_a_worker_fails_in_one_sentence(fetchq: Fetchq, redis_server: RedisServer) -> None:
    done = fetchq.run("worker", "--check", environ=at(redis_server))
    assert done.returncode == 1
    assert "has been heard of lately" in done.stderr


def test_a_bad_url_among_the_arguments_is_named_and_nothing_is_enqueued(
    fetchq: Fetchq, redis_server: RedisServer
) -> None:
    done = fetchq.run("enqueue", "http://127.0.0.1/", "nonsense", environ=at(redis_server))
    assert done.returncode == 2
    assert done.stderr == "fetchq: url: 'nonsense' is not an absolute URL\n"
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
    assert "takes high, default, low" in refused.stderr


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
"""How a body that is given by name looks when it is given whole."""


@pytest.mark.parametrize(
    "arguments",
    [
        ("worker",),
        ("enqueue", "http://127.0.0.1/"),
        ("result", "some-id"),
        ("cancel", "some-id"),
        ("status",),
    ],
)
def test_without_redis_every_command_says_so_in_one_sentence(fetchq: Fetchq, arguments: tuple[str, ...]) -> None:
    done = fetchq.run(*arguments, "--redis", NO_REDIS)
    assert done.returncode == 3
    assert done.stderr.count("\n") == 1
    assert "start Redis, or give its address with --redis or FETCHQ_REDIS_URL" in done.stderr


def test_a_worker_that_is_told_to_stop_finishes_what_it_runs(
    fetchq: Fetchq, site: Site, redis_server: RedisServer
) -> None:
    job_id = fetchq.run("enqueue", f"{site.url}/gate/1", environ=at(redis_server)).stdout.strip()
    worker = fetchq.start("worker", stderr=subprocess.DEVNULL, environ=at(redis_server))
    wait_until(lambda: site.hits["/gate/1"], "the fetch")
    state = json.loads(fetchq.run("status", "--json", environ=at(redis_server)).stdout)
    assert (state["due"], state["deferred"], state["running"]) == (0, 0, 1)
    assert [one["pid"] for one in state["workers"]] == [worker.pid]
    assert f"(pid {worker.pid}, " in fetchq.run("status", environ=at(redis_server)).stdout
    assert "is alive" in fetchq.run("worker", "--check", environ=at(redis_server)).stdout
    worker.send_signal(signal.SIGTERM)
    with pytest.raises(subprocess.TimeoutExpired):
        worker.wait(0.5)
    site.gate.set()
    assert worker.wait(PATIENCE_S) == 0
    assert json.loads(fetchq.run("result", job_id, environ=at(redis_server)).stdout)["text"] == "open"
    assert site.hits["/gate/1"] == 1


def test_a_hundred_fetches_that_outlast_the_time_of_grace_are_given_back_uncounted_and_the_worker_ends_in_it(
    fetchq: Fetchq, site: Site, redis_server: RedisServer
) -> None:
    count, grace_s = 100, 1
    environ = at(redis_server)
    fetchq.run("limits", "set", "*", "--concurrency", str(count), environ=environ)
    ids = fetchq.run("enqueue", *(f"{site.url}/gate/{n}" for n in range(count)), environ=environ).stdout.split()
    options = ("--concurrency", str(count), "--grace-s", str(grace_s))
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


def test_a_worker_that_has_stopped_is_not_alive_any_more(fetchq: Fetchq, redis_server: RedisServer) -> None:
    def check() -> int:
        return fetchq.run("worker", "--check", environ=at(redis_server)).returncode

    worker = fetchq.start("worker", stderr=subprocess.DEVNULL, environ=at(redis_server))
    wait_until(lambda: check() == 0, "a sign of life")
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(PATIENCE_S) == 0
    assert check() == 1
    assert json.loads(fetchq.run("status", "--json", environ=at(redis_server)).stdout)["workers"] == []


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


@pytest.mark.parametrize("command", [("worker",), ("enqueue", "http://127.0.0.1/"), ("fetch", "http://127.0.0.1/")])
def test_a_redis_without_that_database_is_exit_status_3(
    fetchq: Fetchq, redis_server: RedisServer, command: tuple[str, ...]
) -> None:
    done = fetchq.run(*command, "--redis", f"{redis_server.url}?db=99")
    assert done.returncode == 3
    assert "DB index is out of range" in done.stderr
    assert "start Redis" not in done.stderr


@pytest.mark.parametrize("command", [("worker",), ("fetch", "http://127.0.0.1/")])
def test_a_redis_that_would_drop_jobs_is_exit_status_3(fetchq: Fetchq, command: tuple[str, ...]) -> None:
    server = RedisServer("--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru")
    try:
        done = fetchq.run(*command, "--redis", server.url)
    finally:
        server.remove()
    assert done.returncode == 3
    assert "set it to noeviction" in done.stderr


def test_a_full_redis_is_exit_status_3_and_says_what_to_do(fetchq: Fetchq) -> None:
    server = RedisServer("--maxmemory", "500kb")
    try:
        done = fetchq.run("enqueue", "http://127.0.0.1/", "--redis", server.url)
    finally:
        server.remove()
    assert done.returncode == 3
    assert "is full" in done.stderr
    assert "let workers drain it" in done.stderr


@pytest.mark.parametrize("login", ["", ":wrong@"])
def test_a_missing_or_wrong_password_is_said_to_be_one(fetchq: Fetchq, login: str) -> None:
    server = RedisServer("--requirepass", "s3cret", password="s3cret")
    try:
        done = fetchq.run("enqueue", "http://127.0.0.1/", "--redis", server.url.replace("unix://", f"unix://{login}"))
    finally:
        server.remove()
    assert done.returncode == 3
    assert "give its user name and password" in done.stderr
    assert "start Redis" not in done.stderr


def test_a_deadline_that_is_past_is_wrong_usage(fetchq: Fetchq) -> None:
    done = fetchq.run("enqueue", "http://127.0.0.1/", "--deadline-s", "-5", "--redis", NO_REDIS)
    assert done.returncode == 2
    assert done.stderr == "fetchq: --deadline-s takes seconds from now, not -5\n"


@pytest.mark.parametrize(
    ("command", "usage"),
    [("fetch", "[URL]..."), ("enqueue", "[URL]..."), ("result", "{ID}"), ("cancel", "[ID]...")],
)
def test_the_help_names_the_arguments_and_shows_no_types(fetchq: Fetchq, command: str, usage: str) -> None:
    shown = fetchq.run(command, "--help").stdout
    assert shown.startswith(f"Usage: fetchq {command} [OPTIONS] {usage}\n")
    assert "<str>" not in shown
    assert "<list" not in shown
    assert "(none)" not in shown


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


def test_several_processes_without_redis_give_up_as_one_would(fetchq: Fetchq) -> None:
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


def test_a_worker_runs_functions_of_ones_own(fetchq: Fetchq, redis_server: RedisServer) -> None:
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
        ("my_settings", "--settings takes module:Class"),
        ("nowhere.settings:Mine", "there is no module 'nowhere.settings' here"),
        ("my_settings:Yours", "my_settings has no 'Yours'"),
        ("my_settings:NOT_A_CLASS", "is not a class made by worker_settings()"),
    ],
)
def test_settings_that_are_not_there_are_wrong_usage(fetchq: Fetchq, name: str, sentence: str) -> None:
    (fetchq.folder / "my_settings.py").write_text(SETTINGS_MODULE)
    done = fetchq.run("worker", "--settings", name, "--redis", NO_REDIS)
    assert done.returncode == 2
    assert sentence in done.stderr


def test_the_version_and_the_help_load_nothing_heavy(fetchq: Fetchq) -> None:
    assert fetchq.run("--version").stdout == "fetchq 0.1.0\n"
    script = (
        "import sys; from fetchq_worker.cli import main; sys.argv[1:] = ['fetch', '--help']\n"
        "try: main()\n"
        "except SystemExit: print(sorted({'aiohttp', 'arq', 'fakeredis', 'redis', 'rich'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert "--allow-net" in done.stdout
    assert done.stdout.endswith("[]\n")


def test_the_defaults_in_the_help_are_those_of_the_contract_and_the_settings() -> None:
    request = FetchRequest(url="http://a/")
    settings = Settings()
    expected = {
        "timeout": request.timeout_s,
        "max_bytes": request.max_bytes,
        "max_tries": request.retry.max_tries,
        "max_redirects": request.max_redirects,
        "delay_s": request.delay_s,
        "result_ttl_s": request.result_ttl_s,
        "queue": DEFAULT_QUEUE,
        "concurrency": settings.concurrency,
        "grace_s": settings.grace_s,
        "redis_url": settings.redis_url,
    }
    seen = set()
    for name, command in typer.main.get_command(app).commands.items():  # type: ignore[attr-defined]  # it is a group
        for parameter in command.params:
            if parameter.name in expected and not (name in ("fetch", "result") and parameter.default is None):
                assert parameter.default == expected[parameter.name], (name, parameter.name)
                seen.add(parameter.name)
    assert seen == expected.keys()


def test_every_setting_has_a_flag_with_its_variable() -> None:
    [worker] = [c for n, c in typer.main.get_command(app).commands.items() if n == "worker"]  # type: ignore[attr-defined]  # it is a group
    variables = {parameter.envvar for parameter in worker.params}
    assert {f"FETCHQ_{field.name.upper()}" for field in msgspec.structs.fields(Settings)} <= variables


def test_a_full_queue_ends_an_enqueue_that_prints_what_it_took(fetchq: Fetchq, redis_server: RedisServer) -> None:
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
        *("enqueue", urls[0], "--max-queued", "3", "--when-full", "wait", "--full-timeout-s", "0.1"),
        environ=at(redis_server),
    )
    assert (late.returncode, late.stdout) == (1, "")


def test_a_durability_that_is_not_to_be_had_is_told_of_with_what_became_of_the_jobs(
    fetchq: Fetchq, redis_server: RedisServer
) -> None:
    url = "http://127.0.0.1/"
    refused = fetchq.run("enqueue", url, "--durability", "fsync", environ=at(redis_server))
    assert (refused.returncode, refused.stdout) == (3, "")
    assert "cannot promise durability='fsync'" in refused.stderr
    doubtful = fetchq.run(
        "enqueue", url, "--durability", "replicated", "--durable-timeout-s", "0.2", environ=at(redis_server)
    )
    assert doubtful.returncode == 1
    assert f"job {doubtful.stdout.strip()} is on the queue, but not known to be durable" in doubtful.stderr
    wrong = fetchq.run("enqueue", url, "--durability", "disk", environ=at(redis_server))
    assert (wrong.returncode, wrong.stderr) == (
        2,
        "fetchq: durability: takes memory, fsync or replicated, not 'disk'\n",
    )
