"""A run's results as Markdown tables, and as text with bars for a terminal."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from bench.testbed.peers import ALL, Peer

from .results import FIGURES, Figure, Results, Series
from .targets import Verdict, judge

SECTIONS: Final[tuple[tuple[str, tuple[str, ...]], ...]] = (
    ("Throughput", ("fetch_2k", "fetch_100k", "fetch_1m", "empty", "fetch_2k_two", "empty_two", "sleeping")),
    ("A long queue", ("depth_10k", "depth_1m")),
    ("Enqueueing", ("enqueue_one", "enqueue_64", "enqueue_many")),
    ("Latency when idle", ("idle_pick_up_p50", "idle_pick_up_p99", "idle_fetch_p50", "idle_fetch_p99")),
    ("Latency at half load", ("half_pick_up_p50", "half_pick_up_p99", "half_fetch_p50", "half_fetch_p99")),
    ("After a crash", ("recovery", "recovery_short")),
    (
        "Redis",
        (
            "memory",
            "fetch_2k_trips",
            "fetch_2k_commands",
            "fetch_2k_redis_cpu",
            "empty_trips",
            "empty_commands",
            "empty_redis_cpu",
            "fetch_100k_redis_cpu",
            "fetch_1m_redis_cpu",
        ),
    ),
    ("Many hosts over TLS", ("tls_crawl", "tls_crawl_connections")),
    ("CPU of the client", ("cpu_queued", "cpu_in_place")),
    ("The command", ("crawl_embedded", "crawl_redis", "peak_10k", "peak_100k", "import_added", "help")),
)

_BAR_CELLS: Final = 32


def markdown(results: Results) -> str:
    """The whole run: targets, a table for each section, how each peer was run, machine and versions."""
    parts = [_where(results), "### Targets\n", _targets(judge(results))]
    for title, figures in SECTIONS:
        table = _section(results, [figure for figure in figures if figure in results.figures])
        if table:
            parts += [f"### {title}\n", table]
    parts += ["### How each was run\n", _set_ups(results)]
    return "\n".join(parts)


def _where(results: Results) -> str:
    machine = results.machine
    return (
        f"Taken {results.taken_at} in {results.took_s / 60:.0f} minutes on {machine.cores} cores of an "
        f"{machine.processor}, {machine.memory_gb:g} GB, {machine.system}, {machine.python}; load before "
        f"the run {machine.load_before:g}. Up to {results.rounds} interleaved rounds, concurrency "
        f"{results.concurrency}. Medians, and in brackets the lowest and the highest round.\n"
    )


def _targets(verdicts: list[Verdict]) -> str:
    words = {True: "met", False: "**not met**", None: "not measured"}
    rows = [(verdict.title, verdict.wanted, verdict.reached, words[verdict.met]) for verdict in verdicts]
    return _table(("what", "to reach", "reached", ""), rows)


def _section(results: Results, figures: list[str]) -> str:
    """Peers as rows, figures as columns; reasons for missing figures below."""
    peers = [peer for peer in ALL if any(peer.name in results.figures[figure] for figure in figures)]
    if not peers:
        return ""
    heads = [_head(figure) for figure in figures]
    gaps: dict[str, dict[str, None]] = {}
    rows = []
    for peer in peers:
        cells = [peer.title]
        for figure in figures:
            series = results.figures[figure].get(peer.name)
            cells.append(_cell(figure, series))
            if series is not None and series.problem:
                gaps.setdefault(series.problem, {})[peer.title] = None
        rows.append(cells)
    notes = "".join(f"- {'; '.join(titles)}: {_escape(problem)}\n" for problem, titles in gaps.items())
    return _table(("", *heads), rows) + (f"\n{notes}" if notes else "")


def _head(figure: str) -> str:
    known = FIGURES[figure]
    return f"{known.title}, {known.unit}" if known.unit else known.title


def _cell(figure: str, series: Series | None) -> str:
    if series is None:
        return ""
    if series.median is None:
        return "see below"
    digits = FIGURES[figure].digits
    text = f"{series.median:,.{digits}f}"
    if len(series.samples) > 1:
        text += f" ({min(series.samples):,.{digits}f} to {max(series.samples):,.{digits}f})"
    return text


def _set_ups(results: Results) -> str:
    rows = []
    for peer in ALL:
        versions = results.versions.get(peer.name)
        if versions:
            rows.append((peer.title, peer.set_up, ", ".join(f"{name} {number}" for name, number in versions.items())))
    servers = ", ".join(f"{name} {number}" for name, number in results.versions.get("servers", {}).items())
    return _table(("", "how", "versions"), rows) + f"\nServers: {servers}.\n"


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    head = list(head)
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _escape(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")


def text(results: Results) -> str:
    """For a terminal: bars, then the targets that were measured."""
    parts = []
    for title, figures in SECTIONS:
        drawn = [_bars(figure, results.figures[figure]) for figure in figures if figure in results.figures]
        if drawn:
            parts += [f"{title}\n{'=' * len(title)}\n", *drawn]
    verdicts = [verdict for verdict in judge(results) if verdict.met is not None]
    parts.append("Targets\n=======\n")
    marks = {True: "met    ", False: "NOT MET"}
    for verdict in verdicts:
        parts.append(f"  {marks[bool(verdict.met)]}  {verdict.title:<48} {verdict.reached:>14}   ({verdict.wanted})\n")
    return "\n".join(parts[: len(parts) - len(verdicts)]) + "".join(parts[len(parts) - len(verdicts) :])


def compact(results: Results) -> str:
    """One line a figure, one column a peer, and how many times the first peer's figure is as good."""
    peers = [peer for peer in ALL if any(peer.name in by_peer for by_peer in results.figures.values())]
    rows = [["", *(peer.title for peer in peers)]]
    for figure, known in FIGURES.items():
        by_peer = results.figures.get(figure)
        if by_peer is None:
            continue
        ours = results.median(figure, peers[0].name)
        cells = [_compact_cell(known, results.median(figure, peer.name), ours) for peer in peers]
        rows.append([_head(figure), *cells])
    problems = {
        f"{peer.title}: {series.problem}"
        for by_peer in results.figures.values()
        for peer in _ordered(by_peer)
        if (series := by_peer[peer.name]).problem
    }
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    explained = f"In brackets: how many times as good {peers[0].title}'s figure is."
    return "\n".join([*lines, explained, *sorted(problems)])


def _compact_cell(known: Figure, median: float | None, ours: float | None) -> str:
    if median is None:
        return "-"
    text = f"{median:,.{known.digits}f}"
    if ours is None or not median or not ours or ours == median:
        return text
    return f"{text} ({ours / median if known.better == 'higher' else median / ours:.2f}x)"


def _bars(figure: str, by_peer: dict[str, Series]) -> str:
    """A longer bar is a larger number; the heading says whether that is better."""
    known = FIGURES[figure]
    lines = [f"{_head(figure)} ({known.better} is better)\n"]
    longest = max((series.median or 0.0 for series in by_peer.values()), default=0.0)
    for peer in _ordered(by_peer):
        series = by_peer[peer.name]
        if series.median is None:
            lines.append(f"  {peer.title:<18} {series.problem}\n")
            continue
        bar = "#" * max(1, round(_BAR_CELLS * series.median / longest)) if longest > 0 else ""
        lines.append(f"  {peer.title:<18} {bar:<{_BAR_CELLS}} {_cell(figure, series)}\n")
        if series.problem:
            lines.append(f"  {'':<18} {series.problem}\n")
    return "".join(lines)


def _ordered(by_peer: dict[str, Series]) -> list[Peer]:
    return [peer for peer in ALL if peer.name in by_peer]
