"""A Redis that accepts commands and does not reply: every command reports it soon, and ends."""

from __future__ import annotations

import signal
import time

import pytest
from tests.support.redis_server import RedisServer

from fetchq.command import redis_answer
from fetchq_worker.engine import preflight

from .conftest import PATIENCE_S, Fetchq, Site, read_lines, wait_until

START_UP_S = 10.0
"""The time of a command on a busy machine, without its timeouts."""


@pytest.mark.parametrize(
    "arguments",
    [
        ("status",),
        ("metrics",),
        ("enqueue", "http://127.0.0.1/"),
        ("cancel", "some-id"),
        ("result", "some-id"),
        ("fetch", "http://127.0.0.1/"),
    ],
)
def test_a_command_reports_soon_that_redis_does_not_reply(
    fetchq: Fetchq, own_redis_server: RedisServer, arguments: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_answer, "ANSWER_S", 0.5)
    with own_redis_server.hung():
        began_s = time.monotonic()
        done = fetchq.run(*arguments, "--redis", own_redis_server.url)
        took_s = time.monotonic() - began_s
    assert done.returncode == 3
    assert f"fetchq: Redis at {own_redis_server.socket} has not answered within 0.5 s; start Redis" in done.stderr
    assert 0.5 <= took_s < 0.5 + START_UP_S


def test_a_worker_reports_that_redis_does_not_reply(
    fetchq: Fetchq, own_redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preflight, "ANSWER_S", 0.5)
    with own_redis_server.hung():
        done = fetchq.run("worker", "--start-wait", "0.9", "--redis", own_redis_server.url)
    assert done.returncode == 3
    assert "redis.waiting try=1" in done.stderr
    assert "cannot be reached: no reply within 0.5 s; start Redis" in done.stderr.splitlines()[-1]


def test_the_timeout_of_result_is_for_redis_too(fetchq: Fetchq, own_redis_server: RedisServer) -> None:
    assert redis_answer.ANSWER_S == 5
    with own_redis_server.hung():
        done = fetchq.run_process("result", "some-id", "--timeout", "1", "--redis", own_redis_server.url)
    assert done.returncode == 3
    assert "has not answered within 1 s" in done.stderr


def test_ctrl_c_ends_a_fetch_whose_redis_hangs_soon_and_without_noise(
    fetchq: Fetchq, site: Site, own_redis_server: RedisServer
) -> None:
    urls = [f"{site.url}/page/{n}" for n in range(50)] + [f"{site.url}/gate/{n}" for n in range(50)]
    (fetchq.folder / "urls.txt").write_text("\n".join(urls))
    fetchq.run("limits", "set", "*", "--concurrency", "100", "--redis", own_redis_server.url)
    process = fetchq.start("fetch", "--from", "urls.txt", "--out", "out.jsonl", "--redis", own_redis_server.url)
    out = fetchq.folder / "out.jsonl"
    wait_until(lambda: out.exists() and out.read_bytes().count(b"\n") == 50, "fifty lines")
    with own_redis_server.hung():
        began_s = time.monotonic()
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=PATIENCE_S)
        took_s = time.monotonic() - began_s
    assert process.returncode == 130
    assert "to continue: fetchq fetch" in err.splitlines()[-1]
    assert not [word for word in ("Traceback", "Unclosed", "never retrieved", "was destroyed") if word in err], err
    assert took_s < 18
    assert len(read_lines(out)) == 50
