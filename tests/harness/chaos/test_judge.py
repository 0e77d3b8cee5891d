"""The judge detects each fault of the queue, made by hand on a real Redis."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence

import aiohttp
import msgspec
import pytest
import pytest_asyncio
from arq.connections import ArqRedis
from harness.chaos import report
from harness.chaos.fleet.processes import Acknowledged
from harness.chaos.fleet.site import CountingSite, Crowd
from harness.chaos.judge.history import History, read_append_only_file
from harness.chaos.judge.verdict import NEVER, Verdict, judge, recovery_s
from harness.chaos.outcome import Injection, Outcome
from harness.chaos.scenarios import ALONE, EVERYSEC, MIXED, Scenario
from harness.servers.durable_redis import EVERYSEC_WINDOW_S, DurableRedis
from tests.support.scripted_queue import LEASE_MS, Queue

from fetchq.contract import wire
from fetchq.store.connection import connect
from fetchq.store.keys import Keys

pytestmark = pytest.mark.asyncio


def result_of(token: str, number: int) -> bytes:
    job = {"f": "mark", "a": [number], "k": {}, "et": 1, "t": 1, "s": True, "st": 1, "ft": 2, "q": "arq:queue"}
    return wire.serialize({**job, "id": f"job{number}", "r": [token, number]})


@pytest.fixture
def server() -> Iterator[DurableRedis]:
    server = DurableRedis()
    yield server
    server.remove()


@pytest_asyncio.fixture
async def queue(server: DurableRedis) -> AsyncIterator[Queue]:
    client = connect(server.url, redis_class=ArqRedis)
    yield Queue(client)
    await client.aclose()


async def verdict_on(
    server: DurableRedis,
    jobs: int,
    *runs: tuple[str, str],
    requests: int = 0,
    crowds: Sequence[Crowd] = (),
    rolled_back: bool = False,
) -> Verdict:
    """`crowds` exceeded a limit of one."""
    history = History(Keys()).read(read_append_only_file(server.history_folder))
    acknowledged = [Acknowledged(number, b"job%d" % number, "mark") for number in range(jobs)]
    site = CountingSite(wait_s=0, limit=1)
    site.crowds.extend(crowds)
    if requests or crowds:
        acknowledged = [Acknowledged(number, b"job%d" % number, "fetch") for number in range(jobs)]
        site.requests[0] = requests
    noted = [(token.encode(), job_id.encode()) for token, job_id in runs]
    async with connect(server.url) as redis:
        return await judge(redis, acknowledged, history, noted, site, lease_s=LEASE_MS / 1000, rolled_back=rolled_back)


async def finish_at(queue: Queue, number: int, token: str, at_ms: int) -> None:
    result = msgspec.msgpack.encode({**msgspec.msgpack.decode(result_of(token, number)), "ft": at_ms})
    assert await queue.commit((f"job{number}", token, "finish", 60_000, "", result)) == ([], [], b"")


async def finish(queue: Queue, number: int, token: str, *, says: str = "") -> None:
    result = result_of(says or token, number)
    assert await queue.commit((f"job{number}", token, "finish", 60_000, "", result)) == ([], [], b"")


async def test_a_run_without_a_fault_breaks_nothing(server: DurableRedis, queue: Queue) -> None:
    await queue.add("job0", "job1", "job2")
    await queue.claim(2)
    await finish(queue, 0, "w.1")
    await finish(queue, 1, "w.1")
    verdict = await verdict_on(server, 3, ("w.1", "job0"), ("w.1", "job1"))
    assert (verdict.jobs, verdict.finished, verdict.queued, verdict.lost) == (3, 2, 1, [])
    assert (verdict.double_commits, verdict.stale_commits, verdict.duplicate_runs, verdict.leftover_keys) == (
        0,
        0,
        0,
        0,
    )


async def test_a_job_without_place_or_payload_or_result_is_lost(server: DurableRedis, queue: Queue) -> None:
    await queue.add("job0", "job1", "job2")
    await queue.redis.zrem("arq:queue", "job0")
    await queue.redis.delete("arq:job:job1")
    verdict = await verdict_on(server, 3)
    assert [job.id for job in verdict.lost] == [b"job0", b"job1"]
    assert verdict.leftover_keys == 1


async def test_an_end_that_the_figures_lack_or_count_twice_is_found(server: DurableRedis, queue: Queue) -> None:
    await queue.enqueue(("job0", "", "", ""), ("job1", "", "", ""), ("job2", "", "", ""))
    await queue.claim(1)
    await finish(queue, 0, "w.1")
    await queue.cancel("job1")
    whole = await verdict_on(server, 3)
    assert (whole.ended, whole.counted_ends, whole.miscounted_enqueues) == (2, 2, 0)
    await queue.redis.hincrby(queue.keys.metrics, "fetch:CANCELLED", -1)
    await queue.redis.hincrby(queue.keys.metrics, "job:ok:mark", 3)
    await queue.redis.hincrby(queue.keys.metrics, "enqueued", 4)
    wrong = await verdict_on(server, 3)
    assert (wrong.ended, wrong.counted_ends, wrong.miscounted_enqueues) == (2, 4, 4)
    [ends, enqueues] = Outcome(EVERYSEC, "seed", wrong, [], {}, [], [], 1.0, None).broken[-2:]
    assert ends.startswith("2 ends of jobs")
    assert enqueues.startswith("4 enqueues")


async def test_a_result_over_another_is_a_double_commit(server: DurableRedis, queue: Queue) -> None:
    await queue.add("job0")
    await queue.claim()
    await finish(queue, 0, "w.1")
    await queue.redis.set("arq:result:job0", result_of("w.1", 0))
    assert (await verdict_on(server, 1)).double_commits == 1


async def test_a_result_of_a_run_that_does_not_hold_the_lease_is_a_stale_commit(
    server: DurableRedis, queue: Queue
) -> None:
    await queue.add("job0", "job1")
    await queue.claim()
    await finish(queue, 0, "w.1", says="old.1")
    await queue.redis.set("arq:result:job1", result_of("w.1", 1))
    assert (await verdict_on(server, 2)).stale_commits == 1
    await queue.redis.hdel("fetchq:leases:arq:queue", "job1")
    await queue.redis.set("arq:result:job1", result_of("w.1", 1))
    assert (await verdict_on(server, 2)).stale_commits == 2


async def test_a_result_of_another_job_is_no_result(server: DurableRedis, queue: Queue) -> None:
    await queue.add("job0", "job1")
    await queue.claim()
    await queue.commit(("job0", "w.1", "finish", 60_000, "", result_of("w.1", 1)))
    await queue.commit(("job1", "w.1", "finish", 60_000, "", b"\xc1 no msgpack"))
    verdict = await verdict_on(server, 2)
    assert verdict.finished == 0
    assert len(verdict.wrong) == 2


async def test_a_second_run_is_explained_by_a_second_claim_alone(server: DurableRedis, queue: Queue) -> None:
    await queue.add("job0")
    await queue.claim()
    await queue.expire_in_progress("job0")
    queue.now_ms += LEASE_MS
    assert (await queue.claim(token="w.2")).ids == ["job0"]
    explained = await verdict_on(server, 1, ("w.1", "job0"), ("w.2", "job0"))
    assert (explained.duplicate_runs, explained.unexplained_runs) == (1, 0)
    again = await verdict_on(server, 1, ("w.1", "job0"), ("w.1", "job0"))
    assert (again.duplicate_runs, again.unexplained_runs) == (1, 1)
    made_up = await verdict_on(server, 1, ("w.1", "job0"), ("w.3", "job0"))
    assert (made_up.duplicate_runs, made_up.unexplained_runs) == (1, 1)
    fetched = await verdict_on(server, 1, requests=3)
    assert (fetched.runs, fetched.duplicate_runs, fetched.unexplained_runs) == (3, 2, 1)


async def test_two_runs_that_hold_their_leases_are_over_a_limit_of_one(server: DurableRedis, queue: Queue) -> None:
    await queue.add("job0", "job1")
    await queue.claim(2)
    crowd = Crowd(queue.now_ms + 1, (0, 1))
    over = await verdict_on(server, 2, crowds=[crowd])
    assert (over.over_limit, over.over_past_lease) == (1, 0)


async def test_a_run_whose_lease_had_ended_explains_one_beyond_the_limit(server: DurableRedis, queue: Queue) -> None:
    await queue.add("job0", "job1")
    began_ms = queue.now_ms
    await queue.claim(1)
    await queue.expire_in_progress("job0")
    queue.now_ms += 2 * LEASE_MS
    await queue.claim(2, token="w.2")
    assert queue.now_ms > began_ms + LEASE_MS
    await finish_at(queue, 0, "w.2", queue.now_ms + 5)
    both, late = Crowd(queue.now_ms + 1, (0, 1)), Crowd(queue.now_ms + 6, (0, 1))
    twice = Crowd(queue.now_ms + 1, (0, 0))
    ended = Crowd(began_ms + LEASE_MS + 1, (0, 0))
    verdict = await verdict_on(server, 2, crowds=[both, late, twice, ended])
    assert (verdict.over_limit, verdict.over_past_lease) == (1, 3)


async def test_a_run_without_a_claim_is_allowed_only_where_redis_may_forget(server: DurableRedis, queue: Queue) -> None:
    await queue.add("job0", "job1")
    await queue.claim(1)
    crowd = Crowd(queue.now_ms + 1, (0, 1))
    never = await verdict_on(server, 2, crowds=[crowd])
    assert (never.over_limit, never.over_past_lease) == (1, 0)
    forgotten = await verdict_on(server, 2, crowds=[crowd], rolled_back=True)
    assert (forgotten.over_limit, forgotten.over_past_lease) == (0, 1)


async def test_the_site_records_the_open_requests_when_the_limit_is_exceeded() -> None:
    async with CountingSite(wait_s=0.2, limit=2) as site, aiohttp.ClientSession() as client:

        async def visit(number: int) -> None:
            async with client.get(f"{site.url}/{number}") as answer:
                await answer.read()

        await asyncio.gather(visit(1), visit(2))
        assert (site.most_open, site.crowds) == (2, [])
        await asyncio.gather(visit(3), visit(4), visit(5))
        assert site.most_open == 3
        assert [sorted(crowd.numbers) for crowd in site.crowds] == [[3, 4, 5]]


async def test_history_ends_where_a_power_cut_ended_it() -> None:
    server = DurableRedis("everysec")
    try:
        async with connect(server.url, redis_class=ArqRedis) as client:
            queue = Queue(client)
            await queue.add("job0", "job1")
            await queue.claim(1)
            server.note_size()
            await asyncio.sleep(EVERYSEC_WINDOW_S + 0.1)
            await finish(queue, 0, "w.1")
        server.cut_power()
        server.start()
        verdict = await verdict_on(server, 2)
        assert (verdict.finished, verdict.queued, verdict.lost) == (0, 2, [])
    finally:
        server.remove()


async def test_a_loss_is_allowed_only_where_redis_may_forget_and_had_acknowledged_the_job_in_its_window() -> None:
    def broken(scenario: Scenario, *, sent_ms: int, at_ms: int, forgets_from_ms: int | None = None) -> list[str]:
        verdict = Verdict(jobs=1, lost=[Acknowledged(0, b"job0", "mark", at_ms, sent_ms)])
        injection = Injection("restart_redis", 100_000, 101_000, forgets_from_ms)
        return Outcome(scenario, "seed", verdict, [injection], {}, [], [], 1.0, None).broken

    assert broken(EVERYSEC, sent_ms=98_400, at_ms=98_500, forgets_from_ms=98_450) == []
    assert broken(EVERYSEC, sent_ms=100_900, at_ms=109_000) == []
    assert len(broken(EVERYSEC, sent_ms=98_400, at_ms=98_500)) == 1
    assert len(broken(EVERYSEC, sent_ms=98_000, at_ms=98_400, forgets_from_ms=98_450)) == 1
    assert len(broken(EVERYSEC, sent_ms=101_001, at_ms=101_002)) == 1
    assert len(broken(MIXED, sent_ms=100_000, at_ms=100_000)) == 1


async def test_recovery_is_the_first_second_with_nine_tenths_of_the_throughput_before() -> None:
    steady = range(0, 3000, 10)
    assert recovery_s([*steady, *range(5000, 8000, 10)], 3000, 3000) == pytest.approx(1.9)
    assert recovery_s([*steady, *range(5000, 8000, 20)], 3000, 3000) == NEVER
    assert recovery_s([], 3000, 3000) is None


@pytest.mark.parametrize(
    ("name", "recoveries_s", "cell"),
    [
        ("kill_worker", [1.0, 4.9], "4.9 s"),
        ("kill_worker", [8.1, None], "8.1 s, goal 5 s"),
        ("kill_worker", [1.0, NEVER], "never, goal 5 s"),
        ("restart_redis", [8.1, 1.0], "8.1 s"),
        ("power_cut_everysec", [10.1], "10.1 s, goal 10 s"),
        ("drop_network", [0.1, NEVER], "never"),
        ("drop_network", [None, None], "-"),
        ("mixed", [1.0, NEVER], "-"),
    ],
)
async def test_a_row_shows_a_missing_recovery_and_a_missed_goal(
    name: str, recoveries_s: list[float | None], cell: str
) -> None:
    scenario = next(scenario for scenario in (*ALONE, MIXED) if scenario.name == name)
    outcome = Outcome(scenario, "seed", Verdict(), [], {}, [], recoveries_s, 1.0, None)
    assert report.row(outcome)[-1] == cell
    assert outcome.broken == []
