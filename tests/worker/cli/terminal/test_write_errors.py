"""Output that cannot be written: a full disk, a closed pipe, a closed descriptor."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from redis import Redis as RedisClient
from tests.support.redis_server import RedisServer
from tests.worker.cli.conftest import PATIENCE_S, Fetchq, Site, at, read_lines

pytestmark = pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")

FULL = "fetchq: cannot write to stdout: no space is left on the device"


def run_in_shell(
    line: str, environ: Mapping[str, str], pass_fds: Sequence[int] = ()
) -> subprocess.CompletedProcess[str]:
    """Runs `line`, in which `fetchq` is the command."""
    function = (
        f"""fetchq() {{ env "{sys.executable}" -c 'from fetchq_worker.cli import main; main()' "$@"; }}; {line}"""
    )
    clean = {name: value for name, value in os.environ.items() if not name.startswith("FETCHQ_")}
    return subprocess.run(
        ["bash", "-c", function],
        capture_output=True,
        text=True,
        env={**clean, **environ},
        timeout=PATIENCE_S,
        check=False,
        pass_fds=pass_fds,
    )


@pytest.mark.parametrize(
    "command",
    ["--help", "--version", "worker --help", "completion bash", "acl", "status", "status --json", "dead retry --all"],
)
def test_a_full_disk_is_one_sentence(redis_server: RedisServer, command: str) -> None:
    done = run_in_shell(f"fetchq {command} >/dev/full", at(redis_server))
    assert (done.returncode, done.stderr) == (1, f"{FULL}\n")


@pytest.mark.parametrize("command", ["--help", "worker --help", "acl", "status", "enqueue http://127.0.0.1/"])
def test_a_closed_pipe_is_silent_and_has_the_status_of_a_shell(redis_server: RedisServer, command: str) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = run_in_shell(f"fetchq {command} >&{writer}", at(redis_server), pass_fds=(writer,))
    finally:
        os.close(writer)
    assert (done.returncode, done.stderr) == (141, "")


@pytest.mark.parametrize("command", ["--help", "status"])
def test_a_closed_stdout_is_one_sentence(redis_server: RedisServer, command: str) -> None:
    done = run_in_shell(f"fetchq {command} >&-", at(redis_server))
    assert (done.returncode, done.stderr) == (1, "fetchq: cannot write to stdout: it is closed\n")


@pytest.mark.parametrize("redirection", ["2>/dev/full", "2>&-", "<&- 2>&-"])
def test_a_stderr_that_cannot_be_written_changes_nothing_else(redis_server: RedisServer, redirection: str) -> None:
    environ = {**at(redis_server), "FETCHQ_UNKNOWN": "1"}
    done = run_in_shell(f"fetchq status {redirection}", environ)
    assert (done.returncode, done.stdout[:5], done.stderr) == (0, "redis", "")
    assert run_in_shell(f"fetchq bogus {redirection}", environ).returncode == 2


def test_jobs_whose_ids_cannot_be_written_are_named_on_stderr(redis_server: RedisServer) -> None:
    done = run_in_shell("fetchq enqueue http://127.0.0.1/1 http://127.0.0.1/2 >/dev/full", at(redis_server))
    assert done.returncode == 1
    sentence, *ids = done.stderr.splitlines()
    assert sentence == (f"{FULL}; 2 jobs are enqueued, do not enqueue again. Ids that are not on stdout:")
    with RedisClient.from_url(redis_server.url) as client:
        assert sorted(ids) == sorted(job_id.decode() for job_id in client.zrange("arq:queue", 0, -1))


def test_an_enqueue_that_cannot_write_enqueues_no_further_batch(
    fetchq: Fetchq, redis_server: RedisServer, tmp_path: Path
) -> None:
    (tmp_path / "urls.txt").write_text("".join(f"http://127.0.0.1/{n}\n" for n in range(3000)))
    done = run_in_shell(f"fetchq enqueue --from {tmp_path}/urls.txt >/dev/full", at(redis_server))
    assert done.returncode == 1
    with RedisClient.from_url(redis_server.url) as client:
        queued = client.zcard("arq:queue")
    assert 0 < queued < 3000
    assert len(done.stderr.splitlines()) == 1 + queued


def test_a_fetch_that_cannot_write_gives_no_advice_that_it_lacks(site: Site) -> None:
    done = run_in_shell(f"fetchq fetch {site.url}/page/1 --allow-net 127.0.0.0/8 >/dev/full", {})
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == FULL


def test_a_fetch_into_a_full_file_says_how_to_continue(site: Site) -> None:
    done = run_in_shell(f"fetchq fetch {site.url}/page/1 --allow-net 127.0.0.0/8 --out /dev/full", {})
    assert done.returncode == 1
    sentence = done.stderr.splitlines()[-1]
    assert sentence.startswith("fetchq: cannot write /dev/full: no space is left on the device; to continue: fetchq")
    assert sentence.endswith(" --out /dev/full --resume")


def test_results_go_to_stdout_although_stderr_is_full(site: Site, tmp_path: Path) -> None:
    line = f"fetchq fetch {site.url}/page/1 --allow-net 127.0.0.0/8 >{tmp_path}/out 2>/dev/full"
    assert run_in_shell(line, {}).returncode == 0
    assert [one["status"] for one in read_lines(tmp_path / "out")] == ["OK"]


@pytest.mark.parametrize("locale", ["PYTHONIOENCODING=ascii", "PYTHONIOENCODING=latin-1", "LC_ALL=C"])
def test_stdout_is_utf_8_in_every_locale(redis_server: RedisServer, locale: str) -> None:
    done = run_in_shell(f"{locale} fetchq status --queue größe", at(redis_server))
    assert (done.returncode, done.stderr) == (0, "")
    assert "queue     größe\n" in done.stdout
