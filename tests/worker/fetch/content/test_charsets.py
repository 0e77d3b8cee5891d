"""The charset of a text: by header, byte order mark, meta element, XML declaration, and by its bytes."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.web.site import Site, http_response

from fetchq import FetchRequest
from fetchq.contract.text.charset import decode_text
from fetchq_worker.fetch import Fetcher, fetch
from fetchq_worker.fetch.content.charset import charset_of
from fetchq_worker.fetch.content.declared import declared_in_html

RUSSIAN = "Привет, мир! Это обычный русский текст про погоду. " * 5
JAPANESE = "これは日本語のテキストです。東京は日本の首都であり、人口が多い。" * 5
THAI = "สวัสดีชาวโลก ยินดีต้อนรับสู่เว็บไซต์ของเรา " * 5
HEBREW = "שלום עולם וברוכים הבאים לאתר שלנו. " * 5
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
        ("text/plain", THAI.encode("cp874"), THAI),
        ("text/html", HEBREW.encode("cp1255"), HEBREW),
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
        (None, None, b"gr\xf6\xdfer", "windows-1252"),
        (None, None, b"<meta charset=koi8-r>", "koi8-r"),
        (None, None, b"\xff\xfea\0", "utf-16le"),
        (None, None, b"\x89PNG\r\n\x1a\n", None),
        ("text/css", None, b'@charset "koi8-r"; a{}', "koi8-r"),
        ("text/css", None, b'@charset "utf-16"; a{}', "utf-8"),
        ("text/css", None, b"@charset 'koi8-r'; a{}", "utf-8"),
        ("text/css", None, b' @charset "koi8-r"; a{}', "utf-8"),
        ("text/css", None, b"<meta charset=koi8-r>", "utf-8"),
        ("text/xml", None, '<?xml version="1.0"?><a/>'.encode("utf-16-le"), "utf-16le"),
        ("text/html", None, '<?xml version="1.0"?><a/>'.encode("utf-16-be"), "utf-16be"),
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
        (b"<meta charset='latin1", None),
        (b"<meta charset=latin1", None),
        (b"<meta charset=latin1 ", "windows-1252"),
        (b"<p title='never closed> <meta charset=koi8-r>", None),
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
    assert declared_in_html(head) == found


@pytest.mark.parametrize("before", [1000, 1016, 1024, 5000, 100_000, 900_000])
def test_a_meta_element_beyond_the_prescan_is_followed_as_a_parser_does(before: int) -> None:
    assert charset_of("text/html", None, b" " * before + b"<meta charset=koi8-r>") == "koi8-r"


def test_a_label_is_not_cut_off_where_the_prescan_ends() -> None:
    page = b" " * (1024 - len(b"<meta charset=iso-8859-1")) + b"<meta charset=iso-8859-15>"

    assert charset_of("text/html", None, page) == "iso-8859-15"


LATE = b"<meta charset=koi8-r>"


@pytest.mark.parametrize(
    ("page", "found"),
    [
        (b"<script>" + b"x" * 2000 + b"</script>" + LATE, "koi8-r"),
        (b"<style>" + b"x" * 2000 + b"</style><title>x</title>" + LATE, "koi8-r"),
        (b"<p>" * 1000 + b"<body>" + LATE, "koi8-r"),
        (b"x" * 2000 + b"<META CONTENT='text/html; CHARSET=KOI8-R' HTTP-EQUIV=Content-Type>", "koi8-r"),
        (b"x" * 2000 + b"<meta charset=utf-16>", "utf-8"),
        (b"x" * 2000 + b"<meta charset=nonsense>" + LATE, "koi8-r"),
        (b"<meta charset=nonsense>" + b"x" * 2000 + LATE, "koi8-r"),
        (b"<meta charset=big5>" + b"x" * 2000 + LATE, "big5"),
        (b"x" * 2000 + b"<!-- " + LATE + b" -->", "utf-8"),
        (b"x" * 2000 + b"<script>'" + LATE + b"'</script>", "utf-8"),
        (b"x" * 2000 + b"<SCRIPT>'" + LATE, "utf-8"),
        (b"x" * 2000 + b"<noscript>" + LATE + b"</noscript>", "utf-8"),
        (b"x" * 2000 + b"<textarea a='>'>" + LATE + b"</textarea>", "utf-8"),
        (b"x" * 2000 + b"<div title='" + LATE + b"'>", "utf-8"),
    ],
)
def test_a_later_meta_element_counts_only_where_a_parser_sees_one(page: bytes, found: str) -> None:
    assert charset_of("text/html", None, page) == found


@pytest.mark.parametrize("before", [0, 70_000, 2_000_000])
@pytest.mark.parametrize(("text", "encoding"), [(RUSSIAN, "cp1251"), (JAPANESE, "shift_jis"), (" caf\xe9", "cp1252")])
def test_a_charset_is_detected_after_any_amount_of_ascii(before: int, text: str, encoding: str) -> None:
    body = b"a" * before + text.encode(encoding)

    assert decode_text(body, charset_of("text/html", None, body)).endswith(text)


@pytest.mark.parametrize("before", [(1 << 20) - 3, (1 << 20) - 2, (1 << 20) - 1, 1 << 20])
def test_utf_8_is_detected_across_the_steps_in_which_it_is_read(before: int) -> None:
    assert charset_of("text/plain", None, b"a" * before + "\U0001f600\xe9".encode()) == "utf-8"
    assert charset_of("text/plain", None, b"a" * before + "\xe9 caf\xe9".encode("latin-1")) == "windows-1252"


@pytest.mark.parametrize("name", ["utf-16le", "utf-16be"])
def test_utf_16_without_a_byte_order_mark_is_recognised(name: str) -> None:
    assert charset_of("text/html", None, ("<html>text" * 100 + "\u2713").encode(name)) == name
    assert charset_of("text/plain", None, b"a\0b\0c") == "utf-8"


def test_damaged_utf_8_is_utf_8() -> None:
    assert charset_of("text/plain", None, RUSSIAN.encode() + b"\xff" + RUSSIAN.encode()) == "utf-8"
    assert charset_of("text/plain", None, RUSSIAN.encode()[:-1]) == "utf-8"


def test_iso_2022_jp_is_detected_by_its_escape_sequences() -> None:
    assert charset_of("text/html", None, b"a" * 70_000 + JAPANESE.encode("iso2022_jp")) == "iso-2022-jp"
    assert charset_of("text/plain", None, b"\x1b[31mred\x1b[0m \x1b$") == "utf-8"


@given(st.binary(max_size=300) | st.text(alphabet="<>meta charset=/'\"!-?utf8", max_size=300).map(str.encode))
def test_the_prescan_accepts_any_bytes(body: bytes) -> None:
    found = charset_of("text/html", None, body)

    assert (found is None) == (body == b"")


@pytest.mark.parametrize(
    "body",
    [
        b"\xff" * (4 << 20),
        b"<" * (4 << 20),
        b"<a " + b"=" * (4 << 20),
        b"<!--" * (1 << 20),
        b"<meta a" * (1 << 19),
        b"<meta " + b"a " * (1 << 20),
        b"<p " + b"a='" * (1 << 20),
        b"<meta a b c d e f g h i j k l m n o p q>" * (1 << 16),
        b"<p>" * (1 << 20),
        b"<script>x</script>" * (1 << 17),
        b"<meta charset=x>" * (1 << 18),
        b"\xd0\xb0" * 7 + b"\xff" + b"\xd0\xb0" * (2 << 20),
        (b"a" * 3000 + b"\xff") * 1400,
        b"\x1b$" * (2 << 20),
    ],
)
def test_a_hostile_large_body_is_searched_in_bounded_time(body: bytes) -> None:
    began = time.perf_counter()
    charset_of("text/html", None, body + b"charset")
    charset_of("text/html", None, b"charset" + body)

    assert time.perf_counter() - began < 1
