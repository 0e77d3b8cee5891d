"""The charset of a text: by header, byte order mark, meta element, XML declaration, and by its bytes."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.web.site import Site, http_response

from fetchq import FetchRequest
from fetchq_worker.fetch import Fetcher, fetch
from fetchq_worker.fetch.content.charset import charset_of, prescan

RUSSIAN = "Привет, мир! Это обычный русский текст про погоду. " * 5
JAPANESE = "これは日本語のテキストです。東京は日本の首都であり、人口が多い。" * 5
CZECH = "Příliš žluťoučký kůň úpěl ďábelské ódy. " * 5


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("content_type", "body", "text"),
    [
        ("text/plain; charset=latin1", "größer € “so”".encode("cp1252"), "größer € “so”"),
        ("text/plain; charset=shift_jis", "①".encode("cp932"), "①"),
        ("text/plain; charset=gb2312", "镕".encode("gbk"), "镕"),
        ("text/plain; charset=koi8-r", RUSSIAN.encode("utf-8-sig"), RUSSIAN),
        ("text/plain; charset=no-such-charset", RUSSIAN.encode("cp1251"), RUSSIAN),
        ("text/plain", RUSSIAN.encode(), RUSSIAN),
        ("text/plain", RUSSIAN.encode("utf-16"), RUSSIAN),
        ("text/plain", RUSSIAN.encode("cp1251"), RUSSIAN),
        ("text/plain", JAPANESE.encode("euc_jp"), JAPANESE),
        ("text/css", CZECH.encode("iso8859-2"), CZECH),
        ("text/html", b"<p><meta charset=cp1251>" + RUSSIAN.encode("cp1251"), "<p><meta charset=cp1251>" + RUSSIAN),
        ("application/rss+xml", '<?xml encoding="iso-8859-2"?>ž'.encode("iso8859-2"), '<?xml encoding="iso-8859-2"?>ž'),
        ("text/html", b"", ""),
    ],
)
async def test_the_charset_is_detected_as_browsers_do(
    site: Site, fetcher: Fetcher, content_type: str, body: bytes, text: str
) -> None:
    url = site.serve("/", http_response(body, headers={"Content-Type": content_type}))

    result = await fetch({"fetcher": fetcher}, FetchRequest(url=url))

    assert result.text == text


@pytest.mark.parametrize(
    ("media_type", "sent", "body", "found"),
    [
        ("text/html", "UTF-8", b"<meta charset=koi8-r>", "UTF-8"),
        ("text/html", None, b"\xef\xbb\xbf<meta charset=koi8-r>", "utf-8"),
        ("text/html", "nonsense", b"<meta charset=koi8-r>", "koi8-r"),
        ("text/plain", None, b"<meta charset=koi8-r>", "utf-8"),
        ("text/plain", None, "größer".encode("latin-1"), "windows-1252"),
        ("text/xml", None, b'<?xml version="1.0" encoding="utf-16"?><a/>', "utf-8"),
        ("application/json", None, "größer".encode("latin-1"), None),
        ("image/svg+xml", None, b"<svg/>", "utf-8"),
        ("image/png", None, b"\x89PNG", None),
        (None, None, b"\xff", None),
        ("application/octet-stream", "x", b"\xff", "x"),
    ],
)
def test_the_precedence_of_charset_sources(
    media_type: str | None, sent: str | None, body: bytes, found: str | None
) -> None:
    assert charset_of(media_type, sent, body) == found


@pytest.mark.parametrize(
    ("head", "found"),
    [
        (b"<meta charset=utf-8>", "utf-8"),
        (b'<META/CHARSET = "Windows-1251" >', "windows-1251"),
        (b"<meta charset='latin1'", "windows-1252"),
        (b'<meta http-equiv="Content-Type" content="text/html; charset=gb2312">', "gbk"),
        (b"<meta content='text/html;charset = \"big5\"' http-equiv=content-type>", "big5"),
        (b'<meta content="text/html; charset=big5">', None),
        (b'<meta http-equiv="refresh" content="0; charset=big5">', None),
        (b"<!-- <meta charset=koi8-r> --><meta charset=big5>", "big5"),
        (b"<!--><meta charset=koi8-r>", "koi8-r"),
        (b"<!-- never closed <meta charset=koi8-r>", None),
        (b"<div title='<meta charset=koi8-r>'><meta charset=big5>", "big5"),
        (b"</div title='<meta charset=koi8-r>'><meta charset=big5>", "big5"),
        (b"<? <meta charset=koi8-r><meta charset=big5>", "big5"),
        (b"<metadata charset=koi8-r><meta charset=big5>", "big5"),
        (b"<meta charset=nonsense><meta charset=big5>", "big5"),
        (b"<meta charset=utf-16le>", "utf-8"),
        (b"<meta charset=x-user-defined>", "windows-1252"),
        (b"<meta name=a charset=big5 charset=koi8-r>", "big5"),
        (b"<?xml version='1.0' encoding='koi8-r'?><meta charset=big5>", "koi8-r"),
        (b"<meta charset", None),
        (b"", None),
    ],
)
def test_a_page_declares_its_charset(head: bytes, found: str | None) -> None:
    assert prescan(head) == found


def test_only_the_first_1024_bytes_are_prescanned() -> None:
    assert charset_of("text/html", None, b" " * 1000 + b"<meta charset=koi8-r>") == "koi8-r"
    assert charset_of("text/html", None, b" " * 1024 + b"<meta charset=koi8-r>") == "utf-8"


@given(st.binary(max_size=300) | st.text(alphabet="<>meta charset=/'\"!-?utf8", max_size=300).map(str.encode))
def test_the_prescan_accepts_any_bytes(body: bytes) -> None:
    found = charset_of("text/html", None, body)

    assert (found is None) == (body == b"")


@pytest.mark.parametrize(
    "body",
    [b"\xff" * (4 << 20), b"<" * (4 << 20), b"<a " + b"=" * (4 << 20), b"<!--" * (1 << 20), b"<meta a" * (1 << 19)],
    ids=["no text", "brackets", "equals", "comments", "metas"],
)
def test_a_hostile_large_body_is_searched_in_bounded_time(body: bytes) -> None:
    began = time.perf_counter()
    charset_of("text/html", None, body)

    assert time.perf_counter() - began < 0.3
