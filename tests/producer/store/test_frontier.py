"""The frontier's scripts: limits of a key, held across all workers."""

from __future__ import annotations

import pytest
from tests.support.frontier_state import FrontierState
from tests.support.scripted_queue import LEASE_MS, T0, Queue

from fetchq.store.records import HostRecord
from fetchq.store.scores import read_score
from fetchq.store.scripts import script_source
from fetchq_worker.engine.queue.admission import WILL_NOT_RUN
from fetchq_worker.engine.queue.commit import Committer
from fetchq_worker.engine.queue.lease import Lease
from fetchq_worker.engine.queue.outcome import Action, Outcome

KEY = "example.org"


async def _enqueue(queue: Queue, *job_ids: str, key: str = KEY, due: str = "", note: str = "") -> None:
    assert await queue.enqueue(*[(job_id, due, key, note) for job_id in job_ids]) == []


async def _claim_and_admit(queue: Queue, count: int = 10, *, key: str = KEY, token: str = "w.1") -> list[str]:
    """The ids of the jobs that start."""
    claim = await queue.claim(count, token=token)
    refused = await queue.admit(*[(job_id, token, key) for job_id in claim.ids]) if claim.ids else []
    return [job_id for job_id in claim.ids if job_id not in refused]


async def _limit(queue: Queue, limits: str, key: str = KEY) -> None:
    await queue.redis.hset(queue.keys.limits, key, limits)


def _ids(count: int) -> list[str]:
    return [f"job{number:05}" for number in range(count)]


@pytest.mark.asyncio
async def test_no_more_jobs_of_a_key_run_than_its_limit_and_the_next_start_as_those_end(queue: Queue) -> None:
    ids = _ids(20)
    await _enqueue(queue, *ids)
    assert await _claim_and_admit(queue, 20) == ids[:8]
    assert await _claim_and_admit(queue, 20, token="w.2") == []
    await queue.finish(ids[3])
    await queue.finish(ids[5])
    assert await _claim_and_admit(queue, 20, token="w.3") == ids[8:10]


@pytest.mark.asyncio
async def test_a_stock_clients_job_is_parked_by_its_first_claimer_and_its_try_not_counted(queue: Queue) -> None:
    await _limit(queue, "c=1")
    await queue.add("first", "second")
    assert await _claim_and_admit(queue) == ["first"]
    assert await queue.tries("second") == 0
    assert not await queue.redis.exists(queue.keys.in_progress + "second")
    await queue.finish("first")
    assert await _claim_and_admit(queue, token="w.2") == ["second"]


@pytest.mark.asyncio
async def test_a_job_that_waits_for_its_host_is_deferred_to_a_stock_client_and_counted_in_the_queue(
    queue: Queue,
) -> None:
    await _limit(queue, "c=1")
    await _enqueue(queue, "first", "second")
    score = await queue.score("second")
    assert score is not None
    assert T0 < score < 2**53
    assert score == int(score)
    assert await queue.redis.zcard(queue.keys.pending) == 2


@pytest.mark.asyncio
async def test_starts_keep_to_the_rate_and_the_claim_tells_when_the_next_turn_comes(queue: Queue) -> None:
    await _limit(queue, "c=100 r=50000")
    await _enqueue(queue, *_ids(3))
    assert await _claim_and_admit(queue) == _ids(3)[:1]
    claim = await queue.claim()
    assert claim.ids == []
    assert 45 < claim.wait_ms <= 55
    queue.now_ms += claim.wait_ms
    assert await _claim_and_admit(queue) == _ids(3)[1:2]


@pytest.mark.asyncio
async def test_a_dead_workers_slot_is_free_when_its_lease_ends(queue: Queue) -> None:
    await _limit(queue, "c=1")
    await _enqueue(queue, "first", "second")
    assert await _claim_and_admit(queue) == ["first"]
    queue.now_ms += LEASE_MS
    await queue.expire_in_progress("first")
    assert await _claim_and_admit(queue, token="w.2") == ["first"]
    assert await queue.finish("first", "w.2") == ([], [], b"")
    assert await _claim_and_admit(queue, token="w.3") == ["second"]


@pytest.mark.asyncio
async def test_a_run_that_renews_its_lease_after_its_end_counts_again(queue: Queue) -> None:
    await _limit(queue, "c=1")
    await _enqueue(queue, "first", "second")
    assert await _claim_and_admit(queue) == ["first"]
    queue.now_ms += LEASE_MS
    await queue.claim(only=["nothing"])  # any claim gives ended leases back
    assert await queue.renew(("first", "w.1")) == []
    assert await _claim_and_admit(queue, token="w.2") == []
    await queue.finish("first")
    assert await _claim_and_admit(queue, token="w.3") == ["second"]


@pytest.mark.asyncio
async def test_a_job_given_back_is_the_next_of_its_host(queue: Queue) -> None:
    await _limit(queue, "c=1")
    await _enqueue(queue, *_ids(3))
    assert await _claim_and_admit(queue) == _ids(3)[:1]
    await queue.commit((_ids(3)[0], "w.1", "requeue", ""))
    assert await _claim_and_admit(queue, token="w.2") == _ids(3)[:1]


@pytest.mark.asyncio
async def test_a_waiting_job_that_is_cancelled_leaves_its_place_to_the_next(queue: Queue) -> None:
    await _limit(queue, "c=1")
    await _enqueue(queue, *_ids(3))
    assert await _claim_and_admit(queue) == _ids(3)[:1]
    assert await queue.cancel(_ids(3)[1], KEY) == 1
    await queue.finish(_ids(3)[0])
    assert await _claim_and_admit(queue, token="w.2") == _ids(3)[2:]


@pytest.mark.asyncio
async def test_a_job_whose_turn_comes_by_a_cancelling_wakes_a_worker(queue: Queue) -> None:
    await _limit(queue, "c=1")
    await _enqueue(queue, *_ids(2))
    await queue.redis.delete(queue.keys.wake)
    assert await queue.cancel(_ids(2)[0], KEY) == 1
    assert await queue.redis.llen(queue.keys.wake) == 1
    assert await _claim_and_admit(queue) == _ids(2)[1:]


@pytest.mark.asyncio
async def test_a_lane_goes_first_and_another_order_of_lanes_lets_the_low_one_go(queue: Queue) -> None:
    for lane in ("l", "", "h"):
        await _enqueue(queue, f"job-{lane or 'd'}", key=f"{lane or 'd'}.example", note=lane)
    assert (await queue.claim(1, lanes="hdl")).ids == ["job-h"]
    assert (await queue.claim(1, lanes="lhd")).ids == ["job-l"]
    assert (await queue.claim(1, lanes="hdl")).ids == ["job-d"]


@pytest.mark.asyncio
async def test_a_deferred_job_of_a_lane_stands_in_its_lane_when_it_is_due(queue: Queue) -> None:
    await _enqueue(queue, "later", due="+1000", note="h")
    assert (await queue.claim()).wait_ms == 1000
    queue.now_ms += 1000
    await _enqueue(queue, "now", key="other.example")
    assert (await queue.claim(1)).ids == ["later"]


@pytest.mark.asyncio
async def test_a_waiting_job_comes_up_at_its_deadline(queue: Queue) -> None:
    await _limit(queue, "c=1")
    await _enqueue(queue, "first")
    await _enqueue(queue, "second", note=str(T0 + 5000))
    assert await _claim_and_admit(queue) == ["first"]
    queue.now_ms += 5000
    assert (await queue.claim(token="w.2")).ids == ["second"]


@pytest.mark.asyncio
async def test_what_is_known_of_an_idle_host_is_forgotten(queue: Queue) -> None:
    await _limit(queue, "r=1000000")
    await _enqueue(queue, "only")
    assert await _claim_and_admit(queue) == ["only"]
    await queue.finish("only")
    queue.now_ms += 2000
    await queue.claim()
    for key in (queue.keys.hosts, queue.keys.due_hosts, queue.keys.backlog, queue.keys.running, queue.keys.cooldowns):
        assert not await queue.redis.exists(key)


@pytest.mark.asyncio
async def test_failed_connections_let_a_host_cool_off_and_then_one_job_tries(queue: Queue) -> None:
    await _enqueue(queue, *_ids(30))
    started = await _claim_and_admit(queue)
    for job_id in started[:5]:
        await queue.commit((job_id, "w.1", "finish", 1000, "", "x", "-CONNECT_ERROR"))
    assert await _claim_and_admit(queue, token="w.2") == []
    for job_id in started[5:]:
        await queue.commit((job_id, "w.1", "finish", 1000, "", "x", "=TIMEOUT"))
    queue.now_ms += 13_000
    probe = await _claim_and_admit(queue, token="w.3")
    assert len(probe) == 1
    await queue.commit((probe[0], "w.3", "finish", 1000, "", "x", "+OK"))
    assert len(await _claim_and_admit(queue, token="w.4")) == 8


@pytest.mark.asyncio
@pytest.mark.parametrize("action", [Action.FINISH, Action.RETRY], ids=["that end", "that go back"])
async def test_failures_and_successes_in_turn_let_no_host_cool_off(queue: Queue, action: Action) -> None:
    seconds, _ = await queue.redis.time()
    queue.now_ms = seconds * 1000  # the committer goes by Redis's own clock
    await _limit(queue, "c=16")
    await _enqueue(queue, *_ids(16))
    claim = await queue.claim(16)
    assert await queue.admit(*[(job_id, "w.1", KEY) for job_id in claim.ids]) == []
    committer = Committer(
        queue.keys, dead_letter_ttl_ms=1, dead_letter_max=0, delay_s=60, on_commit=lambda next_due_s: None
    )
    committer.use(queue.runner)
    for number, job_id in enumerate(claim.ids):
        lease = Lease(job_id.encode(), "w.1", b"", 0, 1)
        failed = Outcome(lease, action, note="-CONNECT_ERROR", defer_ms=None)
        committer.add(failed if number % 2 else Outcome(lease, Action.FINISH, note="+OK"))
    await committer.flush()
    await committer.aclose()
    assert await queue.redis.zcard(queue.keys.cooldowns) == 0


@pytest.mark.asyncio
async def test_a_paused_queue_gives_nothing_out(queue: Queue) -> None:
    await _enqueue(queue, "job")
    await queue.redis.set(queue.keys.paused, "1")
    assert (await queue.claim()).ids == []
    await queue.redis.delete(queue.keys.paused)
    assert (await queue.claim()).ids == ["job"]


@pytest.mark.parametrize("host", ["-leading-hyphen.example", "~tilde.example"])
@pytest.mark.asyncio
async def test_a_host_may_begin_with_a_hyphen_or_a_tilde(queue: Queue, host: str) -> None:
    await _limit(queue, "c=1 r=50000", host)
    await _enqueue(queue, *_ids(2), key=host)
    assert await _claim_and_admit(queue, key=host) == _ids(2)[:1]
    await queue.finish(_ids(2)[0])
    queue.now_ms += 100
    assert await _claim_and_admit(queue, key=host, token="w.2") == _ids(2)[1:]
    await queue.finish(_ids(2)[1], "w.2")
    assert not await queue.redis.exists(queue.keys.running)


@pytest.mark.asyncio
async def test_a_key_that_requests_name_comes_under_no_limit_of_a_domain(queue: Queue) -> None:
    await _limit(queue, "c=1", "*.example.org")
    await _limit(queue, "c=2", "key:*")
    await _enqueue(queue, *_ids(4), key="key:a.example.org")
    assert await _claim_and_admit(queue, key="key:a.example.org") == _ids(2)


@pytest.mark.asyncio
async def test_a_key_that_cools_off_starts_nothing_until_its_time_and_then_one_at_a_time(queue: Queue) -> None:
    await _enqueue(queue, *_ids(20))
    started = await _claim_and_admit(queue)
    assert await queue.start_cooldown(KEY, 5000) == 5000
    await queue.finish(started[0])
    assert await _claim_and_admit(queue, token="w.2") == []
    queue.now_ms += 4999
    assert (await queue.claim(token="w.3")).wait_ms == 1
    for job_id in started[1:]:
        await queue.commit((job_id, "w.1", "finish", 1000, "", "x", "=HTTP_ERROR 429"))
    queue.now_ms += 1
    [probe] = await _claim_and_admit(queue, token="w.4")
    await queue.commit((probe, "w.4", "finish", 1000, "", "x", "+OK"))
    assert len(await _claim_and_admit(queue, token="w.5")) == 8
    assert not await queue.redis.exists(queue.keys.cooldowns)


@pytest.mark.asyncio
async def test_a_job_that_is_claimed_while_its_key_begins_to_cool_off_is_parked(queue: Queue) -> None:
    await _enqueue(queue, "job")
    assert (await queue.claim()).ids == ["job"]
    await queue.start_cooldown(KEY, 5000)
    assert await queue.admit(("job", "w.1", KEY)) == ["job"]
    assert await queue.tries("job") == 0


@pytest.mark.asyncio
async def test_a_key_that_asks_again_without_a_success_cools_off_twice_as_long_up_to_the_most(queue: Queue) -> None:
    lasted = []
    for _ in range(6):
        lasted.append(await queue.start_cooldown(KEY, first_ms=1000, most_ms=10_000))
        assert await queue.start_cooldown(KEY, first_ms=1000, most_ms=10_000) <= lasted[-1] * 1.5, (
            "that was no further strike"
        )
        queue.now_ms += 20_000
    assert all(0.8 * 1000 * 2**n <= ms <= 1.2 * 1000 * 2**n for n, ms in enumerate(lasted[:3]))
    assert lasted[4:] == [10_000, 10_000]


@pytest.mark.asyncio
async def test_a_crawl_delay_comes_with_a_note_and_is_bounded(queue: Queue) -> None:
    await _enqueue(queue, *_ids(4))
    started = await _claim_and_admit(queue, 2)
    await queue.commit((started[0], "w.1", "finish", 1000, "", "x", "+HTTP_ERROR 404 d=2000"))
    assert (await queue.redis.hget(queue.keys.hosts, KEY)).decode().endswith(" 2000 0 HTTP_ERROR 404")
    await queue.commit((started[1], "w.1", "finish", 1000, "", "x", "+OK"))
    assert await _claim_and_admit(queue, token="w.2") == _ids(4)[2:3]
    await queue.finish(_ids(4)[2], "w.2")
    queue.now_ms += 1999
    assert await _claim_and_admit(queue, token="w.3") == []
    queue.now_ms += 1
    assert await _claim_and_admit(queue, token="w.4") == _ids(4)[3:]
    await queue.commit((_ids(4)[3], "w.4", "finish", 1000, "", "x", f"+OK d={10**12}"))
    assert b" 3600000 " in await queue.redis.hget(queue.keys.hosts, KEY)


@pytest.mark.asyncio
async def test_the_jobs_of_a_host_that_stays_away_come_to_their_ends_at_a_slow_pace(queue: Queue) -> None:
    """Not one by one for ever: after so many failures nobody is waiting for it to come back."""
    count = 200
    await _enqueue(queue, *_ids(count))
    minutes, ended, turn = 0, 0, 0
    while ended < count:
        turn += 1
        started = await _claim_and_admit(queue, 20, token=f"w.{turn}")
        for job_id in started:
            await queue.commit((job_id, f"w.{turn}", "finish", 1000, "", "x", "-CONNECT_ERROR"))
        ended += len(started)
        queue.now_ms += 1000
        minutes = turn // 60
        assert minutes < 20, ended
    assert minutes >= 4, "and not all at once"


@pytest.mark.asyncio
async def test_a_job_under_a_key_of_its_own_heeds_its_host_without_counting_for_it(queue: Queue) -> None:
    await _limit(queue, "c=1")
    for number in range(3):
        await _enqueue(queue, f"job{number}", key=f"key:{number}")
    assert (await queue.claim(1)).ids == ["job0"]
    assert await queue.admit(("job0", "w.1", "key:0", "", KEY)) == []
    await queue.start_cooldown(KEY, 5000)
    assert (await queue.claim(token="w.2")).ids == ["job1", "job2"]
    refused = await queue.admit(("job1", "w.2", "key:1", "", KEY), ("job2", "w.2", "key:2", "", KEY))
    assert refused == ["job1", "job2"]
    queue.now_ms += 5000
    started = []
    for turn in range(3, 6):
        for job_id in (await queue.claim(token=f"w.{turn}")).ids:
            key = f"key:{job_id[-1]}"
            assert await queue.admit((job_id, f"w.{turn}", key, "", KEY)) == []
            started.append(job_id)
            await queue.finish(job_id, f"w.{turn}")
    assert started == ["job1", "job2"]
    await queue.finish("job0")
    queue.now_ms += 600_000
    await queue.claim(token="w.9")
    assert not await queue.redis.exists(queue.keys.hosts)


@pytest.mark.asyncio
async def test_a_producer_does_not_put_jobs_under_their_host_where_limits_belong_to_something_else(
    queue: Queue,
) -> None:
    await _limit(queue, "domain", "@by")
    await _limit(queue, "p=1", "*")
    await _enqueue(queue, "host")
    await _enqueue(queue, "own", key="key:own")
    assert (await queue.claim()).ids == ["host"]
    assert await queue.redis.zrange(f"{queue.keys.waiting}key:own", 0, -1) == [b"own"]


@pytest.mark.asyncio
async def test_a_retried_job_of_a_lane_stays_in_it(queue: Queue) -> None:
    await _enqueue(queue, "high", note="h")
    await _enqueue(queue, "low", key="low.example", note="l")
    claim = await queue.claim()
    assert claim.ids == ["high", "low"]
    await queue.commit(*[(job_id, "w.1", "retry", 1000, "", "") for job_id in claim.ids])
    queue.now_ms += 1000
    await _enqueue(queue, "default", key="default.example")
    assert [(await queue.claim(1, token=f"w.{n}")).ids for n in (2, 3, 4)] == [["high"], ["default"], ["low"]]


@pytest.mark.asyncio
async def test_a_record_of_jobs_that_stock_workers_took_is_forgotten(queue: Queue) -> None:
    await _enqueue(queue, *_ids(3))
    await _enqueue(queue, "there", key="other.example")
    await queue.redis.zrem(queue.keys.pending, *_ids(3))
    await queue.maintain()
    queue.now_ms += 60_000
    assert (await queue.claim()).ids == ["there"]
    assert await queue.admit(("there", "w.1", "other.example")) == []
    await queue.finish("there")
    assert not await queue.redis.exists(queue.keys.hosts)
    assert not await queue.redis.exists(queue.keys.due_hosts)


_PLACES = """
local score = {}
for i = 1, #ARGV, 3 do
  score[#score + 1] = scores[ARGV[i]](ARGV[i + 1], tonumber(ARGV[i + 2]))
end
local read = {}
for i = 1, #score do
  local lane, due, was_parked = scores.read(tonumber(score[i]))
  read[i] = {score[i], lane, string.format('%.1f', due), was_parked and 1 or 0}
end
return read
"""


@pytest.mark.asyncio
async def test_python_reads_a_score_as_the_scripts_write_and_read_it(queue: Queue) -> None:
    args = []
    for lane in ("", "h", "l"):
        for due in (0, 1, T0, T0 - 0.5, 2**46 + 0.5):
            args += ["ready", lane, repr(due), "parked", lane, repr(due)]
    places = await queue.redis.eval(script_source("include/scores") + _PLACES, 0, *args)
    assert len(places) == len(args) / 3
    for score, lane, due, was_parked in places:
        place = read_score(float(score))
        assert place == (lane.decode(), int(float(due)), was_parked == 1), score


@pytest.mark.parametrize("number", [float("inf"), float("-inf"), float("nan"), 1e300])
def test_a_score_that_is_none_is_due(number: float) -> None:
    assert read_score(number) == ("", 0, False)


@pytest.mark.asyncio
async def test_an_idle_worker_is_woken_where_a_job_gets_a_turn_before_those_that_it_knows_of(queue: Queue) -> None:
    await _limit(queue, "c=100 r=50000")
    await _enqueue(queue, "first")
    assert await _claim_and_admit(queue) == ["first"]
    assert await queue.tokens() == 0
    await _enqueue(queue, "second")
    assert await queue.tokens() == 1
    assert 45 < (await queue.claim()).wait_ms <= 55
    await _enqueue(queue, "third")
    assert await queue.tokens() == 0


@pytest.mark.asyncio
async def test_who_starts_a_job_of_a_host_with_a_rate_wakes_a_worker_for_the_next(queue: Queue) -> None:
    await _limit(queue, "c=100 r=50000")
    await _enqueue(queue, "first", "second")
    assert await _claim_and_admit(queue) == ["first"]
    assert await queue.tokens() == 1


@pytest.mark.asyncio
async def test_who_finishes_a_job_of_a_host_with_a_rate_wakes_a_worker_for_the_next(queue: Queue) -> None:
    await _limit(queue, "c=1 r=50000")
    await _enqueue(queue, "first", "second")
    assert await _claim_and_admit(queue) == ["first"]
    assert await queue.tokens() == 0
    await queue.finish("first")
    assert await queue.tokens() == 1


@pytest.mark.asyncio
async def test_a_rate_that_is_raised_does_not_hold_back_what_the_old_one_would_have(queue: Queue) -> None:
    await _limit(queue, "r=3600000000")
    await _enqueue(queue, *_ids(3))
    assert await _claim_and_admit(queue) == _ids(3)[:1]
    await _limit(queue, "r=100000")
    await queue.set_limits("", "", "", KEY)
    queue.now_ms += 110
    assert await _claim_and_admit(queue, token="w.2") == _ids(3)[1:2]


async def _records(queue: Queue) -> dict[str, HostRecord]:
    return (await FrontierState.read(queue.redis, queue.keys)).records


@pytest.mark.asyncio
@pytest.mark.parametrize("comes_up_by", ["its turn", "its deadline", "an abort"])
async def test_a_job_that_will_not_be_run_leaves_its_place_to_the_next(queue: Queue, comes_up_by: str) -> None:
    await _limit(queue, "c=1")
    await _enqueue(queue, *_ids(2))
    await _enqueue(queue, "over", note=str(T0 + 5000) if comes_up_by == "its deadline" else "")
    assert await _claim_and_admit(queue) == _ids(1)
    if comes_up_by == "its deadline":
        queue.now_ms += 5000
    elif comes_up_by == "an abort":
        await queue.redis.zadd(queue.keys.pending, {"over": 1})
    else:
        await queue.finish(_ids(1)[0])
        await _claim_and_admit(queue, token="w.2")
        await queue.finish(_ids(2)[1], "w.2")
    assert (await queue.claim(token="w.3")).ids == ["over"]
    assert await queue.admit(("over", "w.3", KEY, WILL_NOT_RUN)) == []
    assert queue.deadline_passed == ["over"]
    record = (await _records(queue)).get(KEY, HostRecord())
    assert (record.ready, record.waiting) == (0, 0 if comes_up_by == "its turn" else 1)


@pytest.mark.asyncio
async def test_a_run_that_ends_after_its_lease_leaves_no_job_counted_as_standing(queue: Queue) -> None:
    await _enqueue(queue, "late")
    assert await _claim_and_admit(queue) == ["late"]
    queue.now_ms += LEASE_MS
    await queue.claim(only=["nothing"])
    assert (await _records(queue))[KEY].ready == 1
    await queue.finish("late")
    assert await _records(queue) == {}


@pytest.mark.asyncio
async def test_a_job_given_back_after_its_lease_is_counted_as_standing_once(queue: Queue) -> None:
    await _enqueue(queue, "late")
    assert await _claim_and_admit(queue) == ["late"]
    queue.now_ms += LEASE_MS
    await queue.claim(only=["nothing"])
    await queue.return_claims("w.1")
    assert (await _records(queue))[KEY].ready == 1


@pytest.mark.asyncio
async def test_jobs_whose_waiting_queue_was_deleted_come_back(queue: Queue) -> None:
    await _limit(queue, "c=1")
    await _enqueue(queue, *_ids(4))
    await _enqueue(queue, "other", "others", key="other.example", note="l")
    assert await _claim_and_admit(queue) == _ids(1)
    await queue.redis.delete(queue.keys.waiting + KEY)
    await queue.finish(_ids(1)[0])
    queue.now_ms += 1000
    await queue.maintain()
    for number in range(1, 4):
        assert await _claim_and_admit(queue, token=f"w.{number + 1}") == [_ids(4)[number]]
        await queue.finish(_ids(4)[number], f"w.{number + 1}")
    await queue.maintain()
    assert not (await FrontierState.read(queue.redis, queue.keys)).jobs_were_lost


@pytest.mark.asyncio
@pytest.mark.parametrize("left", ["queues", "nothing"])
async def test_jobs_come_back_though_somebody_deleted_the_records(queue: Queue, left: str) -> None:
    keys = queue.keys
    await _limit(queue, "c=1")
    await _enqueue(queue, *_ids(3))
    await queue.redis.delete(keys.hosts, keys.due_hosts)
    if left == "nothing":
        await queue.redis.delete(keys.backlog, keys.waiting + KEY)
    for number in range(3):
        queue.now_ms += 2000
        await queue.maintain()
        assert await _claim_and_admit(queue, token=f"w.{number}") == [_ids(3)[number]]
        await queue.finish(_ids(3)[number], f"w.{number}")


@pytest.mark.asyncio
async def test_a_host_whose_jobs_others_have_taken_is_forgotten(queue: Queue) -> None:
    await _enqueue(queue, "taken")
    await queue.redis.zrem(queue.keys.pending, "taken")
    assert (await _records(queue))[KEY].ready == 1
    await queue.maintain()
    assert await _records(queue) == {}


@pytest.mark.asyncio
async def test_who_starts_a_job_is_told_when_the_next_of_that_host_may_start(queue: Queue) -> None:
    await _limit(queue, "c=100 r=50000")
    await _enqueue(queue, *_ids(3))
    assert await _claim_and_admit(queue) == _ids(1)
    assert 45 < queue.next_due_ms <= 55


@pytest.mark.asyncio
async def test_who_ends_a_job_is_told_when_the_next_of_that_host_may_start(queue: Queue) -> None:
    await _limit(queue, "c=1 r=50000")
    await _enqueue(queue, *_ids(3))
    assert await _claim_and_admit(queue) == _ids(1)
    assert queue.next_due_ms == -1
    *_, turn_ms = await queue.commit_whole((_ids(1)[0], "w.1", "finish", 1000))
    assert 45 < turn_ms <= 55


@pytest.mark.asyncio
async def test_a_worker_is_woken_for_a_turn_that_it_could_not_know_of(queue: Queue) -> None:
    await _limit(queue, "r=50000")
    await _enqueue(queue, "first")
    assert await _claim_and_admit(queue) == ["first"]
    await queue.redis.delete(queue.keys.wake)
    await _enqueue(queue, *_ids(3))
    assert await queue.redis.llen(queue.keys.wake) == 1


@pytest.mark.asyncio
async def test_no_more_jobs_of_a_host_stand_because_those_that_do_wait_long_for_a_worker(queue: Queue) -> None:
    await _limit(queue, "c=1")
    await _enqueue(queue, "before", key="other.example")
    await _enqueue(queue, *_ids(3))
    for _ in range(5):
        queue.now_ms += 2000
        await queue.claim(only=["nothing"])  # any claim looks at those whose time has come
    assert (await queue.claim()).ids == ["before", *_ids(1)]


@pytest.mark.asyncio
async def test_a_host_whose_standing_job_somebody_else_took_goes_on_with_the_next(queue: Queue) -> None:
    await _limit(queue, "c=1")
    await _enqueue(queue, *_ids(2))
    await queue.redis.zrem(queue.keys.pending, _ids(1)[0])
    assert (await queue.claim()).ids == []
    queue.now_ms += 1000
    assert (await queue.claim()).ids == _ids(2)[1:]


@pytest.mark.asyncio
async def test_a_record_that_counts_runs_which_there_are_not_is_corrected(queue: Queue) -> None:
    await queue.set_limits(KEY, "set", "c=1")
    await queue.redis.hset(queue.keys.hosts, KEY, "1 0 0 0 0 0 0 0 0 OK")
    await queue.enqueue(("a", "", KEY, ""))
    assert (await queue.claim()).ids == []
    await queue.maintain()
    assert (await queue.claim()).ids == ["a"]
    assert await queue.admit(("a", "w.1", KEY)) == []
    await queue.maintain()
    assert (await FrontierState.read(queue.redis, queue.keys)).record(KEY).running == 1


@pytest.mark.asyncio
async def test_a_key_with_room_for_all_lets_its_waiting_jobs_go_some_thousands_a_call(queue: Queue) -> None:
    await queue.set_limits(KEY, "set", "p=1")
    for start in range(0, 5000, 500):
        await queue.enqueue(*[(f"job{number}", "", KEY, "") for number in range(start, start + 500)])
    await queue.set_limits(KEY, "set", "c=100000 p=0", KEY)
    assert 2000 <= (await FrontierState.read(queue.redis, queue.keys)).record(KEY).ready <= 2500
    claimed: set[str] = set()
    for number in range(6):
        claimed |= set((await queue.claim(1000, token=f"w.{number}")).ids)
    assert len(claimed) == 5000
