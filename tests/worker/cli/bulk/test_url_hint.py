"""Hints where a text is not a URL."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.support.redis_server import RedisServer
from tests.worker.cli.conftest import Fetchq, at, read_lines

from fetchq_worker.cli.bulk.url_hint import hint_for


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("example.org", "https://example.org/"),
        ("www.example.org/a b", "https://www.example.org/a%20b"),
        ("//example.org/x", "https://example.org/x"),
        ("example.org/a:b", "https://example.org/a:b"),
        ("bücher.example", "https://xn--bcher-kva.example/"),
        ("localhost", "http://localhost/"),
        ("localhost:8000", "http://localhost:8000/"),
        ("example.org:8080/x", "http://example.org:8080/x"),
        ("127.0.0.1/x", "http://127.0.0.1/x"),
        ("[::1]:8000", "http://[::1]:8000/"),
    ],
)
def test_a_text_that_lacks_its_scheme_gets_the_url_that_was_meant(text: str, url: str) -> None:
    assert hint_for(text, may_be_file=True) == f"; did you mean {url}?"


@pytest.mark.parametrize(
    "text", ["nonsense", "", "ftp://example.org/", "mailto:a@example.org", "a b", "\0", "x" * 20_000]
)
def test_other_texts_get_none(text: str) -> None:
    assert hint_for(text, may_be_file=True) == ""


def test_a_file_is_named_with_the_option_that_reads_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("urls.txt").touch()
    assert hint_for("-", may_be_file=True) == "; to read URLs from stdin, use --from -"
    assert hint_for("urls.txt", may_be_file=True) == "; to read URLs from that file, use --from urls.txt"
    assert hint_for("urls.txt", may_be_file=False) == "; did you mean https://urls.txt/?"


def test_commands_give_the_hint(fetchq: Fetchq, redis_server: RedisServer) -> None:
    done = fetchq.run("enqueue", "example.org", environ=at(redis_server))
    assert (done.returncode, done.stderr) == (
        2,
        "fetchq: 'example.org' is not an absolute URL; did you mean https://example.org/?\n",
    )
    (fetchq.folder / "urls.txt").write_text("example.org\n")
    done = fetchq.run("fetch", "urls.txt", "--from", "urls.txt", "--out", "out.jsonl")
    assert done.returncode == 1
    assert [line["error"] for line in read_lines(fetchq.folder / "out.jsonl")] == [
        "'urls.txt' is not an absolute URL; to read URLs from that file, use --from urls.txt",
        "'example.org' is not an absolute URL; did you mean https://example.org/?",
    ]
