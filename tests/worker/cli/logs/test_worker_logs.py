"""What `fetchq worker` logs: each job that failed for good, in one shape, beside a logging set-up of the user's."""

from __future__ import annotations

import json
import pickle
import re
from typing import Any

import pytest
from redis import Redis as RedisClient
from tests.support.ports import free_port
from tests.support.redis_server import RedisServer
from tests.worker.cli.conftest import PATIENCE_S, Fetchq, Site, at

from fetchq import SyncProducer

SECRET = "s3cret"
JOBS = """
import logging
from fetchq_worker import worker_settings

async def boom(ctx, text):
    logging.getLogger("mine").warning("about to fail")
    raise ValueError(text)

async def fine(ctx):
    return b"s3cret"

Mine = worker_settings(functions=[boom, fine])
"""


@pytest.fixture
def run(fetchq: Fetchq, site: Site, redis_server: RedisServer) -> Any:
    """Runs a worker on a failing fetch, a failing coroutine, a fine one and an unknown one; returns its stderr.

    In a process of its own, since a settings module sets up the logging of its process.
    """

    def run(*flags: str, module: str = JOBS, **environ: str) -> str:
        (fetchq.folder / "my_jobs.py").write_text(module)
        fetchq.run("enqueue", f"{site.url}/nowhere?{SECRET}=1", "--header", f"x: {SECRET}", environ=at(redis_server))
        with SyncProducer.from_url(redis_server.url) as producer:
            producer.enqueue_job("boom", f"bad\nforged https://h/?x={SECRET} {SECRET.encode()!r}")
            producer.enqueue_job("fine")
            producer.enqueue_job("unknown", SECRET.encode())
        environ = {**at(redis_server), **environ}
        worker = fetchq.start("worker", "--burst", "--settings", "my_jobs:Mine", *flags, environ=environ)
        said = worker.communicate(timeout=PATIENCE_S)[1]
        assert worker.returncode == 0, said
        assert SECRET not in said or module is not JOBS, "lines of the user's shape have what Python puts there"
        return said

    return run


def failures(said: str) -> dict[str, str]:
    """The lines of failed jobs by the job's function."""
    return {found[1]: line for line in said.splitlines() if (found := re.search(r"job\.failed .*function=(\S+)", line))}


def test_a_worker_logs_each_job_that_failed_for_good_and_no_other(run: Any) -> None:
    said = run()
    lines = failures(said)
    assert lines.keys() == {"fetch_data", "boom", "unknown"}
    assert said.count("job.failed") == 3
    fetch = lines["fetch_data"]
    assert "WARNING fetchq.jobs job.failed id=" in fetch
    assert "status=HTTP_ERROR attempts=1 dead_letter=no url=http://127.0.0.1:" in fetch
    assert fetch.endswith("/nowhere?... error=the server responded 404 Not Found")
    assert "ERROR fetchq.jobs" in lines["boom"]
    assert lines["boom"].endswith(
        r"status=ValueError attempts=1 dead_letter=yes error=bad\nforged https://h/?... b'...'"
    )
    assert "status=INVALID_JOB" in lines["unknown"]
    assert "    Traceback (most recent call last):" in said.splitlines()
    assert said.count("ValueError: bad") == 1, "one traceback"
    assert "WARNING mine about to fail" in said
    assert "arq.worker" not in said
    assert "fine" not in said
    time = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z [A-Z]+ [a-z.]+ "
    assert all(re.match(rf"{time}|    ", line) for line in said.splitlines())


def test_a_worker_logs_json_lines(run: Any) -> None:
    lines = [json.loads(line) for line in run(FETCHQ_LOG_FORMAT="JSON").splitlines()]
    failed = {line["function"]: line for line in lines if line.get("event") == "job.failed"}
    assert failed.keys() == {"fetch_data", "boom", "unknown"}
    assert failed["fetch_data"]["attempts"] == 1
    assert failed["boom"]["traceback"].startswith("Traceback")
    assert {line["message"] for line in lines if line["logger"] == "mine"} == {"about to fail"}
    assert {line["event"] for line in lines if line["level"] == "info"} == {"worker.started", "worker.stopped"}


def test_a_job_that_took_too_long_is_logged_with_the_line_at_which_it_was(
    fetchq: Fetchq, redis_server: RedisServer
) -> None:
    (fetchq.folder / "slow_jobs.py").write_text(
        "import asyncio\n\nasync def sleeper(ctx):\n    await asyncio.sleep(60)  # here\n\n"
        "class Mine:\n    functions = [sleeper]\n    job_timeout = 0.05\n"
    )
    job: dict[str, Any] = {"t": None, "f": "sleeper", "a": (), "k": {}, "et": 1}
    with RedisClient.from_url(redis_server.url) as client:
        client.set("arq:job:one", pickle.dumps(job))
        client.zadd("arq:queue", {"one": 1})
    worker = fetchq.start("worker", "--burst", "--settings", "slow_jobs:Mine", environ=at(redis_server))
    said = worker.communicate(timeout=PATIENCE_S)[1]
    assert failures(said)["sleeper"].endswith("status=TimeoutError attempts=1 dead_letter=no error=")
    assert "    TimeoutError" in said.splitlines()
    assert "await asyncio.sleep(60)  # here" in said


def test_a_flag_for_log_jobs_outranks_the_variable_for_verbose(run: Any) -> None:
    assert "job.failed" not in run("--log-jobs", "none", FETCHQ_VERBOSE="1")


def test_jobs_that_cannot_be_read_have_one_line_each_without_their_payload(
    fetchq: Fetchq, redis_server: RedisServer
) -> None:
    payloads = {"text": f'"{SECRET}"'.encode() * 9, "pickle": pickle.dumps({"a": (SECRET,)}), "two\nlines": b""}
    with RedisClient.from_url(redis_server.url) as client:
        for job_id, payload in payloads.items():
            client.set(f"arq:job:{job_id}", payload)
            client.zadd("arq:queue", {job_id: 1})
        client.zadd("arq:queue", {"expired": 1})
    said = fetchq.run("worker", "--burst", "--log-jobs", "all", environ=at(redis_server)).stderr
    assert SECRET not in said
    lines = [line for line in said.splitlines() if "worker.st" not in line and "INFO arq.worker" not in line]
    assert sorted(re.findall(r"ERROR fetchq\.jobs job\.failed id=(\S+) ", "\n".join(lines))) == sorted(
        ["text", "pickle", r"two\nlines", "expired"]
    )
    assert len(lines) == 4


def test_log_jobs_none_and_all(run: Any) -> None:
    assert "job." not in run("--log-jobs", "none")
    everything = run("--log-jobs", "all")
    assert len(failures(everything)) == 3
    assert len(re.findall(r"INFO arq\.worker .* → ", everything)) == 3
    assert everything.count("fetch.finished") == 1
    assert "failed, ValueError" not in everything, "arq's line about the same failure"
    assert run("-v").count(" → ") == 3


def test_a_retry_has_a_line_only_if_all_jobs_have(fetchq: Fetchq, redis_server: RedisServer) -> None:
    for flags, count in (((), 0), (("--log-jobs", "all"), 1)):
        fetchq.run("enqueue", f"http://127.0.0.1:{free_port()}/", "--max-tries", "2", environ=at(redis_server))
        said = fetchq.run("worker", "--burst", *flags, environ=at(redis_server)).stderr
        assert said.count("fetch.retried") == count, said
        assert said.count("job.failed") == 1


def test_the_log_level_is_a_setting(run: Any) -> None:
    assert "INFO" not in run("--log-level", "warning")
    assert not run(FETCHQ_LOG_LEVEL="ERROR", FETCHQ_LOG_JOBS="none")
    assert "DEBUG" in run("--log-level", "DEBUG")


@pytest.mark.parametrize(
    ("flag", "sentence"),
    [
        ("--log-format", "takes text or json, not 'loud'"),
        ("--log-jobs", "takes none, failed or all, not 'loud'"),
        ("--log-level", "takes debug, info, warning or error, not 'loud'"),
    ],
)
def test_another_value_is_wrong_usage(fetchq: Fetchq, flag: str, sentence: str) -> None:
    for done in (
        fetchq.run("worker", flag, "loud"),
        fetchq.run("worker", environ={f"FETCHQ_{flag.strip('-').replace('-', '_').upper()}": "loud"}),
    ):
        assert done.returncode == 2
        assert sentence in done.stderr


ODD = """
import logging, sys, threading, warnings
from fetchq_worker import worker_settings

class Odd:
    def __del__(self):
        sys.exit("odd")

def end():
    raise LookupError("in a thread")

async def boom(ctx, text):
    Odd()
    warnings.warn("old\\nway", DeprecationWarning)
    thread = threading.Thread(target=end)
    thread.start()
    thread.join()
    logging.getLogger("mine").error("%d", "one")

async def fine(ctx):
    return object()

Mine = worker_settings(functions=[boom, fine])
"""


def test_what_python_prints_itself_is_a_line_of_the_same_shape(run: Any) -> None:
    said = run("--log-format", "json", module=ODD, PYTHONWARNINGS="default")
    lines = [json.loads(line) for line in said.splitlines()]
    events = {line.get("event"): line for line in lines}
    assert "SystemExit: odd" in events["python.exception_ignored"]["traceback"]
    assert "LookupError: in a thread" in events["python.thread_failed"]["traceback"]
    assert events["log.not_shown"]["logger"] == "mine"
    assert any("DeprecationWarning: old" in line.get("message", "") for line in lines)
    [fine] = [line for line in lines if line.get("function") == "fine"]
    assert fine["event"] == "job.failed"
    assert fine["status"] == "SerializationError"


def test_the_root_set_up_of_a_settings_module_is_left_as_it_is(run: Any) -> None:
    module = JOBS + 'logging.basicConfig(level="INFO", format="MINE %(name)s %(message)s")\n'
    said = run("--log-format", "json", module=module)
    assert said.count("job.failed") == 3
    assert said.count("about to fail") == 1
    starts = {line.split()[0] for line in said.splitlines() if re.match(r"\S", line)}
    assert starts <= {"MINE", "Traceback", "ValueError:", "forged"}, "lines of the user's shape, and their tracebacks"


CONFIG = """
import logging.config
logging.config.dictConfig({
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"mine": {"format": "MINE %(name)s %(message)s"}},
    "handlers": {"mine": {"class": "logging.StreamHandler", "formatter": "mine"}},
    "loggers": {NAMES},
})
"""


@pytest.mark.parametrize("names", [("arq",), ("fetchq",), ("fetchq", "arq"), ("fetchq.jobs",)])
def test_the_set_up_of_some_loggers_is_left_as_it_is_and_no_line_is_doubled(run: Any, names: tuple[str, ...]) -> None:
    loggers = ",".join(f'"{name}": {{"handlers": ["mine"], "level": "INFO"}}' for name in names)
    said = run(module=JOBS + CONFIG.replace("NAMES", loggers))
    assert said.count("job.failed") == 3
    theirs = {line.split()[1] for line in said.splitlines() if line.startswith("MINE")}
    assert theirs
    assert all(any(f"{one}.".startswith(f"{name}.") for name in names) for one in theirs)
    ours = {line.split()[2] for line in said.splitlines() if re.match(r"\d{4}-", line)}
    assert not theirs & ours


HOOK = """
async def start(ctx):
    set_up()

Mine = worker_settings(functions=[boom, fine], on_startup=start)

def set_up():
"""


def test_a_set_up_in_a_start_hook_doubles_no_line(run: Any) -> None:
    config = CONFIG.replace("NAMES", '"fetchq": {"handlers": ["mine"], "level": "INFO"}')
    said = run(
        module=JOBS
        + HOOK
        + "".join(f"    {line}\n" for line in ("import logging.config", config)).replace("\n", "\n    ")
    )
    assert said.count("job.failed") == 3
    assert said.count("MINE fetchq.jobs job.failed") == 3


def test_a_supervisor_and_its_processes_log_in_one_shape(fetchq: Fetchq, redis_server: RedisServer) -> None:
    environ = {**at(redis_server), "FETCHQ_LOG_FORMAT": "json"}
    done = fetchq.run_process("worker", "--processes", "2", "--burst", environ=environ)
    events = [json.loads(line)["event"] for line in done.stderr.splitlines()]
    assert events.count("worker.stopped") == 2
    assert events.count("worker.started") == 4, "by the supervisor and by each process"
