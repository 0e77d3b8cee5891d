"""A soak's outcome as text."""

from __future__ import annotations

from harness.page import where_and_when

from .memory import DRIVER, Memory
from .outcome import Outcome


def line(outcome: Outcome) -> str:
    """One soak on the terminal."""
    growth = ", ".join(f"{name} {share:+.1%}" for name, share in outcome.warm.growth_to(outcome.end).items())
    pace = outcome.pace

    def mb(memory: Memory) -> str:
        workers = " ".join(f"{size / 1e6:.1f}" for size in memory.workers)
        return f"workers {workers}, Redis {memory.redis / 1e6:.2f}, {DRIVER} {memory.driver / 1e6:.1f} MB"

    return (
        f"{outcome.enqueued:,} jobs, {outcome.fetches:,} of them fetches, in {outcome.took_s:.0f} s;"
        f" {outcome.finished:,} finished\n"
        f"    pace after the warm-up: {pace.jobs_s:,.0f} jobs/s; CPU time a job: {pace.us_a_job}\n"
        f"    after the warm-up: {mb(outcome.warm)}\n    at the end: {mb(outcome.end)}\n    peak: {mb(outcome.peak)}\n"
        f"    grown: {growth}; keys left: {outcome.leftovers.total()}"
    )


def markdown(outcome: Outcome, command: str) -> str:
    """The same for docs/reliability.md."""
    pace = outcome.pace
    growth = outcome.warm.growth_to(outcome.end)
    held = {**{f"worker {n}": size for n, size in enumerate(outcome.end.workers)}}
    held |= {"Redis": outcome.end.redis, DRIVER: outcome.end.driver}
    lines = [
        f"Written by `{command}` on {where_and_when()}:",
        "",
        f"{outcome.enqueued:,} jobs, {outcome.fetches:,} of them fetches, in {outcome.took_s:,.0f} s;"
        f" {pace.jobs_s:,.0f} jobs/s after the warm-up. Keys left: {outcome.leftovers.total()}."
        f" Promises broken: {len(outcome.broken)}.",
        "",
        "| | memory at the end | grown since the warm-up |",
        "|---|---:|---:|",
    ]
    lines += [f"| {name} | {held[name] / 1e6:.1f} MB | {share:+.1%} |" for name, share in growth.items()]
    lines += ["", f"CPU time a job: {pace.us_a_job}."]
    return "\n".join(lines)
