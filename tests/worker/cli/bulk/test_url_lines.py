"""Lists of URLs in many formats."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fetchq.command.exit_status import CommandFailed, ExitStatus
from fetchq.contract.urls import MAX_URL_CHARS
from fetchq_worker.cli.bulk.url_lines import MAX_LINE_BYTES, LineSplitter, count_lines, read_lines


def split(data: bytes, chunk_bytes: int = 1 << 16) -> list[str]:
    splitter = LineSplitter()
    lines: list[str] = []
    for start in range(0, len(data), chunk_bytes):
        lines += splitter.feed(data[start : start + chunk_bytes])
    return lines + splitter.finish()


async def read_all(name: str) -> list[str]:
    return [line async for batch in read_lines(name) for line in batch]


def test_blank_lines_and_comments_are_skipped() -> None:
    assert split(b"\n  \n# a comment\n   # another\nhttp://a/\n\t\nhttp://b/#fragment\n") == [
        "http://a/",
        "http://b/#fragment",
    ]


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_a_line_ends_in_lf_crlf_or_cr(end: bytes) -> None:
    assert split(end.join([b"http://a/", b"http://b/", b""])) == ["http://a/", "http://b/"]


def test_the_last_line_needs_no_line_end() -> None:
    assert split(b"http://a/\nhttp://b/") == ["http://a/", "http://b/"]


def test_a_byte_order_mark_is_no_part_of_the_first_url() -> None:
    assert split(b"\xef\xbb\xbfhttp://a/\n") == ["http://a/"]
    assert split(b"\xef\xbb\xbf") == []


def test_bytes_that_are_not_utf_8_become_replacement_characters() -> None:
    assert split(b"http://a/caf\xe9\nhttp://b/\xff\xfe\n") == ["http://a/caf\ufffd", "http://b/\ufffd\ufffd"]


def test_non_ascii_text_survives() -> None:
    assert split("http://bücher.example/größe?q=日本\n".encode()) == ["http://bücher.example/größe?q=日本"]


def test_a_line_longer_than_any_url_is_cut_and_the_next_one_is_whole() -> None:
    long, after = split(b"http://a/" + b"x" * (10 * MAX_LINE_BYTES) + b"\nhttp://b/\n", chunk_bytes=1000)
    assert len(long) == MAX_URL_CHARS + 1
    assert after == "http://b/"


@given(st.binary(max_size=200), st.integers(1, 7))
def test_the_lines_do_not_depend_on_how_the_bytes_arrive(data: bytes, chunk_bytes: int) -> None:
    assert split(data, chunk_bytes) == split(data)


@pytest.mark.asyncio
async def test_a_file_is_read_to_its_end(tmp_path: Path) -> None:
    urls = [f"http://site.example/{i}" for i in range(20_000)]
    path = tmp_path / "urls.txt"
    path.write_text("\n".join(urls))
    assert await read_all(str(path)) == urls


@pytest.mark.asyncio
async def test_lines_of_a_pipe_arrive_as_they_are_written(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    batches = read_lines(str(fifo))
    first = asyncio.ensure_future(anext(batches))
    await asyncio.sleep(0)  # it has opened the pipe now
    with fifo.open("wb", buffering=0) as writer:
        writer.write(b"http://a/\nhttp://b")
        assert await first == ["http://a/"]
        second = asyncio.ensure_future(anext(batches))
        writer.write(b"/\n")
        assert await second == ["http://b/"]
    with pytest.raises(StopAsyncIteration):
        await anext(batches)


@pytest.mark.asyncio
@pytest.mark.parametrize("name", ["nowhere/urls.txt", ".", "nul\0byte"])
async def test_a_file_that_cannot_be_read_is_wrong_usage(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CommandFailed, match=r"^cannot read ") as caught:
        await read_all(name)
    assert caught.value.status is ExitStatus.USAGE


def test_lines_are_counted_only_where_they_can_be_read_twice(tmp_path: Path) -> None:
    path = tmp_path / "urls.txt"
    path.write_bytes(b"a\nb\nc")
    assert count_lines(path) == 3
    path.write_bytes(b"a\nb\n")
    assert count_lines(path) == 2
    path.write_bytes(b"")
    assert count_lines(path) == 0
    os.mkfifo(tmp_path / "fifo")
    assert count_lines(tmp_path / "fifo") is None
