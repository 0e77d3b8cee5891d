"""`fetchq top` on a terminal, with a real Redis and real workers."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from redis import Redis as RedisClient
from tests.support.redis_server import RedisServer
from tests.support.redis_users import create_users, user_url
from tests.worker.cli.conftest import Fetchq, Site, at, wait_until
from tests.worker.cli.top.pty_screen import PtyScreen

from fetchq import SyncProducer
from fetchq.store.keys import Keys
from fetchq.store.registry import Role

OpenTop = Callable[..., PtyScreen]
MAIN = "from fetchq_worker.cli import main; main()"


@pytest.fixture
def open_top(fetchq: Fetchq, redis_server: RedisServer) -> Iterator[OpenTop]:
    """Starts `fetchq top` on a terminal of its own."""
    screens: list[PtyScreen] = []

    def open_it(*arguments: str, environ: dict[str, str] | None = None, **size: Any) -> PtyScreen:
        of_terminal = {"TERM": "xterm-256color", "LANG": "C.UTF-8", "LC_ALL": ""}
        known = {name: value for name, value in os.environ.items() if not name.startswith(("FETCHQ_", "NO_COLOR"))}
        screen = PtyScreen(
            MAIN,
            ["top", "--interval", "0.2s", *arguments],
            {**known, **of_terminal, **at(redis_server), **(environ or {})},
            fetchq.folder,
            **size,
        )
        screens.append(screen)
        return screen

    yield open_it
    for screen in screens:
        screen.close()


def enqueue(server: RedisServer, count: int, host: str = "example.org") -> None:
    with SyncProducer.from_url(server.url) as producer:
        producer.enqueue_many([f"http://{host}/{number}" for number in range(count)])


def wait_for_readings(server: RedisServer, count: int) -> None:
    """Waits for that many readings of the figures from now on."""
    with RedisClient.from_url(server.url) as redis:

        def readings() -> int:
            stats: Any = redis.info("commandstats")
            return int(stats.get("cmdstat_hscan", {}).get("calls", 0))

        before = readings()
        wait_until(lambda: readings() >= before + count, "a reading")


def test_a_queue_is_watched_while_a_worker_runs_it(
    open_top: OpenTop, fetchq: Fetchq, redis_server: RedisServer, site: Site
) -> None:
    top = open_top()
    top.wait_for("fetchq top", "the queue is empty, and no worker is running", "q quit")
    urls = [f"{site.url}/{kind}/{number}" for kind in ("gate", "nowhere") for number in range(4)]
    fetchq.run("enqueue", *urls, environ=at(redis_server))
    top.wait_for("no worker is running: jobs wait; start one with fetchq worker", "demand 8", "due 8")
    fetchq.start("worker", environ=at(redis_server))
    top.wait_for("workers 1", "running 4", "no problem is seen")
    site.gate.set()
    assert "█" in top.wait_for(
        "the queue is empty", "running 0", "max 8", "max 4", "failed in 5 min: 4 HTTP_ERROR", "p95"
    )
    top.send("q")
    assert top.wait_end() == 0
    assert top.is_as_before()


def test_the_queue_is_paused_and_resumed_only_after_a_y(open_top: OpenTop, redis_server: RedisServer) -> None:
    enqueue(redis_server, 20)
    top = open_top()
    top.wait_for("demand 8")
    with RedisClient.from_url(redis_server.url) as redis:
        top.send("p")
        top.wait_for("Pause arq:queue? No worker starts a job of it: 20 jobs will wait.", "(y/n)")
        top.send("n")
        top.wait_for("nothing was changed")
        assert redis.exists(Keys().paused) == 0
        top.send("py")
        top.wait_for("arq:queue is paused", "the queue is paused: no job starts until p (or fetchq resume)")
        assert redis.exists(Keys().paused) == 1
        top.send("p")
        top.wait_for("Resume arq:queue? 8 jobs may start at once, and 12 in turn.")
        top.send("y")
        top.wait_for("arq:queue is resumed")
        top.wait_for("the queue is paused", gone=True)
        assert redis.exists(Keys().paused) == 0


def test_a_host_is_looked_at_and_paused(open_top: OpenTop, redis_server: RedisServer) -> None:
    enqueue(redis_server, 30, "many.example")
    enqueue(redis_server, 20, "few.example")
    top = open_top()
    top.wait_for("> many.example", "  few.example")
    top.send("\x1b[B")
    top.wait_for("> few.example")
    top.send("\r")
    top.wait_for("8 jobs may start as soon as a worker has a free slot", "0 of 8 at a time", "rate          no limit")
    top.send("p")
    top.wait_for("Pause few.example for all workers of arq:queue? 12 jobs will wait.")
    top.send("y")
    top.wait_for("few.example is paused", "paused: no job of it starts")
    with SyncProducer.from_url(redis_server.url) as producer:
        assert producer.limits.effective("few.example").paused is True
        assert producer.limits.effective("many.example").paused is False
        top.send("py")
        top.wait_for("few.example is resumed")
        assert producer.limits.effective("few.example").paused is False
    top.send("\x1b")
    top.wait_for("> few.example", "  many.example")


@pytest.mark.parametrize(
    ("signum", "status"),
    [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGQUIT, 131)],
)
def test_a_signal_ends_it_and_the_terminal_is_as_before(open_top: OpenTop, signum: int, status: int) -> None:
    top = open_top()
    top.wait_for("the queue is empty")
    top.process.send_signal(signum)
    assert top.wait_end() == status
    assert top.is_as_before()


def test_ctrl_c_is_a_signal(open_top: OpenTop) -> None:
    top = open_top()
    top.wait_for("the queue is empty")
    top.send("\x03")
    assert top.wait_end() == 130
    assert top.is_as_before()


def test_a_terminal_that_is_gone_ends_it(open_top: OpenTop) -> None:
    top = open_top()
    top.wait_for("the queue is empty")
    top.hang_up()
    assert top.process.wait(timeout=60) == 129


def test_a_fault_of_its_own_gives_the_terminal_back(open_top: OpenTop, fetchq: Fetchq) -> None:
    (fetchq.folder / "sitecustomize.py").write_text(
        "import fetchq_worker.cli.top.live as live\n"
        "def fail(*_): raise ZeroDivisionError('on purpose')\n"
        "live.react = fail\n"
    )
    top = open_top(environ={"PYTHONPATH": str(fetchq.folder)})
    top.wait_for("the queue is empty")
    top.send("x")
    assert top.wait_end() == 1
    assert top.is_as_before()
    assert "on purpose" in top.raw.decode()


def test_ctrl_z_gives_the_terminal_back_until_it_is_continued(open_top: OpenTop) -> None:
    top = open_top()
    top.wait_for("the queue is empty")
    # In a session of one process group there is no shell that could continue it: the system ignores Ctrl-Z there.
    top.send("\x1a")
    top.wait_until(lambda _: top.raw.count(b"\x1b[?1049h") == 2, "the screen after Ctrl-Z")
    assert top.raw.count(b"\x1b[?1049l") == 1
    os.kill(top.process.pid, signal.SIGSTOP)
    os.kill(top.process.pid, signal.SIGCONT)
    top.wait_until(lambda _: top.raw.count(b"\x1b[?1049h") == 3, "the screen after SIGCONT")
    top.wait_for("the queue is empty")
    top.send("q")
    assert top.wait_end() == 0
    assert top.is_as_before()


def test_a_window_that_changes_its_size_is_drawn_again(open_top: OpenTop, redis_server: RedisServer) -> None:
    enqueue(redis_server, 20)
    top = open_top(columns=120, lines=30)
    top.wait_for("last outcome")
    top.resize(60, 20)
    text = top.wait_for("> example.org", "q quit")
    text = top.wait_until(lambda text: "last outcome" not in text, "the narrow table")
    assert max(map(len, text.split("\n"))) <= 60
    top.resize(20, 4)
    top.wait_for("too small")
    top.resize(80, 24)
    top.wait_for("> example.org", "q quit")


def test_while_redis_is_away_the_last_figures_stay_and_it_reconnects(open_top: OpenTop) -> None:
    server = RedisServer()
    try:
        enqueue(server, 20)
        top = open_top("--redis", server.url)
        top.wait_for("demand 8")
        server.stop()
        text = top.wait_for("no figures since")
        assert "waiting 12" in text
        top.send("py")
        top.wait_for("not done: ")
        server.start()
        top.wait_for("the queue is empty, and no worker is running")
        assert "no figures" not in top.text()
        assert top.process.poll() is None
    finally:
        server.remove()


def test_a_redis_that_cannot_save_is_still_watched(open_top: OpenTop, fetchq: Fetchq) -> None:
    folder = fetchq.folder / "data"
    folder.mkdir()
    server = RedisServer("--save", "3600 1000000", "--dir", str(folder))
    try:
        enqueue(server, 20)
        folder.rmdir()
        with RedisClient.from_url(server.url) as redis:
            redis.bgsave()
            wait_until(lambda: redis.info("persistence")["rdb_last_bgsave_status"] == "err", "a failed save")
        top = open_top("--redis", server.url)
        top.wait_for("Redis cannot save to its disk, and may refuse all writes", "demand 8")
        top.send("py")
        top.wait_for("not done: ", "MISCONF")
        for command in (("status",), ("metrics",), ("top",)):
            assert fetchq.run(*command, "--redis", server.url).returncode == 0
        refused = fetchq.run("enqueue", "http://127.0.0.1/", "--redis", server.url)
        assert (refused.returncode, refused.stdout) == (3, "")
        assert "MISCONF" in refused.stderr
    finally:
        server.remove()


def test_an_operator_sees_everything_and_a_user_who_may_only_look_changes_nothing(open_top: OpenTop) -> None:
    server = RedisServer()
    try:
        with RedisClient.from_url(server.url) as admin:
            create_users(admin)
            enqueue(server, 20)
            top = open_top("--redis", user_url(server, Role.OPERATOR))
            top.wait_for("demand 8", "> example.org")
            top.send("\r")
            top.wait_for("0 of 8 at a time")
            admin.execute_command("ACL", "SETUSER", Role.OPERATOR, "-set")
            top.send("\x1bp")
            top.wait_for("Pause arq:queue?")
            top.send("y")
            top.wait_for("not done: ", "fetchq acl")
            assert admin.exists(Keys().paused) == 0
    finally:
        server.remove()


def test_only_what_changes_is_written(open_top: OpenTop, redis_server: RedisServer) -> None:
    enqueue(redis_server, 20)
    top = open_top(columns=120, lines=40)
    top.wait_for("> example.org")
    with RedisClient.from_url(redis_server.url) as redis:
        redis.set(Keys().paused, "1")  # else the age of the oldest job changes
    top.wait_for("the queue is paused")
    before = len(top.raw)
    wait_for_readings(redis_server, 10)
    top.text()
    assert len(top.raw) - before < 10 * 400


def test_without_colour_and_in_ascii(open_top: OpenTop, redis_server: RedisServer) -> None:
    enqueue(redis_server, 20)
    top = open_top(environ={"NO_COLOR": "1", "LANG": "C"})
    top.wait_for("no worker is running", "> example.org")
    assert top.attributes_of("no worker is running").fg == "default"
    assert top.attributes_of("> example.org").reverse
    assert top.raw.isascii()
    coloured = open_top()
    coloured.wait_for("no worker is running")
    assert coloured.attributes_of("no worker is running").fg == "red"


def test_a_dumb_terminal_gets_one_plain_frame_and_is_told_so(open_top: OpenTop, redis_server: RedisServer) -> None:
    enqueue(redis_server, 20)
    top = open_top(environ={"TERM": "dumb"})
    assert top.wait_end() == 0
    assert b"\x1b" not in top.raw
    assert "TERM is dumb, so this is one frame" in top.text()
    assert "demand 8" in top.text()


def test_elsewhere_than_on_a_terminal_it_prints_one_frame(fetchq: Fetchq, redis_server: RedisServer) -> None:
    enqueue(redis_server, 20)
    for arguments in ((), ("--once",)):
        done = fetchq.run("top", *arguments, environ=at(redis_server))
        assert (done.returncode, done.stderr) == (0, "")
        assert "\x1b" not in done.stdout
        assert "no worker is running: jobs wait; start one with fetchq worker" in done.stdout
        assert max(map(len, done.stdout.splitlines())) <= 100


def test_once_on_a_terminal_is_plain_text(open_top: OpenTop) -> None:
    top = open_top("--once")
    assert top.wait_end() == 0
    assert b"\x1b" not in top.raw
    assert "the queue is empty, and no worker is running" in top.text()


def test_a_worker_that_is_killed_is_named(open_top: OpenTop, fetchq: Fetchq, redis_server: RedisServer) -> None:
    killed, stopped = (fetchq.start("worker", "--lease", "6s", environ=at(redis_server)) for _ in range(2))
    top = open_top(columns=120)
    top.wait_for("workers 2")
    stopped.terminate()
    stopped.wait(timeout=60)
    top.wait_for("workers 1", "the queue is empty")
    killed.kill()
    top.wait_for(f"(pid {killed.pid}) is gone without having stopped", "workers 0")
    assert f"(pid {stopped.pid})" not in top.text()


@pytest.mark.parametrize(("interval", "word"), [("0.1s", "at least 0.2s"), ("soon", "--interval")])
def test_a_bad_interval_is_one_sentence(fetchq: Fetchq, redis_server: RedisServer, interval: str, word: str) -> None:
    done = fetchq.run("top", "--interval", interval, environ=at(redis_server))
    assert done.returncode == 2
    assert word in done.stderr
    assert done.stderr.count("\n") == 1


def test_without_redis_it_fails_with_one_sentence_before_it_takes_the_terminal(open_top: OpenTop) -> None:
    top = open_top("--redis", "unix:///nowhere/redis.sock")
    assert top.wait_end() == 3
    assert b"\x1b[?1049h" not in top.raw
    assert "start Redis, or give its address" in " ".join(top.text().split())


def test_an_idle_view_ends_at_once_although_redis_hangs(open_top: OpenTop) -> None:
    server = RedisServer()
    try:
        top = open_top("--redis", server.url)
        top.wait_for("the queue is empty")
        with server.hung():
            top.send("q")
            began = time.monotonic()
            assert top.wait_end() == 0
            assert time.monotonic() - began < 4
        wait_until(top.is_as_before, "the terminal as before")
    finally:
        server.remove()


def test_a_shell_stops_it_runs_it_in_the_background_and_brings_it_back(
    fetchq: Fetchq, redis_server: RedisServer
) -> None:
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("bash is not installed")
    known = {name: value for name, value in os.environ.items() if not name.startswith("FETCHQ_")}
    environ = {**known, "TERM": "xterm", "LANG": "C.UTF-8", "PS1": "prompt> ", **at(redis_server)}
    shell = PtyScreen(
        f"import os; os.execv('{bash}', ['bash', '--norc', '--noprofile', '-i'])", [], environ, fetchq.folder
    )
    try:
        shell.wait_for("prompt>")
        shell.send(f"{sys.executable} -c '{MAIN}' top --interval 0.2s\n")
        shell.wait_for("the queue is empty", "q quit")
        shell.send("\x1a")
        shell.wait_for("Stopped")
        assert shell.raw.count(b"\x1b[?1049l") == 1
        shell.send("clear; bg; echo is$((1))shell\n")
        shell.wait_for("is1shell")
        wait_for_readings(redis_server, 2)  # which must neither draw nor stop it
        shell.send("clear; echo running $(jobs -r | grep -c top)\n")
        shell.wait_for("running 1")
        assert shell.raw.count(b"\x1b[?1049h") == 1
        shell.send("clear; fg\n")
        shell.wait_until(lambda _: shell.raw.count(b"\x1b[?1049h") == 2, "the view")
        shell.send("\x1a")
        shell.wait_until(lambda _: shell.raw.count(b"\x1b[?1049l") == 2, "the shell")
        shell.send("clear; set -b; kill %1\n")
        shell.wait_for("Exit 143")
    finally:
        shell.close()
