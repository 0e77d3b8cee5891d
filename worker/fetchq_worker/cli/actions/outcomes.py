"""What a command did to jobs: the outcome of each, or the counts."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence

import msgspec

from fetchq.command.streams import printable


def print_outcomes(job_ids: Sequence[str], outcomes: Sequence[str], as_json: bool) -> None:
    """A line for each job."""
    for job_id, outcome in zip(job_ids, outcomes, strict=True):
        if as_json:
            sys.stdout.buffer.write(msgspec.json.encode({"id": job_id, "outcome": str(outcome)}) + b"\n")
        else:
            sys.stdout.write(f"{printable(job_id)} {outcome}\n")


def print_counts(counts: Mapping[str, int], text: str, as_json: bool) -> None:
    """One line for all jobs of a filter: the object `counts`, or `text`."""
    line = msgspec.json.encode(counts).decode() if as_json else text
    sys.stdout.write(f"{line}\n")
