"""Text by the WHATWG encoding standard: what browsers decode where Python's codecs differ."""

# ruff: noqa: RUF001 - the characters that encodings confuse look alike

from __future__ import annotations

import os
import time

import pytest

from fetchq import FetchResult, FetchStatus
from fetchq.contract.text.charset import decode_text, encoding_of


def _text(body: str, charset: str | None) -> str:
    return FetchResult(url="http://x/", status=FetchStatus.OK, body=bytes.fromhex(body), charset=charset).text


@pytest.mark.parametrize(
    ("charset", "body", "text"),
    [
        ("euc-jp", "58 add1", "X㎝"),
        ("euc-jp", "ada1 fce2 a1c1 a1dd", "①髙～－"),
        ("euc-jp", "8fa2b7 7e 8eb1", "～~ｱ"),
        ("euc-jp", "f9a1 fcfe a1f1", "纊＂￠"),
        ("shift_jis", "8740 fa40 815f 80", "①ⅰ＼\x80"),
        ("shift_jis", "f040 f9fc", "\ue000\ue757"),
        ("iso-2022-jp", "1b2442 2d21 1b2842", "①"),
        ("iso-2022-jp", "1b284a 5c7e 1b2849 31 1b2842 5c", "¥‾ｱ\\"),
        ("gbk", "80 a3a0", "€\u3000"),
        ("gb18030", "80 a6d9 fe59 a8bc 8135f437", "€︐龴ḿ\ue7c7"),
        ("gb2312", "81 30 81 30", "\x80"),
        ("big5", "a145 a14e a241 a1fe a246", "‧﹑∕／￠"),
        ("big5", "8862 8864 88a3 88a5", "Ê̄Ê̌ê̄ê̌"),
        ("big5-hkscs", "877a a3e1 fedd", "㡵€砉"),
        ("euc-kr", "a2e6 c8fe 8141", "€힝갂"),
        ("koi8-u", "aebe a4", "ўЎє"),
        ("windows-1252", "81 8d 80", "\x81\x8d€"),
        ("iso-8859-1", "80 9f", "€Ÿ"),
        ("windows-1255", "ca d9", "\u05ba\ufffd"),
        ("windows-1253", "81 aa", "\x81\ufffd"),
        ("windows-874", "81 db a1", "\x81\ufffdก"),
        ("iso-8859-11", "80", "€"),
        ("iso-8859-8-i", "e0", "א"),
        ("macintosh", "db", "€"),
        ("x-user-defined", "41 80 ff", "A\uf780\uf7ff"),
        ("utf-16", "41 00", "A"),
    ],
)
def test_a_character_is_that_of_the_standard(charset: str, body: str, text: str) -> None:
    assert _text(body, charset) == text


@pytest.mark.parametrize(
    ("charset", "body", "text"),
    [
        ("shift_jis", "82 3c 41", "\ufffd<A"),
        ("shift_jis", "81 ff 41", "\ufffdA"),
        ("shift_jis", "a0 fd 82", "\ufffd\ufffd\ufffd"),
        ("euc-kr", "b0 3c 41", "\ufffd<A"),
        ("euc-kr", "b0 ff 80 c9a1", "\ufffd\ufffd\ufffd"),
        ("big5", "a4 3c 41 80", "\ufffd<A\ufffd"),
        ("big5", "a4 80 41 a4", "\ufffdA\ufffd"),
        ("big5", "a4a2 41 a4a2", "丐A丐"),
        ("euc-jp", "a4 3c 8f a2 3c 8f a2 80", "\ufffd<\ufffd<\ufffd"),
        ("euc-jp", "8e e0 8f 41 a0", "\ufffd\ufffdA\ufffd"),
        ("euc-jp", "8f a2", "\ufffd"),
        ("gb18030", "81 30 3c", "\ufffd0<"),
        ("gb18030", "81 30 81 3c", "\ufffd0\ufffd<"),
        ("gb18030", "ff 81 ff 81 20", "\ufffd\ufffd\ufffd "),
        ("gb18030", "81 30 81", "\ufffd"),
        ("gb18030", "fe39fe39 41", "\ufffdA"),
        ("iso-2022-jp", "1b2442 1b2842 41", "\ufffdA"),
        ("iso-2022-jp", "1b2442 24 0a 2422 1b2842 41", "\ufffdあA"),
        ("iso-2022-jp", "1b2442 24 1b2842 41", "\ufffdA"),
        ("iso-2022-jp", "1b 41 0e 80 1b24", "\ufffdA\ufffd\ufffd\ufffd$"),
        ("iso-2022-jp", "1b2442 2422 1b 41", "あ\ufffd\ufffd"),
        ("utf-16le", "3dd8 00de 41", "\U0001f600\ufffd"),
        ("utf-16le", "3dd8 4100 00de", "\ufffdA\ufffd"),
        ("utf-16be", "d83d 00", "\ufffd"),
        ("utf-8", "f09f98 41 eda080 c0af", "\ufffdA\ufffd\ufffd\ufffd\ufffd\ufffd"),
        ("iso-2022-kr", "41 42", "\ufffd"),
        ("hz-gb-2312", "7e7b 41", "\ufffd"),
        ("iso-2022-cn", "", ""),
    ],
)
def test_a_malformed_sequence_takes_as_many_bytes_as_the_standard_says(charset: str, body: str, text: str) -> None:
    assert _text(body, charset) == text


@pytest.mark.parametrize(
    ("body", "text"),
    [("efbbbf 61", "a"), ("fffe 6100", "a"), ("feff 0061", "a"), ("efbbbf efbbbf", "\ufeff"), ("fffe 61", "\ufffd")],
)
def test_a_byte_order_mark_precedes_any_label(body: str, text: str) -> None:
    for charset in (None, "utf-8", "shift_jis", "utf-16be", "replacement", "x-user-defined"):
        assert _text(body, charset) == text


@pytest.mark.parametrize(
    ("label", "name"),
    [
        (" \tUTF8\n", "utf-8"),
        ("Latin1", "windows-1252"),
        ("ascii", "windows-1252"),
        ("x-sjis", "shift_jis"),
        ("ms_kanji", "shift_jis"),
        ("ks_c_5601-1987", "euc-kr"),
        ("gb_2312-80", "gbk"),
        ("dos-874", "windows-874"),
        ("logical", "iso-8859-8-i"),
        ("unicode", "utf-16le"),
        ("csiso2022kr", "replacement"),
        ("utf-7", None),
        ("utf_8", None),
        ("\xa0utf-8", None),
        ("", None),
    ],
)
def test_a_label_is_one_of_the_standard(label: str, name: str | None) -> None:
    assert encoding_of(label) == name


@pytest.mark.parametrize("charset", ["shift_jis", "euc-jp", "iso-2022-jp", "gb18030", "big5", "euc-kr", "utf-16le"])
@pytest.mark.parametrize("part", [b"\xff", b"\x81\xff", b"\x81\x30", b"\xa2A", b"\x1b$B\x1b", b"\xfe\xfe", b""])
def test_a_hostile_body_is_decoded_in_linear_time(charset: str, part: bytes) -> None:
    size = 1 << 18
    body = part * (size // len(part)) if part else os.urandom(size)
    began = time.process_time()
    decode_text(body, charset)

    assert time.process_time() - began < 5
