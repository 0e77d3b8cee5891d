"""The verdict on a run: the outcome of each acknowledged job, and counts of what must not happen."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
from harness.chaos.fleet.processes import Acknowledged
from harness.chaos.fleet.site import CountingSite
from redis.asyncio import Redis

from fetchq import FetchStatus
from fetchq.contract import wire
from fetchq.contract.wire import FETCH_FUNCTION
from fetchq.errors import FetchqError
from fetchq.store.keys import Keys
from fetchq.telemetry.figures import ENQUEUED, FETCH, FUNCTION

from .history import History
from .host_limit import judge_crowds

BATCH: Final = 500
NEVER: Final = float("inf")


class Verdict(msgspec.Struct):
    """Counts of the acknowledged jobs of one run, unless noted otherwise."""

    jobs: int = 0
    finished: int = 0
    """Jobs with a readable result of their own."""
    failed: Counter[str] = msgspec.field(default_factory=Counter)
    """Finished jobs whose result is a failure, by its error."""
    queued: int = 0
    lost: list[Acknowledged] = msgspec.field(default_factory=list)
    """Jobs with neither a result nor a queue entry with a payload."""
    wrong: list[str] = msgspec.field(default_factory=list)
    """Results that cannot be read, or belong to another job."""
    double_commits: int = 0
    stale_commits: int = 0
    """Results of runs that did not hold the lease when they were written."""
    runs: int = 0
    """Of all jobs, acknowledged or not; the next fields too."""
    duplicate_runs: int = 0
    """Runs beyond each job's first."""
    unexplained_runs: int = 0
    """Duplicate runs without their own claim."""
    over_limit: int = 0
    """Requests beyond the host's limit while all open fetches held their leases."""
    over_past_lease: int = 0
    """Requests beyond the limit that are explained by runs whose leases had ended."""
    most_open: int = 0
    """The maximum number of open requests of the host."""
    leftover_keys: int = 0
    """Keys of finished jobs that would never be removed."""
    ended: int = 0
    """Results that were written: each is the end of a job."""
    counted_ends: int = 0
    """The ends that the queue's figures have: of fetches by status, and of other jobs."""
    miscounted_enqueues: int = 0
    """By how many jobs the enqueues in the figures differ from the jobs that ended or are queued."""
    finished_at_ms: list[int] = msgspec.field(default_factory=list)


async def judge(
    redis: Redis,
    acknowledged: Sequence[Acknowledged],
    history: History,
    runs: Sequence[tuple[bytes, bytes]],
    site: CountingSite,
    *,
    lease_s: float,
    rolled_back: bool,
) -> Verdict:
    """`runs` are the (token, id) logged by the coroutines; `site` recorded those of the fetches.

    `rolled_back`: Redis lost its latest changes, so a run's claim may be missing from the history.
    """
    verdict = Verdict(jobs=len(acknowledged), double_commits=len(history.double_commits))
    keys = Keys()
    for start in range(0, len(acknowledged), BATCH):
        await _judge_ends(redis, keys, acknowledged[start : start + BATCH], verdict)
    _judge_commits(history, verdict)
    _judge_runs(history, runs, verdict, rolled_back=rolled_back)
    for job in acknowledged:
        if job.kind == "fetch" and site.requests[job.number] > 0:
            again = site.requests[job.number] - 1
            verdict.runs += again + 1
            verdict.duplicate_runs += again
            if not rolled_back:
                verdict.unexplained_runs += max(0, again + 1 - len(history.claims.get(job.id, ())))
    verdict.most_open = site.most_open
    verdict.over_limit, verdict.over_past_lease = judge_crowds(
        site, acknowledged, history, lease_ms=round(lease_s * 1000), rolled_back=rolled_back
    )
    verdict.leftover_keys = await _count_leftover_keys(redis, keys)
    await _judge_figures(redis, keys, history, verdict)
    return verdict


async def _judge_ends(redis: Redis, keys: Keys, jobs: Sequence[Acknowledged], verdict: Verdict) -> None:
    async with redis.pipeline(transaction=False) as pipe:
        pipe.mget([keys.result.encode() + job.id for job in jobs])
        pipe.zmscore(keys.pending, [job.id.decode() for job in jobs])
        pipe.mget([keys.job.encode() + job.id for job in jobs])
        results, scores, payloads = await pipe.execute()
    for job, result, score, payload in zip(jobs, results, scores, payloads, strict=True):
        if result is not None:
            _judge_result(job, result, verdict)
        elif score is not None and payload is not None:
            verdict.queued += 1
        else:
            verdict.lost.append(job)


def _judge_result(job: Acknowledged, data: bytes, verdict: Verdict) -> None:
    try:
        stored = wire.decode_stored(data)
        verdict.finished_at_ms.append(msgspec.msgpack.decode(data)["ft"])
        if not stored.success:
            verdict.finished += 1
            verdict.failed[_failure(stored)] += 1
        elif stored.function == FETCH_FUNCTION:
            result = wire.decode_result(stored, job.id.decode())
            if result.status is FetchStatus.OK and result.data["number"] == job.number:
                verdict.finished += 1
            elif result.status is not FetchStatus.OK:
                verdict.finished += 1
                verdict.failed[f"{result.status}: {result.error}"] += 1
            else:
                verdict.wrong.append(f"job {job.id!r} has the result of another")
        elif wire.decode_value(stored)[1] == job.number:
            verdict.finished += 1
        else:
            verdict.wrong.append(f"job {job.id!r} has the result of another")
    except (FetchqError, msgspec.MsgspecError, LookupError, TypeError) as problem:
        verdict.wrong.append(f"the result of job {job.id!r} cannot be read: {problem}")


def _failure(stored: Any) -> str:
    try:
        return f"returned {wire.decode_value(stored)!r}"
    except FetchqError as problem:
        return str(problem)


def _judge_commits(history: History, verdict: Verdict) -> None:
    for commits in history.commits.values():
        for commit in commits:
            own = _token_in(commit.value)
            if commit.holder is None or (own is not None and own != commit.holder):
                verdict.stale_commits += 1


def _token_in(value: bytes) -> bytes | None:
    """The token of the run that a result contains, if its coroutine returns it."""
    try:
        result = msgspec.msgpack.decode(value)["r"]
    except (msgspec.MsgspecError, LookupError, TypeError):
        return None
    match result:
        case [str(token), int()]:
            return token.encode()
        case _:
            return None


def _judge_runs(history: History, runs: Sequence[tuple[bytes, bytes]], verdict: Verdict, *, rolled_back: bool) -> None:
    by_job: dict[bytes, list[bytes]] = {}
    for token, job_id in runs:
        by_job.setdefault(job_id, []).append(token)
    verdict.runs += len(runs)
    for job_id, tokens in by_job.items():
        verdict.duplicate_runs += len(tokens) - 1
        distinct = set(tokens)
        unknown = set() if rolled_back else distinct - set(history.claims.get(job_id, ()))
        verdict.unexplained_runs += len(tokens) - len(distinct) + len(unknown)


async def _judge_figures(redis: Redis, keys: Keys, history: History, verdict: Verdict) -> None:
    """A change of Redis is kept or lost with what it counted, so this must be exact after a roll-back, too."""
    figures = await redis.hgetall(keys.metrics)  # type: ignore[misc]
    ends = (FETCH.encode(), FUNCTION.encode())
    verdict.ended = sum(map(len, history.commits.values()))
    verdict.counted_ends = sum(int(number) for field, number in figures.items() if field.startswith(ends))
    enqueued = int(figures.get(ENQUEUED.encode(), 0))
    verdict.miscounted_enqueues = abs(enqueued - verdict.ended - await redis.zcard(keys.pending))


async def _count_leftover_keys(redis: Redis, keys: Keys) -> int:
    """Counts keys of jobs that are not queued: payloads, tries, attempts and leases."""
    queued = {job_id async for job_id, _ in redis.zscan_iter(keys.pending, count=BATCH)}
    prefixes = [prefix.encode() for prefix in (keys.job, keys.retry, keys.attempts)]
    count = 0
    async for key in redis.scan_iter(count=BATCH):
        count += any(key.startswith(prefix) and key.removeprefix(prefix) not in queued for prefix in prefixes)
    count += sum(job_id not in queued for job_id in await redis.hkeys(keys.leases))  # type: ignore[misc]
    return count


def read_runs(folder: Path) -> list[tuple[bytes, bytes]]:
    """The runs that the coroutines of all workers logged."""
    runs: list[tuple[bytes, bytes]] = []
    for path in folder.glob("*.runs"):
        for line in path.read_bytes().splitlines():
            token, job_id = line.split()
            runs.append((token, job_id))
    return runs


def recovery_s(finished_at_ms: Sequence[int], began_ms: int, over_ms: int) -> float | None:
    """Seconds from the end of a fault until the throughput of a whole second reached 90 % of the 3 s before it.

    `NEVER`: not within the run. None: there was no load before the fault to compare with.
    """
    times = sorted(finished_at_ms)
    before = sum(began_ms - 3000 <= time < began_ms for time in times) / 3
    if before < 20 or not times:
        return None
    for start in range(over_ms, times[-1] - 1000, 100):
        if sum(start <= time < start + 1000 for time in times) >= 0.9 * before:
            return (start - over_ms) / 1000
    return NEVER
