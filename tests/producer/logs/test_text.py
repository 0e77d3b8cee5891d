"""Text in log lines: no second line, no secrets of URLs, no payloads, a bounded length."""

from __future__ import annotations

import time

import pytest

from fetchq.logs.text import MAX_CHARS, one_line, public_url, refused_url, shown


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("plain text, 100 % of it", "plain text, 100 % of it"),
        ("what? nothing", "what? nothing"),
        ("naïve ☃", "naïve ☃"),
        ("a\nb\r\tc\x1b[31m\x00", r"a\nb\r\tc\x1b[31m\x00"),
        ("a\u2028b\u202ec\x85", r"a\u2028b\u202ec\x85"),
        ("\ud83d", r"\ud83d"),
        ("https://a.example/p?token=1", "https://a.example/p?..."),
        ("https://a.example/p#token", "https://a.example/p?..."),
        ("<https://a.example/p?x=1>, then", "<https://a.example/p?...>, then"),
        ("GET 'https://me:pw@a.example/p?x=1' failed", "GET 'https://...@a.example/p?...' failed"),
        ("redis://user:pass@host:6379/0", "redis://...@host:6379/0"),
        ("to /next?session=1", "to /next?..."),
        ("either/or? yes", "either/or? yes"),
        ("got b'\\x00secret\\'s' here", "got b'...' here"),
        ('got b"it\'s" here', "got b'...' here"),
        ("cut b'no end", "cut b'...'"),
    ],
)
def test_text_is_made_safe(text: str, line: str) -> None:
    assert one_line(text) == line


def test_the_length_is_bounded_and_the_work_too() -> None:
    assert one_line("x" * 5000) == "x" * (MAX_CHARS - 3) + "..."
    began = time.process_time()
    for hostile in ("b'" + "\\" * 10**7, "://" * 10**6, "a" * 10**7 + "?", "/" * 10**7, "\n" * 10**7):
        assert len(one_line(hostile)) <= MAX_CHARS
    assert time.process_time() - began < 1


@pytest.mark.parametrize("payload", [b"secret", bytearray(b"secret"), memoryview(b"secret")])
def test_bytes_are_shown_by_their_number(payload: bytes) -> None:
    assert shown(payload) == "<6 bytes>"
    assert shown("text") == "text"


@pytest.mark.parametrize(
    ("url", "shown_as"),
    [
        ("https://a.example/x", "https://a.example/x"),
        ("https://a.example/x?token=1", "https://a.example/x?..."),
        ("https://a.example/x#part", "https://a.example/x?..."),
        ("https://a.example/x#part?token=1", "https://a.example/x?..."),
        ("https://user:secret@a.example/x?token=1", "https://...@a.example/x?..."),
        ("https://a.example/@me", "https://a.example/@me"),
        ("https://a.example/it's?token=1#a'b", "https://a.example/it's?..."),
    ],
)
def test_a_url_has_neither_user_information_nor_query_nor_fragment(url: str, shown_as: str) -> None:
    assert public_url(url) == shown_as


@pytest.mark.parametrize(
    ("text", "shown_as"),
    [
        ("nonsense", "nonsense"),
        ("a.example/x?token=1", "a.example/x?..."),
        ("app://me:secret@callback/?code=1", "...@callback/?..."),
        ("http://me:it's-secret@a.example/?token=1", "...@a.example/?..."),
        ("http://me:secret?secret#secret@a.example/x", "...@a.example/x"),
        ("http://a.example/x?mail=me@b.example", "http://a.example/x?..."),
        (f"http://me:{'secret' * 100}@a.example/x#part", "...@a.example/x?..."),
    ],
)
def test_what_is_refused_as_a_url_is_shown_without_user_information_and_query(text: str, shown_as: str) -> None:
    assert refused_url(text) == shown_as


def test_a_long_url_is_cut() -> None:
    assert len(public_url(f"https://a.example/{'x' * 2 * MAX_CHARS}")) == MAX_CHARS
