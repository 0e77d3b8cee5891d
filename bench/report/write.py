"""Writes a run: results.json, table.md, plots.txt and the PNGs; and the page, if the run was complete."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import msgspec

from bench.testbed.environments import ensure, python_of
from bench.testbed.peers import ALL, FETCHQ
from bench.testbed.processes import Child

from . import page, tables
from .results import FIGURES, Results

PLOT_S: Final = 60.0

_PLOTS: Final[tuple[tuple[str, str, tuple[str, ...], bool], ...]] = (
    ("throughput.png", "Jobs per second, one worker process", ("fetch_2k", "fetch_100k", "empty"), False),
    ("enqueue.png", "Enqueueing", ("enqueue_one", "enqueue_many", "memory"), False),
    (
        "idle.png",
        "Latency when idle, ms (logarithmic)",
        ("idle_pick_up_p50", "idle_pick_up_p99", "idle_fetch_p50"),
        True,
    ),
    (
        "half-load.png",
        "Latency at half load, ms (logarithmic)",
        ("half_pick_up_p50", "half_pick_up_p99", "half_fetch_p50"),
        True,
    ),
    ("redis.png", "What Redis does for one job", ("fetch_2k_trips", "fetch_2k_redis_cpu", "empty_redis_cpu"), False),
)
"""File, title, figures, logarithmic."""


async def write(results: Results, out: Path, *, whole: bool, folder: Path) -> None:
    """Writes into `out`, and onto the page if the run is `whole`."""
    out.mkdir(parents=True, exist_ok=True)
    (out / "results.json").write_bytes(msgspec.json.format(msgspec.json.encode(results)) + b"\n")
    table = tables.markdown(results)
    (out / "table.md").write_text(f"# What `make bench` measured\n\n{table}")
    shown = tables.text(results)
    (out / "plots.txt").write_text(shown)
    print(f"\n{shown}\n")
    drawn = await _draw(results, out, folder)
    if whole:
        images = "\n".join(f"![{title}](performance/{name})" for name, title in drawn)
        page.put("figures", f"{table}\n### Plots\n\n{images}\n")
    print(f"written to {out}")


async def _draw(results: Results, out: Path, folder: Path) -> list[tuple[str, str]]:
    """The PNGs for which there are figures: name and title of each."""
    wanted = [drawing for drawing in (_drawing(results, *plot) for plot in _PLOTS) if drawing is not None]
    await ensure("plot", folder)
    command: list[str | Path] = [python_of("plot"), "-m", "bench.report.plots", out]
    async with Child("plots", command, folder, talks=True) as child:
        await child.communicate(json.dumps(wanted).encode(), PLOT_S)
    return [(drawing["file"], drawing["title"]) for drawing in wanted]


def _drawing(results: Results, name: str, title: str, figures: tuple[str, ...], log: bool) -> dict[str, Any] | None:
    panels = []
    for figure in figures:
        bars = []
        for peer in ALL:
            series = results.figures.get(figure, {}).get(peer.name)
            if series is not None and series.median is not None:
                low, high = min(series.samples), max(series.samples)
                bars.append([peer.title, series.median, low, high, peer.name == FETCHQ])
        if bars:
            known = FIGURES[figure]
            heading = f"{known.title}, {known.unit}" if known.unit else known.title
            panels.append({"title": heading, "better": known.better, "log": log, "bars": bars})
    return {"file": name, "title": title, "panels": panels} if panels else None
