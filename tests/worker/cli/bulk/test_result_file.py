"""The file of results: whole lines only, never a foreign file, continued at its end."""

from __future__ import annotations

import errno
import hashlib
import json
import resource
import signal
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from fetchq import FetchResult, FetchStatus
from fetchq.command.exit_status import CommandFailed, ExitStatus
from fetchq_worker.cli.bulk.result_file import ResultFile
from fetchq_worker.cli.bulk.result_line import MAX_TEXT_BYTES, BodyFolder, encode_line


def result(body: bytes = b"", media_type: str | None = "text/plain", **fields: object) -> FetchResult:
    return FetchResult(
        url="http://site.example/",
        status=FetchStatus.OK,
        http_status=200,
        media_type=media_type,
        body=body,
        body_size=len(body),
        body_sha256=hashlib.sha256(body).hexdigest(),
        fetched_at=datetime(2026, 1, 2, tzinfo=UTC),
        **fields,  # type: ignore[arg-type]
    )


def line(url: str) -> bytes:
    return encode_line(url, result(b"hello"))


def test_a_line_holds_the_url_as_given_and_the_text() -> None:
    encoded = encode_line("http://SITE.example", result("größe".encode()))
    assert encoded.count(b"\n") == 1
    decoded = json.loads(encoded)
    assert decoded["url"] == "http://SITE.example"
    assert decoded["text"] == "größe"
    assert decoded["status"] == "OK"
    assert decoded["error"] is None
    assert "body_file" not in decoded


@pytest.mark.parametrize("body", [b"\x89PNG", b"t" * (MAX_TEXT_BYTES + 1)])
def test_a_body_that_is_not_small_text_goes_to_a_file_named_by_its_hash(body: bytes, tmp_path: Path) -> None:
    media_type = "image/png" if len(body) < 10 else "text/plain"
    folder = BodyFolder(tmp_path / "bodies")
    decoded = json.loads(encode_line("u", result(body, media_type), folder))
    assert "text" not in decoded
    path = Path(decoded["body_file"])
    assert path.name == hashlib.sha256(body).hexdigest() == decoded["body_sha256"]
    assert path.read_bytes() == body
    assert list((tmp_path / "bodies").iterdir()) == [path]


def test_without_a_folder_such_a_body_is_omitted_but_not_its_size_and_hash() -> None:
    decoded = json.loads(encode_line("u", result(b"\x00\x01", "image/png")))
    assert "text" not in decoded
    assert "body_file" not in decoded
    assert (decoded["body_size"], decoded["body_sha256"]) == (2, hashlib.sha256(b"\x00\x01").hexdigest())


def test_a_truncated_body_file_is_written_again(tmp_path: Path) -> None:
    body = b"\x00" * 100
    (tmp_path / hashlib.sha256(body).hexdigest()).write_bytes(body[:50])
    BodyFolder(tmp_path).write(result(body))
    assert (tmp_path / hashlib.sha256(body).hexdigest()).read_bytes() == body


def test_a_file_that_holds_results_is_refused_without_resume(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    path.write_bytes(line("http://a/"))
    with pytest.raises(CommandFailed, match=r"--resume") as caught:
        ResultFile(path, resume=False)
    assert caught.value.status is ExitStatus.USAGE
    assert path.read_bytes() == line("http://a/")


def test_resume_returns_the_urls_in_the_file_and_appends(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    with ResultFile(path, resume=False) as file:
        assert list(file.truncate_partial_line()) == []
        file.write(line("http://a/") + line("http://b/"))
    with ResultFile(path, resume=True) as file:
        assert [line.url for line in file.truncate_partial_line()] == ["http://a/", "http://b/"]
        file.write(line("http://c/"))
    assert [json.loads(text)["url"] for text in path.read_text().splitlines()] == [
        "http://a/",
        "http://b/",
        "http://c/",
    ]


@pytest.mark.parametrize("cut", range(1, 60, 7))
def test_a_last_line_that_was_cut_off_is_removed_and_its_url_not_done(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "out.jsonl"
    path.write_bytes(line("http://a/") + line("http://b/")[:cut])
    with ResultFile(path, resume=True) as file:
        assert [line.url for line in file.truncate_partial_line()] == ["http://a/"]
    assert path.read_bytes() == line("http://a/")


def test_a_file_of_nothing_but_a_cut_line_is_emptied(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    path.write_bytes(line("http://b/")[:40])
    with ResultFile(path, resume=True) as file:
        assert list(file.truncate_partial_line()) == []
    assert path.read_bytes() == b""


@pytest.mark.parametrize(
    "content", [b"my notes", b"my notes\n", b'{"name": "x"}\n', b"[1]\n", b"\xff\xfe\n", line("http://a/") + b"notes\n"]
)
def test_a_file_of_other_content_is_refused_and_unchanged(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "precious.txt"
    path.write_bytes(content)
    with ResultFile(path, resume=True) as file, pytest.raises(CommandFailed, match="is not a result of fetchq"):
        list(file.truncate_partial_line())
    assert path.read_bytes() == content


def test_two_runs_cannot_write_to_one_file(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    with ResultFile(path, resume=False), pytest.raises(CommandFailed, match="another fetchq is writing"):
        ResultFile(path, resume=True)
    ResultFile(path, resume=True).close()


@pytest.mark.parametrize("name", ["", "no/such/folder/out.jsonl", "nul\0"])
def test_a_file_that_cannot_be_opened_is_wrong_usage(tmp_path: Path, name: str) -> None:
    with pytest.raises(CommandFailed, match="cannot open") as caught:
        ResultFile(tmp_path / name, resume=False)
    assert caught.value.status is ExitStatus.USAGE


def test_a_full_disk_is_one_sentence() -> None:
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("this system has no /dev/full")
    with (
        ResultFile(full, resume=False) as file,
        pytest.raises(CommandFailed, match="no space is left") as caught,
    ):
        file.write(line("http://a/"))
    assert caught.value.status is ExitStatus.FAILED


def test_a_file_on_a_full_disk_has_whole_lines_only(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    one = line("http://a/")
    script = f"""
import sys
from pathlib import Path
from fetchq_worker.cli.bulk.result_file import ResultFile
from fetchq.command.exit_status import CommandFailed
one = {one!r}
file = ResultFile(Path({str(path)!r}), resume=False)
try:
    for _ in range(10):
        file.write(one * 3)
except CommandFailed as problem:
    sys.exit(f"{{problem}} {{problem.status}}")
"""

    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(one) * 4 + 10,) * 2)

    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, preexec_fn=limit, check=False)
    assert "the largest size allowed" in done.stderr
    assert path.read_bytes() == one * 4


def test_a_closed_pipe_prints_nothing() -> None:
    from fetchq.command.exit_status import CannotWrite

    failure = CannotWrite("to stdout", BrokenPipeError(errno.EPIPE, "Broken pipe"))
    assert str(failure) == ""
    assert failure.status is ExitStatus.PIPE_CLOSED
