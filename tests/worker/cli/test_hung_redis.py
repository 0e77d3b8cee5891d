"""A Redis that takes commands and answers none: every command says so soon, and ends."""

from __future__ import annotations

import signal
import time

import pytest
from tests.support.redis_server import RedisServer

from .conftest import PATIENCE_S, Fetchq, Site, read_lines, wait_until

START_UP_S = 10.0
"""What starting a process may take on a busy machine, beside what its command waits."""


@pytest.mark.parametrize(
    ("arguments", "waits_s"),
    [
        (("status",), 5),
        (("worker", "--check"), 5),
        (("worker",), 5),
        (("enqueue", "http://127.0.0.1/"), 5),
        (("cancel", "some-id"), 5),
        (("result", "some-id"), 5),
        (("result", "some-id", "--timeout", "2"), 2),
        (("fetch", "http://127.0.0.1/"), 5),
    ],
)
def test_a_command_says_soon_that_redis_does_not_answer(
    fetchq: Fetchq, own_redis_server: RedisServer, arguments: tuple[str, ...], waits_s: int
) -> None:
    with own_redis_server.hung():
        began_s = time.monotonic()
        done = fetchq.run(*arguments, "--redis", own_redis_server.url)
        took_s = time.monotonic() - began_s
    assert done.returncode == 3
    assert f"has not answered within {waits_s} s" in done.stderr
    assert waits_s <= took_s < waits_s + START_UP_S


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
    assert "to go on: fetchq fetch" in err.splitlines()[-1]
    assert not [word for word in ("Traceback", "Unclosed", "never retrieved", "was destroyed") if word in err], err
    assert took_s < 18
    assert len(read_lines(out)) == 50
