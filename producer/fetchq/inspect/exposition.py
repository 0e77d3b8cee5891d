"""Writes metrics in the text formats that Prometheus reads: its own, and OpenMetrics.

prometheus-client writes them, which the extra `fetchq[prometheus]` brings.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from .families import Family, Format
from .figures import QueueFigures
from .queue_metrics import queue_families

CONTENT_TYPES: Final = {
    Format.PROMETHEUS: "text/plain; version=0.0.4; charset=utf-8",
    Format.OPENMETRICS: "application/openmetrics-text; version=1.0.0; charset=utf-8",
}
_OPENMETRICS_VERSIONS: Final = frozenset({"", "0.0.1", "1.0.0"})
_MEDIA_TYPES: Final = {
    "application/openmetrics-text": Format.OPENMETRICS,
    "text/plain": Format.PROMETHEUS,
    "text/*": Format.PROMETHEUS,
    "*/*": Format.PROMETHEUS,
}


def render(figures: QueueFigures, accept: str = "") -> tuple[str, bytes]:
    """The metrics of a queue: their content type, and the text in the format that an Accept header asks for."""
    chosen = choose_format(accept)
    return CONTENT_TYPES[chosen], encode(queue_families(figures), chosen)


def choose_format(accept: str) -> Format:
    """The format that an Accept header prefers (RFC 9110, section 12.5.1); Prometheus's own without a preference.

    A header that cannot be read, or that asks for formats that do not exist here, gets Prometheus's own, too: a scrape
    without figures helps least.
    """
    quality = dict.fromkeys(Format, 0.0)
    for media_range in accept.split(","):
        media_type, _, parameters = media_range.strip().lower().partition(";")
        values = dict(_parameters(parameters))
        chosen = _MEDIA_TYPES.get(media_type.strip())
        if chosen is Format.OPENMETRICS and values.get("version", "") not in _OPENMETRICS_VERSIONS:
            continue
        if chosen is not None:
            quality[chosen] = max(quality[chosen], _quality(values.get("q", "1")))
    preferred = quality[Format.OPENMETRICS] > 0 and quality[Format.OPENMETRICS] >= quality[Format.PROMETHEUS]
    return Format.OPENMETRICS if preferred else Format.PROMETHEUS


def _parameters(text: str) -> Iterator[tuple[str, str]]:
    for parameter in text.split(";"):
        name, _, value = parameter.partition("=")
        yield name.strip(), value.strip().strip('"')


def _quality(text: str) -> float:
    try:
        quality = float(text)
    except ValueError:
        return 0.0
    return quality if 0 <= quality <= 1 else 0.0


def encode(families: Iterable[Family], chosen: Format) -> bytes:
    """The text of these metrics."""
    from .prometheus_text import generate  # noqa: PLC0415 - an extra, and slow to import

    return generate(families, chosen)
