"""Times, sizes and rates as people write them: `30s`, `1h30m`, `4MiB`, `5/h`. Flags, variables and limits share it."""

from __future__ import annotations

import contextlib
import itertools
import re
from typing import Final

_UNITS: Final = {
    0.001: "ms millisecond milliseconds",
    1: "s sec secs second seconds",
    60: "m min mins minute minutes",
    3600: "h hr hrs hour hours",
    86_400: "d day days",
    7 * 86_400: "w week weeks",
}
UNIT_S: Final = {name: unit_s for unit_s, names in _UNITS.items() for name in names.split()}
"""Seconds of each unit of time. Months and years have no fixed length, so they are not here."""
_UNIT_BYTES: Final = {
    "b": 1,
    **{f"{prefix}{ending}": 1024**power for power, prefix in enumerate("kmgt", 1) for ending in ("", "ib")},
    **{f"{prefix}b": 1000**power for power, prefix in enumerate("kmgt", 1)},
}
"""As coreutils and IEC 80000-13: `k` and `KiB` are 1024 bytes, `kB` is 1000."""

_NUMBER: Final = r"[0-9]+(?:\.[0-9]*)?|\.[0-9]+"
_BARE: Final = re.compile(rf"[+-]?(?:{_NUMBER})(?:e[+-]?[0-9]{{1,2}})?")
_PART: Final = re.compile(rf"({_NUMBER}) ?([a-z]+) ?")
_SIZE: Final = re.compile(rf"({_NUMBER}) ?([a-z]+)")
_MAX_CHARS: Final = 40

TIME_EXAMPLES: Final = "a time such as 30s, 500ms, 1h30m or 2d"
RATE_EXAMPLES: Final = "a number per time, such as 2/s, 100/min, 5/h or 1/30s"
SIZE_EXAMPLES: Final = "a size such as 65536, 64k, 4MiB or 1GB"


def parse_duration_s(text: str) -> float:
    """Seconds. A number without a unit is seconds; parts go from large to small units, as in `1h30m`.

    Raises `ValueError`, whose message is the rest of a sentence about the flag or field.
    """
    wanted = text.strip().lower()
    if len(wanted) <= _MAX_CHARS:
        if _BARE.fullmatch(wanted):
            return float(wanted)
        parts = _PART.findall(wanted)
        units = [UNIT_S.get(unit, 0.0) for _, unit in parts]
        if wanted and not _PART.sub("", wanted) and all(units) and _descends(units):
            return float(sum(float(number) * unit_s for (number, _), unit_s in zip(parts, units, strict=True)))
    raise ValueError(f"takes {TIME_EXAMPLES}, not {text[:_MAX_CHARS]!r}")


def parse_bytes(text: str) -> int:
    """Bytes; a fraction of a byte is dropped. Raises `ValueError` as `parse_duration_s` does."""
    wanted = text.strip().lower()
    if len(wanted) <= _MAX_CHARS:
        if re.fullmatch(r"[+-]?[0-9]+", wanted):
            return int(wanted)
        found = _SIZE.fullmatch(wanted)
        if found is not None and found[2] in _UNIT_BYTES:
            return int(float(found[1]) * _UNIT_BYTES[found[2]])
    raise ValueError(f"takes {SIZE_EXAMPLES}, not {text[:_MAX_CHARS]!r}")


def parse_interval_s(rate: str) -> float:
    """Seconds between two events of a rate such as `5/h` or `1/30s`. Raises `ValueError` as `parse_duration_s` does."""
    number, slash, time = (part.strip().lower() for part in rate.partition("/"))
    if slash and len(rate) <= _MAX_CHARS and re.fullmatch(_NUMBER, number) and float(number) > 0:
        per_s = UNIT_S.get(time)
        if per_s is None and time and not _BARE.fullmatch(time):
            with contextlib.suppress(ValueError):
                per_s = parse_duration_s(time)
        if per_s:
            return per_s / float(number)
    raise ValueError(f"takes {RATE_EXAMPLES}, not {rate[:_MAX_CHARS]!r}")


def _descends(values: list[float]) -> bool:
    return all(first > second for first, second in itertools.pairwise(values))


def duration_text(duration_s: float) -> str:
    """The shortest text that `parse_duration_s` reads as `duration_s`: `30d`, `1h30m`, `0.5s`."""
    if duration_s >= 1 and duration_s == int(duration_s):
        rest, parts = int(duration_s), []
        for unit in ("d", "h", "m", "s"):
            count, rest = divmod(rest, int(UNIT_S[unit]))
            parts += [f"{count}{unit}"] if count else []
        return "".join(parts)
    return f"{duration_s:.9f}".rstrip("0").rstrip(".") + "s"


def size_text(size: int) -> str:
    """The text that `parse_bytes` reads as `size`, in the largest unit of 1024 in which it is whole."""
    for power, unit in ((4, "TiB"), (3, "GiB"), (2, "MiB"), (1, "KiB")):
        if size and size % 1024**power == 0:
            return f"{size // 1024**power}{unit}"
    return str(size)
