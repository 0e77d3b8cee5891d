"""`python -m harness.suites.encodings CHECKOUT`: every encoding of the WHATWG encoding standard, against its indexes.

CHECKOUT is whatwg/encoding, with its files `encodings.json` and `index-*.txt`. The standard's decoders are written
once more here, byte by byte as the standard has them, and slow. What they make of all sequences of one and two bytes,
of all longer sequences of EUC-JP, GB18030 and ISO-2022-JP, and of random ones, is compared with what `result.text`
gives. Prints a line for each encoding, and differences. Exits with status 1 if there is one. More arguments name the
encodings to compare.
"""

from __future__ import annotations

import itertools
import json
import random
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Final

from fetchq.contract.text.charset import decode_text, encoding_of

_SHOWN: Final = 5
_RANDOM_BODIES: Final = 20_000
_BATCH: Final = 2_000
"""Sequences that are decoded as one body, with a separator that ends any sequence and any state."""

Index = dict[int, str]
Decode = Callable[[bytes], str]


class Bytes:
    """The standard's I/O queue: `read` gives None at the end."""

    def __init__(self, body: bytes) -> None:
        self._bytes = body
        self._at = 0

    def read(self) -> int | None:
        at, self._at = self._at, self._at + 1
        return self._bytes[at] if at < len(self._bytes) else None

    def restore(self, count: int) -> None:
        self._at -= count


class Reference:
    """The decoders of the standard, chapters 8 to 14."""

    def __init__(self, checkout: Path) -> None:
        self._checkout = checkout
        self._big5 = self._index("big5")
        for pointer, text in ((1133, "Ê̄"), (1135, "Ê̌"), (1164, "ê̄"), (1166, "ê̌")):
            self._big5[pointer] = text
        self._euc_kr = self._index("euc-kr")
        self._gb18030 = self._index("gb18030")
        self._ranges = {pointer: ord(char) for pointer, char in self._index("gb18030-ranges").items()}
        self._jis0208 = self._index("jis0208")
        self._jis0212 = self._index("jis0212")

    def _index(self, name: str) -> Index:
        lines = (self._checkout / f"index-{name}.txt").read_text("utf-8").split("\n")
        rows = [line.split("\t") for line in lines if line and not line.startswith("#")]
        return {int(row[0]): chr(int(row[1], 16)) for row in rows}

    def decoder(self, name: str) -> Decode:
        own: Decode | None = getattr(self, name.replace("-", "_"), None)
        if own is not None:
            return own
        index = self._index("iso-8859-8" if name == "iso-8859-8-i" else name)
        chars = [chr(byte) if byte < 0x80 else index.get(byte - 0x80, "\ufffd") for byte in range(256)]
        return lambda body: "".join([chars[byte] for byte in body])

    def replacement(self, body: bytes) -> str:
        return "\ufffd" if body else ""

    def x_user_defined(self, body: bytes) -> str:
        return "".join([chr(byte if byte < 0x80 else 0xF780 + byte - 0x80) for byte in body])

    def big5(self, body: bytes) -> str:
        def pointer(lead: int, byte: int) -> int | None:
            if 0x40 <= byte <= 0x7E or 0xA1 <= byte <= 0xFE:
                return (lead - 0x81) * 157 + byte - (0x40 if byte < 0x7F else 0x62)
            return None

        return _two_bytes(body, lambda byte: 0x81 <= byte <= 0xFE, pointer, self._big5, lambda byte: None)

    def euc_kr(self, body: bytes) -> str:
        def pointer(lead: int, byte: int) -> int | None:
            return (lead - 0x81) * 190 + byte - 0x41 if 0x41 <= byte <= 0xFE else None

        return _two_bytes(body, lambda byte: 0x81 <= byte <= 0xFE, pointer, self._euc_kr, lambda byte: None)

    def shift_jis(self, body: bytes) -> str:
        def pointer(lead: int, byte: int) -> int | None:
            if 0x40 <= byte <= 0x7E or 0x80 <= byte <= 0xFC:
                return (lead - (0x81 if lead < 0xA0 else 0xC1)) * 188 + byte - (0x40 if byte < 0x7F else 0x41)
            return None

        def single(byte: int) -> str | None:
            if byte == 0x80:
                return "\x80"
            return chr(0xFF61 - 0xA1 + byte) if 0xA1 <= byte <= 0xDF else None

        private = {number: chr(0xE000 - 8836 + number) for number in range(8836, 10716)}

        def is_lead(byte: int) -> bool:
            return 0x81 <= byte <= 0x9F or 0xE0 <= byte <= 0xFC

        return _two_bytes(body, is_lead, pointer, self._jis0208 | private, single)

    def euc_jp(self, body: bytes) -> str:
        queue = Bytes(body)
        out: list[str] = []
        lead, is_jis0212 = 0, False
        while True:
            byte = queue.read()
            if byte is None:
                return "".join(out) + ("\ufffd" if lead else "")
            if lead == 0x8E and 0xA1 <= byte <= 0xDF:
                lead = 0
                out.append(chr(0xFF61 - 0xA1 + byte))
            elif lead == 0x8F and 0xA1 <= byte <= 0xFE:
                is_jis0212, lead = True, byte
            elif lead:
                char = None
                if 0xA1 <= lead <= 0xFE and 0xA1 <= byte <= 0xFE:
                    index = self._jis0212 if is_jis0212 else self._jis0208
                    char = index.get((lead - 0xA1) * 94 + byte - 0xA1)
                lead, is_jis0212 = 0, False
                if char is None and byte < 0x80:
                    queue.restore(1)
                out.append(char or "\ufffd")
            elif byte < 0x80:
                out.append(chr(byte))
            elif byte in (0x8E, 0x8F) or 0xA1 <= byte <= 0xFE:
                lead = byte
            else:
                out.append("\ufffd")

    def gbk(self, body: bytes) -> str:
        return self.gb18030(body)

    def gb18030(self, body: bytes) -> str:  # noqa: PLR0912 - the standard's steps, one by one
        queue = Bytes(body)
        out: list[str] = []
        first = second = third = 0
        while True:
            byte = queue.read()
            if byte is None:
                return "".join(out) + ("\ufffd" if first or second or third else "")
            if third:
                if not 0x30 <= byte <= 0x39:
                    queue.restore(3)
                    out.append("\ufffd")
                else:
                    pointer = (first - 0x81) * 12600 + (second - 0x30) * 1260 + (third - 0x81) * 10 + byte - 0x30
                    out.append(self._of_range(pointer) or "\ufffd")
                first = second = third = 0
            elif second:
                if 0x81 <= byte <= 0xFE:
                    third = byte
                else:
                    queue.restore(2)
                    out.append("\ufffd")
                    first = second = 0
            elif first:
                if 0x30 <= byte <= 0x39:
                    second = byte
                    continue
                char = None
                if 0x40 <= byte <= 0x7E or 0x80 <= byte <= 0xFE:
                    char = self._gb18030.get((first - 0x81) * 190 + byte - (0x40 if byte < 0x7F else 0x41))
                first = 0
                if char is None and byte < 0x80:
                    queue.restore(1)
                out.append(char or "\ufffd")
            elif byte < 0x80:
                out.append(chr(byte))
            elif byte == 0x80:
                out.append("€")
            elif byte <= 0xFE:
                first = byte
            else:
                out.append("\ufffd")

    def _of_range(self, pointer: int) -> str | None:
        if 39419 < pointer < 189000 or pointer > 1237575:
            return None
        if pointer == 7457:
            return "\ue7c7"
        offset = max(start for start in self._ranges if start <= pointer) if pointer < 189000 else 189000
        return chr(self._ranges[offset] + pointer - offset)

    def iso_2022_jp(self, body: bytes) -> str:  # noqa: PLR0912 - the standard's steps, one by one
        queue = Bytes(body)
        out: list[str] = []
        state = output_state = "ASCII"
        lead, flag = 0, False
        while True:
            byte = queue.read()
            if byte is None and state in ("ASCII", "Roman", "katakana", "lead"):
                return "".join(out)
            if state == "escape start":
                if byte in (0x24, 0x28):
                    lead, state = byte, "escape"
                    continue
                queue.restore(1)
                flag, state = False, output_state
                out.append("\ufffd")
            elif state == "escape":
                found = _JIS_STATES.get((lead, byte or 0))
                if found is not None:
                    state = output_state = found
                    if flag:
                        out.append("\ufffd")
                    flag = True
                else:
                    queue.restore(2)
                    flag, state = False, output_state
                    out.append("\ufffd")
            elif state == "trail":
                if byte == 0x1B:
                    state = "escape start"
                    out.append("\ufffd")
                    continue
                state = "lead"
                char = None
                if byte is not None and 0x21 <= byte <= 0x7E:
                    char = self._jis0208.get((lead - 0x21) * 94 + byte - 0x21)
                out.append(char or "\ufffd")
            elif byte == 0x1B:
                state = "escape start"
            else:
                assert byte is not None
                flag = False
                if state == "lead" and 0x21 <= byte <= 0x7E:
                    lead, state = byte, "trail"
                else:
                    out.append(_jis_single(state, byte))

    def utf_16be(self, body: bytes) -> str:
        return _utf_16(body, "big")

    def utf_16le(self, body: bytes) -> str:
        return _utf_16(body, "little")

    def utf_8(self, body: bytes) -> str:
        queue = Bytes(body)
        out: list[str] = []
        point = needed = 0
        lower, upper = 0x80, 0xBF
        while True:
            byte = queue.read()
            if byte is None:
                return "".join(out) + ("\ufffd" if needed else "")
            if not needed:
                if byte < 0x80:
                    out.append(chr(byte))
                elif 0xC2 <= byte <= 0xDF:
                    needed, point = 1, byte & 0x1F
                elif 0xE0 <= byte <= 0xEF:
                    lower, upper = 0xA0 if byte == 0xE0 else lower, 0x9F if byte == 0xED else upper
                    needed, point = 2, byte & 0xF
                elif 0xF0 <= byte <= 0xF4:
                    lower, upper = 0x90 if byte == 0xF0 else lower, 0x8F if byte == 0xF4 else upper
                    needed, point = 3, byte & 7
                else:
                    out.append("\ufffd")
                continue
            if not lower <= byte <= upper:
                needed, lower, upper = 0, 0x80, 0xBF
                queue.restore(1)
                out.append("\ufffd")
                continue
            lower, upper = 0x80, 0xBF
            point, needed = point << 6 | byte & 0x3F, needed - 1
            if not needed:
                out.append(chr(point))


_JIS_STATES: Final = {
    (0x28, 0x42): "ASCII",
    (0x28, 0x4A): "Roman",
    (0x28, 0x49): "katakana",
    (0x24, 0x40): "lead",
    (0x24, 0x42): "lead",
}


def _jis_single(state: str, byte: int) -> str:
    if state == "katakana":
        return chr(0xFF61 - 0x21 + byte) if 0x21 <= byte <= 0x5F else "\ufffd"
    if state == "lead" or byte in (0x0E, 0x0F) or byte >= 0x80:
        return "\ufffd"
    if state == "Roman" and byte in (0x5C, 0x7E):
        return "\u00a5" if byte == 0x5C else "\u203e"
    return chr(byte)


def _two_bytes(
    body: bytes,
    is_lead: Callable[[int], bool],
    pointer: Callable[[int, int], int | None],
    index: Index,
    single: Callable[[int], str | None],
) -> str:
    queue = Bytes(body)
    out: list[str] = []
    lead = 0
    while True:
        byte = queue.read()
        if byte is None:
            return "".join(out) + ("\ufffd" if lead else "")
        if lead:
            number = pointer(lead, byte)
            char = None if number is None else index.get(number)
            lead = 0
            if char is None and byte < 0x80:
                queue.restore(1)
            out.append(char or "\ufffd")
        elif byte < 0x80:
            out.append(chr(byte))
        elif is_lead(byte):
            lead = byte
        else:
            out.append(single(byte) or "\ufffd")


def _utf_16(body: bytes, order: str) -> str:
    """The standard's shared UTF-16 decoder."""
    out: list[str] = []
    high = 0
    for at in range(0, len(body) - 1, 2):
        unit = int.from_bytes(body[at : at + 2], "big" if order == "big" else "little")
        if high and 0xDC00 <= unit <= 0xDFFF:
            out.append(chr(0x10000 + (high - 0xD800 << 10) + unit - 0xDC00))
            high = 0
            continue
        if high:
            out.append("\ufffd")
            high = 0
        if 0xD800 <= unit <= 0xDBFF:
            high = unit
        else:
            out.append("\ufffd" if 0xDC00 <= unit <= 0xDFFF else chr(unit))
    return "".join(out) + ("\ufffd" if high or len(body) % 2 else "")


def bodies_of(name: str) -> Iterator[bytes]:
    """All short sequences, many to a body, the shortest also alone; then random ones."""
    everything = range(256)
    yield from (bytes((byte,)) for byte in everything)
    yield from (bytes(pair) for pair in itertools.product(everything, everything))
    if name == "euc-jp":
        yield from _batched(bytes(three) for three in itertools.product((0x8E, 0x8F), everything, everything))
    if name in ("gb18030", "gbk"):
        leads, digits = range(0x81, 0xFF), range(0x30, 0x3A)
        yield from _batched(bytes(four) for four in itertools.product(leads, digits, leads, digits))
    if name == "iso-2022-jp":
        states = (b"\x1b(B", b"\x1b(J", b"\x1b(I", b"\x1b$@", b"\x1b$B")
        pairs = [bytes(pair) for pair in itertools.product(everything, everything)]
        yield from (state + pair for state in states for pair in pairs)
    yield from _random_bodies(name)


def _batched(sequences: Iterable[bytes]) -> Iterator[bytes]:
    left = iter(sequences)
    while batch := list(itertools.islice(left, _BATCH)):
        yield b"\n\n\n".join(batch)


def _random_bodies(name: str) -> Iterator[bytes]:
    draw = random.Random(name)
    edges = (
        bytes(range(0x1A, 0x30)) + bytes(range(0x7B, 0xA5)) + bytes(range(0xD7, 0x100)) + b"09AZaz\x1b\x1b\x1b$$((@BIJ"
    )
    for _ in range(_RANDOM_BODIES):
        size = draw.randrange(1, 24)
        yield bytes(draw.choices(edges, k=size)) if draw.random() < 0.7 else draw.randbytes(size)


def compare(name: str, reference: Decode) -> int:
    """Prints what is found; the number of differences."""
    count, different = 0, []
    for body in bodies_of(name):
        if body.startswith((b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")):
            continue  # a byte order mark goes before the label
        count += 1
        if decode_text(body, name) != reference(body):
            different.append(body)
    print(f"{name:16} {count - len(different):>9,} of {count:>9,} as the standard")
    for body in different[:_SHOWN]:
        print(f"    {body.hex(' ')}\n        {decode_text(body, name)!r}\n        {reference(body)!r} expected")
    return len(different)


def main() -> int:
    checkout = Path(sys.argv[1])
    groups = json.loads((checkout / "encodings.json").read_text())
    encodings = [encoding for group in groups for encoding in group["encodings"]]
    labels = {label: encoding["name"].lower() for encoding in encodings for label in encoding["labels"]}
    wrong = [label for label, name in labels.items() if encoding_of(f"\t{label.upper()} \n") != name]
    print(f"{len(labels) - len(wrong)} of {len(labels)} labels as the standard {wrong or ''}")
    names = [
        encoding["name"].lower()
        for encoding in encodings
        if encoding["name"].lower() in (sys.argv[2:] or labels.values())
    ]
    reference = Reference(checkout)
    different = len(wrong) + sum(compare(name, reference.decoder(name)) for name in names)
    print(f"{len(names)} encodings, {different} differences")
    return int(bool(different) or not names)


if __name__ == "__main__":
    sys.exit(main())
