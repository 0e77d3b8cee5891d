"""The legacy encodings of the WHATWG encoding standard, decoded by Python's codecs and a few corrections.

Python's codecs do nearly all of the work. The corrections are of three kinds: another character for some bytes; a step
of the standard's decoder where the codec stops, which decides how many bytes one U+FFFD stands for; and a cut of the
body around bytes whose wrong character other bytes rightly have. `python -m harness.suites.encodings` compares all
sequences with the standard's indexes.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable
from functools import cache
from typing import Final

import webencodings

_FFFD: Final = "\ufffd"
_Step = Callable[[bytes, int], tuple[str, int]]
"""The text for the sequence that begins at an index, and the index where the next one begins."""


def decode_legacy(body: bytes, name: str) -> str:
    """The text of a body in the encoding `name` of the standard, in lower case, which is not utf-8."""
    decode = _DECODERS.get(name)
    return codecs.charmap_decode(body, "strict", _single_byte(name))[0] if decode is None else decode(body)


@cache
def _single_byte(name: str) -> str:
    """The characters of the 256 bytes."""
    encoding = webencodings.lookup(name)
    table: list[str] = list(encoding.codec_info.decode(bytes(range(256)), "replace")[0])
    if name.startswith("windows-"):  # an unassigned byte of this range is the control character of its number
        table[0x80:0xA0] = [chr(byte) if table[byte] == _FFFD else table[byte] for byte in range(0x80, 0xA0)]
    for byte, char in _SINGLE_BYTES.get(name, {}).items():
        table[byte] = char
    return "".join(table)


_SINGLE_BYTES: Final = {"koi8-u": {0xAE: "\u045e", 0xBE: "\u040e"}, "windows-1255": {0xCA: "\u05ba"}}


def _registered(name: str, step: _Step, malformed: bytes) -> str:
    """The name of an error handler that lets a codec go on after `step`.

    The pattern `malformed` is a shortcut for hostile bodies: group 1 matches a run of malformed bytes, group 2 a run of
    malformed pairs.
    """
    pattern = re.compile(malformed)

    def resume(problem: UnicodeError) -> tuple[str, int]:
        assert isinstance(problem, UnicodeDecodeError)
        found = pattern.match(problem.object, problem.start)
        if found is None:
            return step(problem.object, problem.start)
        return _FFFD * (len(found[0]) // (found.lastindex or 1)), found.end()

    codecs.register_error(f"fetchq.{name}", resume)
    return f"fetchq.{name}"


def _replaced(text: str, old: str, new: str) -> str:
    """The text with other characters, one after another: for a few of them much faster than `translate`."""
    for char, other in zip(old, new, strict=True):
        text = text.replace(char, other)
    return text


def _skip(body: bytes, at: int, *, is_lead: bool) -> tuple[str, int]:
    """U+FFFD for a malformed sequence of two bytes: an ASCII byte after a lead byte is kept."""
    both = is_lead and at + 1 < len(body) and body[at + 1] >= 0x80
    return _FFFD, at + 2 if both else at + 1


def _decode_around(
    body: bytes, sequences: re.Pattern[bytes], special: dict[bytes, str], decode: Callable[[bytes], str]
) -> str:
    """Decodes with other characters for the sequences in `special`. `sequences` matches all that have several bytes."""
    if not any(sequence in body for sequence in special):
        return decode(body)
    parts = []
    begin = 0
    for found in sequences.finditer(body):
        char = special.get(found[0])
        if char is not None:
            if begin < found.start():
                parts.append(decode(body[begin : found.start()]))
            parts.append(char)
            begin = found.end()
    parts.append(decode(body[begin:]))
    return "".join(parts)


def _shift_jis_step(body: bytes, at: int) -> tuple[str, int]:
    lead = body[at]
    return _skip(body, at, is_lead=0x81 <= lead <= 0x9F or 0xE0 <= lead <= 0xFC)


_SHIFT_JIS_ERRORS: Final = _registered("shift_jis", _shift_jis_step, rb"(?!)()|((?:[\x81-\x9f\xe0-\xfc][\xfd-\xff])+)")
_SHIFT_JIS_CHARS: Final = ("\xa0\uf8f0\uf8f1\uf8f2\uf8f3", _FFFD * 5)
"""What cp932 makes of the bytes A0, FD, FE and FF."""


def _shift_jis(body: bytes) -> str:
    return _replaced(body.decode("cp932", _SHIFT_JIS_ERRORS), *_SHIFT_JIS_CHARS)


def _euc_kr_step(body: bytes, at: int) -> tuple[str, int]:
    return _skip(body, at, is_lead=0x81 <= body[at] <= 0xFE)


_EUC_KR_ERRORS: Final = _registered("euc-kr", _euc_kr_step, rb"([\x80\xff]+)|((?:[\x81-\xfe][\x80\xff])+)")


def _euc_kr(body: bytes) -> str:
    return body.decode("cp949", _EUC_KR_ERRORS)


def _big5_step(body: bytes, at: int) -> tuple[str, int]:
    char = _big5_additions().get(body[at : at + 2])
    return _skip(body, at, is_lead=0x81 <= body[at] <= 0xFE) if char is None else (char, at + 2)


@cache
def _big5_additions() -> dict[bytes, str]:
    """What big5hkscs lacks, which is of 2004."""
    additions = {}
    for first, chars in _BIG5_ADDITIONS.items():
        lead, trail = first >> 8, first & 0xFF
        for char in chars:
            additions[bytes((lead, trail))] = char
            trail = 0xA1 if trail == 0x7E else trail + 1
    return additions


# fmt: off
_BIG5_ADDITIONS: Final[dict[int, str]] = {
    0x877A: "㡵𡵓𣚞𦀡㻬𥣞㫵竼龗𤅡𨤍𣇪𠪊𣉞䌊蒄龖鐯䤰蘓墖靊鈘秐稲晠権袝瑌篅枂稬剏遆"
    "㓦珄𥶹瓆鿇垳䤯呌䄱𣚎堘穲𧭥讏䚮𦺈䆁𥶙箮𢒼鿈𢓁𢓉𢓌鿉蔄𣖻䂴鿊䓡𪷿拁灮鿋",
    0x8E69: "箸", 0x8E6F: "簆", 0x8E7E: "糎", 0x8EAB: "緒", 0x8EB4: "縝", 0x8ECD: "者", 0x8ED0: "耨",
    0x8F57: "菁", 0x8F69: "蒨", 0x8F6E: "萏", 0x8FCB: "覦覩", 0x8FFE: "起", 0x906D: "都", 0x907A: "銹",
    0x90DC: "靜", 0x90F1: "響", 0x91BF: "鼖", 0x9244: "蔃", 0x92AF: "兙兛兝兞", 0x92C8: "鍮", 0x92D1: "瑹",
    0x9447: "浧", 0x94CA: "禛", 0x95D9: "邗", 0x9644: "靝", 0x96ED: "瀞", 0x96FC: "嬨", 0x9B76: "爁",
    0x9B78: "矗", 0x9B7B: "纇", 0x9BC6: "駖", 0x9BDE: "釔", 0x9BEC: "惞", 0x9BF6: "澶", 0x9C42: "輶",
    0x9C53: "侻", 0x9C62: "營", 0x9C68: "鄄", 0x9C6B: "鷰", 0x9C77: "菏", 0x9CBC: "尐秣", 0x9CD0: "婧",
    0x9D57: "輋", 0x9D5A: "筑", 0x9DC4: "拐", 0x9EA9: "恢", 0x9EEF: "痹", 0x9EFD: "汊", 0x9F60: "鬮",
    0x9F66: "鼗", 0x9FCB: "僭", 0x9FD8: "弌", 0xA063: "蠏", 0xA077: "拎", 0xA0D5: "瑨", 0xA0DF: "煢",
    0xA0E4: "牐", 0xA3C0: "␀␁␂␃␄␅␆␇␈␉␊␋␌␍␎␏␐␑␒␓␔␕␖␗␘␙␚␛␜␝␞␟␡€",
    0xC6CF: "廴", 0xC6D3: "无", 0xC6D5: "癶", 0xC6D7: "隶", 0xC6DE: "〃仝", 0xFA5F: "倩", 0xFA66: "偽",
    0xFABD: "包", 0xFAC5: "卄", 0xFAD5: "卿", 0xFB48: "嘅", 0xFBB8: "婷", 0xFBF3: "幵", 0xFBF9: "廐",
    0xFC4F: "彘", 0xFC6C: "悤", 0xFCB9: "撐", 0xFCE2: "晴", 0xFCF1: "杞", 0xFDB7: "沜渝", 0xFDBB: "港",
    0xFDF1: "煮", 0xFE52: "猪", 0xFE6F: "瑜", 0xFEAA: "瓩", 0xFEDD: "砉",
}
# fmt: on
"""From a sequence on, the characters of it and of those that follow in the same row."""
_BIG5_ERRORS: Final = _registered("big5", _big5_step, rb"([\x80\xff]+)|((?:[\x81-\xfe][\x80-\xa0\xff])+)")
_BIG5_CHARS: Final = ("•､‾∼♁☉¥¢£", "‧﹑¯～⊕⊙￥￠￡")  # noqa: RUF001 - the point is that they look alike
_BIG5_SEQUENCES: Final = re.compile(rb"[\x81-\xfe][\x40-\x7e\x80-\xff]")
_BIG5_SPECIAL: Final = {b"\xa2A": "\u2215", b"\xa2B": "\ufe68"}


def _big5(body: bytes) -> str:
    return _decode_around(
        body,
        _BIG5_SEQUENCES,
        _BIG5_SPECIAL,
        lambda part: _replaced(part.decode("big5hkscs", _BIG5_ERRORS), *_BIG5_CHARS),
    )


def _gb18030_step(body: bytes, at: int) -> tuple[str, int]:
    sequence = body[at : at + 4]
    if sequence[0] == 0x80:
        return "€", at + 1
    if len(sequence) == 1 or sequence[0] == 0xFF or not 0x30 <= sequence[1] <= 0x39:
        return _skip(body, at, is_lead=sequence[0] != 0xFF)
    if len(sequence) == 2:
        return _FFFD, at + 2
    if not 0x81 <= sequence[2] <= 0xFE:
        return _FFFD, at + 1
    if len(sequence) == 3:
        return _FFFD, at + 3
    return _FFFD, at + (4 if 0x30 <= sequence[3] <= 0x39 else 1)


_GB18030_ERRORS: Final = _registered("gb18030", _gb18030_step, rb"(\xff+)|((?:[\x81-\xfe]\xff)+)")
_GB18030_CHARS: Final = (
    "\ue5e5\ue78d\ue78e\ue78f\ue790\ue791\ue792\ue793\ue794\ue795\ue796"
    "\ue81e\ue826\ue82b\ue82c\ue832\ue843\ue854\ue864\u1e3f\ue7c7\udfff",
    "\u3000\ufe10\ufe12\ufe11\ufe13\ufe14\ufe15\ufe16\ufe17\ufe18\ufe19"
    "\u9fb4\u9fb5\u9fb6\u9fb7\u9fb8\u9fb9\u9fba\u9fbb\udfff\u1e3f\ue7c7",
)
"""Python has the characters of GB 18030-2000. U+1E3F and U+E7C7 change places, by way of U+DFFF, which no text has."""


def _gb18030(body: bytes) -> str:
    return _replaced(body.decode("gb18030", _GB18030_ERRORS), *_GB18030_CHARS)


def _euc_jp_step(body: bytes, at: int) -> tuple[str, int]:
    lead, second, third = (*body[at : at + 3], 0, 0)[:3]
    if 0xA1 <= lead <= 0xFE and 0xA1 <= second <= 0xFE:
        return _jis0208(lead - 0xA0, second - 0xA0), at + 2
    if lead == 0x8F and 0xA1 <= second <= 0xFE:
        return _FFFD, at + (3 if third >= 0x80 else 2)
    return _skip(body, at, is_lead=lead in (0x8E, 0x8F) or 0xA1 <= lead <= 0xFE)


@cache
def _jis0208(row: int, cell: int) -> str:
    """The character of a row and cell, from 1 on. Python's cp932 has the extensions that its euc_jp lacks."""
    lead = (row - 1) // 2 + (0x81 if row <= 62 else 0xC1)
    trail = cell + 0x9E if row % 2 == 0 else cell + (0x3F if cell <= 63 else 0x40)
    try:
        return bytes((lead, trail)).decode("cp932")
    except UnicodeDecodeError:
        return _FFFD


_EUC_JP_ERRORS: Final = _registered(
    "euc-jp",
    _euc_jp_step,
    rb"([\x80-\x8d\x90-\xa0\xff]+)|((?:[\x8f\xa1-\xfe][\x80-\xa0\xff]|\x8e[\x80-\xa0\xe0-\xff])+)",
)
_EUC_JP_CHARS: Final = ("〜‖−¢£¬", "～∥－￠￡￢")  # noqa: RUF001 - the point is that they look alike
_EUC_JP_SEQUENCES: Final = re.compile(rb"\x8f[\xa1-\xfe][\x80-\xff]|[\x8e\x8f\xa1-\xfe][\x80-\xff]")
_EUC_JP_SPECIAL: Final = {b"\x8f\xa2\xb7": "\uff5e"}


def _euc_jp(body: bytes) -> str:
    return _decode_around(
        body,
        _EUC_JP_SEQUENCES,
        _EUC_JP_SPECIAL,
        lambda part: _replaced(part.decode("euc_jp", _EUC_JP_ERRORS), *_EUC_JP_CHARS),
    )


_ESCAPE: Final = re.compile(rb"\x1b(\([BIJ]|\$[@B])")
_JIS_PAIRS: Final = re.compile(
    rb"(?P<pairs>(?:[\x21-\x7e]{2})+)|(?P<bytes>[^\x21-\x7e]+)|[\x21-\x7e][^\x1b]?", re.DOTALL
)
_TO_EUC: Final = bytes(byte | 0x80 for byte in range(256))
_JIS_ASCII: Final = "".join(_FFFD if byte in (0x0E, 0x0F, 0x1B) or byte >= 0x80 else chr(byte) for byte in range(256))
_JIS_TABLES: Final = {
    b"(B": _JIS_ASCII,
    b"(J": _JIS_ASCII.replace("\\", "\u00a5").replace("~", "\u203e"),
    b"(I": "".join(chr(0xFF61 - 0x21 + byte) if 0x21 <= byte <= 0x5F else _FFFD for byte in range(256)),
}


def _iso_2022_jp(body: bytes) -> str:
    """Segments between escape sequences. A second escape sequence with nothing in between is an error."""
    segments = _ESCAPE.split(body)  # text, escape, text, escape, ... text
    parts = [_jis_segment(segments[0], b"(B")]
    for index in range(1, len(segments), 2):
        if index > 1 and not segments[index - 1]:
            parts.append(_FFFD)
        parts.append(_jis_segment(segments[index + 1], segments[index]))
    return "".join(parts)


def _jis_segment(segment: bytes, escape: bytes) -> str:
    table = _JIS_TABLES.get(escape)
    if table is not None:
        return codecs.charmap_decode(segment, "strict", table)[0]
    parts = []
    for found in _JIS_PAIRS.finditer(segment):
        if found["pairs"]:
            parts.append(_euc_jp(found[0].translate(_TO_EUC)))
        else:  # bytes that begin no pair, or one pair without its second byte
            parts.append(_FFFD * len(found["bytes"] or b"1"))
    return "".join(parts)


def _utf_16le(body: bytes) -> str:
    return body.decode("utf-16-le", "replace")


def _utf_16be(body: bytes) -> str:
    return body.decode("utf-16-be", "replace")


def _replacement(body: bytes) -> str:
    """Encodings in which a page could hide markup."""
    return _FFFD if body else ""


_DECODERS: Final[dict[str, Callable[[bytes], str]]] = {
    "big5": _big5,
    "euc-jp": _euc_jp,
    "euc-kr": _euc_kr,
    "gb18030": _gb18030,
    "gbk": _gb18030,
    "iso-2022-jp": _iso_2022_jp,
    "replacement": _replacement,
    "shift_jis": _shift_jis,
    "utf-16be": _utf_16be,
    "utf-16le": _utf_16le,
}
"""The encodings with sequences of several bytes; all others have tables of 256 characters."""
