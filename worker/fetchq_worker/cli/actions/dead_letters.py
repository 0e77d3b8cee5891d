"""`fetchq dead`: lists, shows, retries and deletes dead letters."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final, cast

import msgspec

from fetchq import DeadLetter, DeadLetterNotFound, FetchStatus, RetryOutcome
from fetchq.client.dead_letters import DeadFilter
from fetchq.command.exit_status import CommandFailed, ExitStatus
from fetchq.command.streams import print_error, printable
from fetchq_worker.cli.terminal.progress import make_progress
from fetchq_worker.cli.terminal.redis_client import reached_producer
from fetchq_worker.settings import Settings

from .dead_letter_line import ListLine, full_view_of, line_of
from .outcomes import print_counts, print_outcomes

_CHOOSE_ONE: Final = "give job ids, or filters such as --status TIMEOUT, or --all"

_encoder: Final = msgspec.json.Encoder()


class _Totals:
    """The progress of a command over many dead letters."""

    def __init__(self) -> None:
        self.counts: Counter[RetryOutcome] = Counter()
        self.failed = 0

    @property
    def done(self) -> int:
        return self.counts.total()


async def list_dead_letters(
    wanted: Mapping[str, Any], limit: int | None, as_json: bool, settings: Settings
) -> ExitStatus:
    """Prints the dead letters, a line each, newest first."""
    which = _filter(wanted)
    shown = 0
    async with reached_producer(settings) as producer:
        async for dead_letter in producer.dead_letters.list(newest_first=True, **which):
            line = line_of(dead_letter)
            sys.stdout.buffer.write(_encoder.encode(line) + b"\n" if as_json else _text(line).encode())
            shown += 1
            if shown == limit:
                break
    return ExitStatus.OK


async def show_dead_letter(job_id: str, secrets: bool, payload: bool, settings: Settings) -> ExitStatus:
    """Prints a dead letter as JSON, or with `payload` only the bytes of the job."""
    async with reached_producer(settings) as producer:
        dead_letter = await producer.dead_letters.get(job_id)
    if payload:
        sys.stdout.buffer.write(dead_letter.payload)
        if not dead_letter.whole:
            print_error(_what_is_missing(dead_letter))
    else:
        view = _encoder.encode(full_view_of(dead_letter, secrets=secrets))
        sys.stdout.buffer.write(msgspec.json.format(view, indent=2) + b"\n")
    return ExitStatus.OK


async def retry(
    job_ids: Sequence[str], wanted: Mapping[str, Any], everything: bool, as_json: bool, settings: Settings
) -> ExitStatus:
    """Prints the outcome of each job, a line each; for a filter, the counts."""
    which = _chosen(job_ids, wanted, everything)
    if not job_ids:
        return await _retry_all(which, as_json, settings)
    async with reached_producer(settings) as producer:
        outcomes = await producer.dead_letters.retry_many(job_ids)
    print_outcomes(job_ids, outcomes, as_json)
    for job_id, outcome in zip(job_ids, outcomes, strict=True):
        if outcome is not RetryOutcome.RETRIED:
            raise CommandFailed(_why_not(job_id, outcome), ExitStatus.FAILED)
    return ExitStatus.OK


async def purge(
    job_ids: Sequence[str], wanted: Mapping[str, Any], everything: bool, as_json: bool, settings: Settings
) -> ExitStatus:
    """Prints the outcome of each job, a line each; for a filter, the counts."""
    which = _chosen(job_ids, wanted, everything)
    if not job_ids:
        return await _purge_all(which, as_json, settings)
    async with reached_producer(settings) as producer:
        purged = await producer.dead_letters.purge_many(job_ids)
    print_outcomes(job_ids, ["purged" if there else RetryOutcome.NOT_FOUND for there in purged], as_json)
    if not all(purged):
        raise CommandFailed(str(DeadLetterNotFound(job_ids[purged.index(False)])), ExitStatus.FAILED)
    return ExitStatus.OK


async def _retry_all(which: DeadFilter, as_json: bool, settings: Settings) -> ExitStatus:
    totals = _Totals()
    progress = _Paced(totals)
    try:
        async with reached_producer(settings) as producer:
            progress.total = None if which else await producer.dead_letters.count()
            async for counts in producer.dead_letters.retry_all(**which):
                totals.counts.update(counts)
                totals.failed = totals.done - totals.counts[RetryOutcome.RETRIED]
                progress.show()
    finally:
        progress.close()
        text = f"{totals.counts[RetryOutcome.RETRIED]} retried{_rest(totals.counts)}"
        print_counts({str(outcome): totals.counts[outcome] for outcome in RetryOutcome}, text, as_json)
    return ExitStatus.FAILED if totals.counts[RetryOutcome.INCOMPLETE] else ExitStatus.OK


async def _purge_all(which: DeadFilter, as_json: bool, settings: Settings) -> ExitStatus:
    totals = _Totals()
    progress = _Paced(totals)
    try:
        async with reached_producer(settings) as producer:
            progress.total = None if which else await producer.dead_letters.count()
            async for count in producer.dead_letters.purge_all(**which):
                totals.counts[RetryOutcome.NOT_FOUND] += count  # their state after the purge
                progress.show()
    finally:
        progress.close()
        print_counts({"purged": totals.done}, f"{totals.done} purged", as_json)
    return ExitStatus.OK


class _Paced:
    """Progress, drawn at most once in its interval."""

    def __init__(self, totals: _Totals) -> None:
        self.total: int | None = None
        self._totals = totals
        self._progress = make_progress(stdout_is_results=False)
        self._next_s = 0.0

    def show(self) -> None:
        now_s = time.monotonic()
        if now_s >= self._next_s:
            self._next_s = now_s + self._progress.interval_s
            self._progress.show(self._totals, self.total)

    def close(self) -> None:
        self._progress.close()


def _chosen(job_ids: Sequence[str], wanted: Mapping[str, Any], everything: bool) -> DeadFilter:
    """The filter; raises `CommandFailed` unless exactly one of ids, filters and --all is given."""
    if (bool(job_ids), bool(wanted), everything).count(True) != 1:
        raise CommandFailed(_CHOOSE_ONE, ExitStatus.USAGE)
    return _filter(wanted)


def _filter(wanted: Mapping[str, Any]) -> DeadFilter:
    """The filters as the producer takes them."""
    which: dict[str, Any] = dict(wanted)
    if "status" in which:
        which["status"] = which["status"].upper()
        if which["status"] not in set(FetchStatus):
            names = ", ".join(FetchStatus)
            raise CommandFailed(f"--status takes one of {names}, not {wanted['status']!r}", ExitStatus.USAGE)
    return cast(DeadFilter, which)


def _text(line: ListLine) -> str:
    """A line for a person; the whole id comes first, so that scripts can cut it out."""
    what = line.url or line.function
    when = f"{line.died_at:%Y-%m-%d %H:%M:%SZ}"
    return f"{printable(line.id)}  {when}  {line.status:<13}  {printable(what)}  {_reason(line)}\n"


def _reason(line: ListLine) -> str:
    why = line.error or (f"HTTP {line.http_status}" if line.http_status else "")
    return printable(why)


def _rest(counts: Counter[RetryOutcome]) -> str:
    shown = {
        RetryOutcome.ACTIVE: "queued or running again",
        RetryOutcome.INCOMPLETE: "without a complete payload",
        RetryOutcome.NOT_FOUND: "no longer dead letters",
    }
    return "".join(f", {counts[outcome]} {what}" for outcome, what in shown.items() if counts[outcome])


def _why_not(job_id: str, outcome: RetryOutcome) -> str:
    if outcome is RetryOutcome.NOT_FOUND:
        return str(DeadLetterNotFound(job_id))
    if outcome is RetryOutcome.ACTIVE:
        return f"job {job_id} is queued or running again; its dead letter stays"
    return f"job {job_id} cannot be retried: its dead letter does not hold the complete payload"


def _what_is_missing(dead_letter: DeadLetter) -> str:
    if dead_letter.kind == "string":
        return f"these are the first {len(dead_letter.payload):,} of {dead_letter.payload_bytes:,} bytes"
    if dead_letter.kind == "none":
        return "the payload was missing when the job was read"
    return f"the job's key held a {dead_letter.kind}; this is what DUMP says of it"
