"""Text for a terminal."""

from __future__ import annotations

from collections.abc import Container, Sequence


def table_lines(rows: Sequence[Sequence[str]], *, right: Container[int] = ()) -> list[str]:
    """Rows as lines; columns are as wide as their content, those in `right` aligned to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            f"{text:>{width}}" if column in right else f"{text:<{width}}"
            for column, (text, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def latency_text(duration_s: float | None) -> str:
    """`7 ms`, `1.2 s`; empty for none."""
    if duration_s is None:
        return ""
    return f"{duration_s * 1000:.0f} ms" if duration_s < 1 else f"{duration_s:.1f} s"


def span_text(duration_s: float) -> str:
    """`6 s`, `2 min 5 s`, `3 h 20 min`."""
    minutes, seconds = divmod(round(duration_s), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours:,} h {minutes} min"
    return f"{minutes} min {seconds} s" if minutes else f"{seconds} s"
