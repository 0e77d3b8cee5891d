"""Limits, pauses and hosts on the command line, against a real Redis."""

from __future__ import annotations

import json
from collections.abc import Sequence
from subprocess import CompletedProcess
from typing import Any

import pytest
from tests.support.redis_server import RedisServer

from .conftest import Fetchq, Site, wait_until

HOST = "127.0.0.1"


class At:
    """The command on one Redis."""

    def __init__(self, fetchq: Fetchq, server: RedisServer) -> None:
        self.fetchq = fetchq
        self.environ = {"FETCHQ_REDIS_URL": server.url}

    def run(self, *arguments: str) -> CompletedProcess[str]:
        return self.fetchq.run(*arguments, environ=self.environ)

    def say(self, *arguments: str) -> str:
        """The output of a successful command."""
        done = self.run(*arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def state(self, *arguments: str) -> dict[str, Any]:
        state: dict[str, Any] = json.loads(self.say("status", "--json", *arguments))
        return state


@pytest.fixture
def at(fetchq: Fetchq, redis_server: RedisServer) -> At:
    return At(fetchq, redis_server)


def test_limits_are_set_shown_and_cleared(at: At) -> None:
    assert "up to 8 fetches at a time" in at.run("limits", "show").stderr
    set_now = at.say("limits", "set", "EXAMPLE.org", "--rate", "1/s", "--concurrency", "2")
    assert set_now == "example.org  concurrency 2, rate 1/s\n"
    set_now = at.say("limits", "set", "example.org", "--burst", "3", "--min-delay", "0.5")
    assert set_now == "example.org  concurrency 2, rate 1/s, burst 3, min delay 0.5 s\n"
    at.say("limits", "set", "*", "--concurrency", "4")
    at.say("limits", "pause", "*.example.org")
    assert at.say("limits", "show").splitlines() == [
        "*              concurrency 4",
        "*.example.org  paused",
        "example.org    concurrency 2, rate 1/s, burst 3, min delay 0.5 s",
    ]
    assert at.say("limits", "show", "www.Example.org") == ("www.example.org  concurrency 4, min delay 0 s, paused\n")
    shown = json.loads(at.say("limits", "show", "--json"))
    assert shown["example.org"]["rate"] == "1/s"
    assert at.say("limits", "clear", "example.org") == ""
    again = at.run("limits", "clear", "example.org")
    assert (again.returncode, again.stderr) == (
        1,
        "fetchq: no limits are set for example.org; see fetchq limits show\n",
    )


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("set", "example.org"), "name a limit: --concurrency, --rate, --burst or --min-delay"),
        (("set", "example.org", "--rate", "fast"), "--rate: takes a number per time, such as 2/s"),
        (("set", "example.org", "--concurrency", "0"), "--concurrency: 0 is not between 1 and 100000"),
        (("pause", "http://example.org/"), "host: takes a host such as example.org"),
        (("show", "a b"), "host: takes a host such as example.org"),
    ],
)
def test_an_invalid_limit_is_one_sentence(at: At, arguments: Sequence[str], says: str) -> None:
    done = at.run("limits", *arguments)
    assert done.returncode == 2
    assert done.stderr.startswith(f"fetchq: {says}")
    assert done.stderr.count("\n") == 1


def test_jobs_of_a_paused_host_wait_until_it_is_resumed(at: At, site: Site) -> None:
    at.say("limits", "pause", HOST)
    ids = at.say("enqueue", *[f"{site.url}/page/{number}" for number in range(3)]).split()
    state = at.state("--hosts")
    assert (state["due"], state["waiting"], state["deferred"]) == (0, 3, 0)
    [host] = state["hosts"]
    assert (host["host"], host["waiting"], host["paused"]) == (HOST, 3, True)
    table = at.say("status", "--hosts").splitlines()[-2:]
    assert table[0].split() == ["host", "waiting", "due", "running", "next", "start", "last", "outcome"]
    assert table[1].split() == [HOST, "3", "0", "0", "paused"]
    at.say("limits", "resume", HOST)
    at.say("worker", "--burst")
    assert [json.loads(at.say("result", job_id))["status"] for job_id in ids] == ["OK"] * 3
    assert "hosts" not in at.state()
    assert at.state("--hosts")["hosts"] == []


def test_a_paused_queue_starts_nothing_until_it_is_resumed(at: At, site: Site) -> None:
    at.say("pause")
    job_id = at.say("enqueue", f"{site.url}/page/1").strip()
    assert at.state()["paused"] is True
    assert "paused    no job starts until fetchq resume\n" in at.say("status")
    worker = at.fetchq.start("worker", environ=at.environ)
    wait_until(lambda: at.state()["workers"], "a heartbeat")
    assert not site.hits
    at.say("resume")
    assert json.loads(at.say("result", job_id))["status"] == "OK"
    assert at.state()["paused"] is False
    worker.terminate()


def test_running_and_waiting_fetches_of_a_host_are_cancelled(at: At, site: Site) -> None:
    at.say("limits", "set", HOST, "--concurrency", "2")
    ids = at.say("enqueue", *[f"{site.url}/gate/{number}" for number in range(5)]).split()
    other = at.say("enqueue", f"http://example.invalid:{site.server_address[1]}/", "--delay", "3600").strip()
    worker = at.fetchq.start("worker", environ=at.environ)
    wait_until(lambda: len(site.hits) == 2, "the second fetch")
    running = at.state("--hosts")["hosts"]
    assert [(host["host"], host["waiting"], host["running"]) for host in running] == [(HOST, 3, 2)]
    assert at.say("cancel", "--host", HOST) == "3 cancelled, 2 running and asked to stop\n"
    assert {json.loads(at.run("result", job_id).stdout)["status"] for job_id in ids} == {"CANCELLED"}
    assert len(site.hits) == 2
    assert at.say("cancel", other) == f"{other} cancelled\n"
    worker.terminate()


def test_per_host_limits_the_fetches_of_one_host_at_a_time(fetchq: Fetchq, site: Site) -> None:
    urls = [f"{site.url}/gate/{number}" for number in range(12)]
    process = fetchq.start("fetch", *urls, "--no-robots", "--per-host", "11")
    wait_until(lambda: len(site.hits) == 11, "the eleventh fetch")
    site.gate.set()
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert len(out.splitlines()) == 12


def test_per_host_is_refused_on_a_shared_redis(at: At, site: Site) -> None:
    done = at.run("fetch", f"{site.url}/page/1", "--per-host", "4")
    assert done.returncode == 2
    assert "fetchq limits set '*' --concurrency N" in done.stderr
    assert not site.hits
