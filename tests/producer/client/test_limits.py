"""Limits of hosts, as a service sets and reads them."""

from __future__ import annotations

import pytest
from redis.asyncio import Redis
from tests.support.redis_server import RedisServer

from fetchq import CancelOutcome, HostLimits, InvalidRequest, JobStatus, Producer, SyncProducer
from fetchq.client.limits import name_of


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("EXAMPLE.org", "example.org"),
        (" example.org ", "example.org"),
        ("bücher.example", "xn--bcher-kva.example"),
        ("::1", "[::1]"),
        ("[2001:DB8:0::1]", "[2001:db8::1]"),
        ("127.1", "127.0.0.1"),
        ("*.Bücher.example", "*.xn--bcher-kva.example"),
        ("*", "*"),
        ("key:tenant 7", "key:tenant 7"),
    ],
)
def test_a_host_name_is_normalised_as_in_a_url(host: str, name: str) -> None:
    assert name_of(host) == name


@pytest.mark.parametrize(
    "host",
    ["https://example.org/", "example.org:8080", "[::1]:80", "a/b", "a?b", "", " ", "*.", "a.*.b", "**", "user@host",
     "a b", "key:", "key:\n", "a" * 300, "exa\0mple", "1.2.3.4.5"],
)  # fmt: skip
def test_an_invalid_host_is_refused_in_one_sentence(host: str) -> None:
    with pytest.raises(InvalidRequest, match=r"^host: takes (a host such as example\.org|1 to 200 print)") as problem:
        name_of(host)
    assert "\n" not in str(problem.value)


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("rate", "shown"),
    [
        ("2/s", "2/s"),
        ("100/min", "100/min"),
        ("100 / m", "100/min"),
        ("5/h", "5/h"),
        ("1/d", "1/d"),
        ("0.5/s", "30/min"),
        ("3/s", "3/s"),
        ("7/min", "7/min"),
        ("1/30s", "2/min"),
        ("2/hour", "2/h"),
        ("NONE", "none"),
    ],
)
async def test_a_rate_is_read_and_shown_in_words(producer: Producer, rate: str, shown: str) -> None:
    assert await producer.limits.set("example.org", rate=rate) == HostLimits(rate=shown)


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({}, "limits"),
        ({"rate": "fast"}, "rate"),
        ({"rate": "2"}, "rate"),
        ({"rate": "2/fortnight"}, "rate"),
        ({"rate": "0/s"}, "rate"),
        ({"rate": "-1/s"}, "rate"),
        ({"rate": "9999999/s"}, "rate"),
        ({"rate": "0.001/d"}, "rate"),
        ({"rate": 2}, "rate"),
        ({"concurrency": 0}, "concurrency"),
        ({"concurrency": 1.5}, "concurrency"),
        ({"burst": 0}, "burst"),
        ({"min_delay_s": -1}, "min_delay_s"),
        ({"min_delay_s": float("nan")}, "min_delay_s"),
    ],
)
async def test_an_invalid_limit_is_refused_and_nothing_is_set(
    producer: Producer, redis: Redis, given: dict[str, object], field: str
) -> None:
    with pytest.raises(InvalidRequest) as problem:
        await producer.limits.set("example.org", **given)  # type: ignore[arg-type]
    assert problem.value.field == field
    assert not await redis.exists(producer.keys.limits)


@pytest.mark.asyncio
async def test_a_limit_not_set_for_a_host_comes_from_the_wider_name(producer: Producer) -> None:
    limits = producer.limits
    await limits.set("*", concurrency=4, min_delay_s=0.25)
    await limits.set("*.example.org", rate="2/s", burst=5, concurrency=6)
    await limits.set("shop.example.org", concurrency=1)
    assert await limits.effective("SHOP.example.org") == HostLimits(
        concurrency=1, rate="2/s", burst=5, min_delay_s=0.25, paused=False
    )
    assert await limits.effective("example.org") == HostLimits(concurrency=4, min_delay_s=0.25, paused=False)
    assert list(await limits.list()) == ["*", "*.example.org", "shop.example.org"]
    assert await limits.clear("*")
    assert not await limits.clear("*")
    assert (await limits.effective("example.org")).concurrency == 8


@pytest.mark.asyncio
async def test_effective_limits_are_those_that_the_scripts_apply(producer: Producer) -> None:
    await producer.limits.set("*.c.example", concurrency=3)
    await producer.limits.set("a.b.c.example", burst=2)
    for host in ("a.b.c.example", "b.c.example", "c.example"):
        jobs = await producer.enqueue_many(f"http://{host}/{number}" for number in range(10))
        queued = [await job.status() for job in jobs].count(JobStatus.QUEUED)
        assert queued == (await producer.limits.effective(host)).concurrency


@pytest.mark.asyncio
async def test_a_wildcard_that_changes_reaches_every_waiting_host_under_it_and_no_other(producer: Producer) -> None:
    await producer.limits.set("*", concurrency=1)
    hosts = [f"h{number}.example.org" for number in range(700)]
    await producer.enqueue_many(f"http://{host}/{number}" for host in [*hosts, "other.net"] for number in range(2))
    assert len(await producer.hosts(top=1000)) == 701
    await producer.limits.set("*.example.org", concurrency=2)
    assert [state.host for state in await producer.hosts(top=1000)] == ["other.net"]


@pytest.mark.asyncio
async def test_a_paused_host_is_shown_as_such_and_its_jobs_wait(producer: Producer) -> None:
    await producer.limits.pause("example.org")
    jobs = await producer.enqueue_many(["http://example.org/1", "http://example.org/2", "http://other.net/"])
    assert [await job.status() for job in jobs] == [JobStatus.DEFERRED, JobStatus.DEFERRED, JobStatus.QUEUED]
    [state] = await producer.hosts()
    assert (state.host, state.waiting, state.paused, state.next_start_s) == ("example.org", 2, True, None)
    await producer.limits.resume("example.org")
    assert await jobs[0].status() is JobStatus.QUEUED
    assert await producer.limits.list() == {}


@pytest.mark.asyncio
async def test_resuming_the_queue_wakes_idle_workers(producer: Producer, redis: Redis) -> None:
    await producer.pause()
    assert await redis.exists(producer.keys.paused)
    await producer.resume()
    await producer.resume()
    assert not await redis.exists(producer.keys.paused)
    assert await redis.llen(producer.keys.wake) == 8  # type: ignore[misc]  # redis-py 5 types it as either


@pytest.mark.asyncio
async def test_a_host_is_shown_as_paused_by_the_narrowest_name_that_says_so(producer: Producer) -> None:
    await producer.limits.pause("*.example.org")
    await producer.enqueue_many(f"http://{name}.example.org/{page}" for name in ("a", "b") for page in range(10))
    await producer.limits.resume("a.example.org")
    assert {state.host: state.paused for state in await producer.hosts()} == {
        "a.example.org": False,
        "b.example.org": True,
    }


@pytest.mark.asyncio
async def test_a_limit_key_that_is_no_utf8_hides_no_other(producer: Producer, redis: Redis) -> None:
    await producer.enqueue_many(f"http://example.org/{page}" for page in range(10))
    await redis.zadd(producer.keys.backlog, {b"\xff.example": 20})
    await redis.hset(producer.keys.hosts, b"\xff.example", b"0 0 20 0 0 0 0 0 0 ")  # type: ignore[misc,arg-type]  # bytes do as well
    assert [state.host for state in await producer.hosts()] == ["\N{REPLACEMENT CHARACTER}.example", "example.org"]


@pytest.mark.asyncio
async def test_the_busiest_hosts_come_first_and_no_more_than_asked_for(producer: Producer) -> None:
    for number in range(1, 6):
        await producer.enqueue_many(f"http://h{number}.example/{page}" for page in range(8 + number))
    states = await producer.hosts(top=2)
    assert [(state.host, state.waiting, state.due) for state in states] == [("h5.example", 5, 8), ("h4.example", 4, 8)]
    with pytest.raises(InvalidRequest, match=r"^top: 0 is not between 1 and 1000$"):
        await producer.hosts(top=0)


@pytest.mark.asyncio
async def test_parked_deferred_and_ready_jobs_of_a_host_are_cancelled_and_no_others(
    producer: Producer,
) -> None:
    jobs = await producer.enqueue_many(f"http://example.org/{number}" for number in range(2500))
    later = await producer.enqueue("http://EXAMPLE.org:8080/later", delay_s=3600)
    others = await producer.enqueue_many(["http://www.example.org/", "http://example.net/?u=http://example.org/"])
    total = 0
    async for counts in producer.cancel_all(host="Example.ORG"):
        assert set(counts) == {CancelOutcome.CANCELLED}
        total += counts[CancelOutcome.CANCELLED]
    assert total == 2501
    assert [await job.status() for job in (jobs[0], jobs[-1], later)] == [JobStatus.COMPLETE] * 3
    assert [await job.status() for job in others] == [JobStatus.QUEUED] * 2
    assert await producer.hosts() == []


@pytest.mark.asyncio
async def test_parked_jobs_of_a_host_are_cancelled_before_the_queue_is_scanned(
    producer: Producer,
) -> None:
    await producer.limits.pause("*")
    await producer.enqueue_many(f"http://example.net/{number}" for number in range(2000))
    await producer.enqueue_many(f"http://example.org/{number}" for number in range(2000))
    batches = [counts async for counts in producer.cancel_all(host="example.org")]
    assert len(batches) == 3, "six parts a call, and the first"
    assert sum(counts[CancelOutcome.CANCELLED] for counts in batches) == 2000
    assert [state.host for state in await producer.hosts()] == ["example.net"]


@pytest.mark.asyncio
async def test_jobs_of_a_host_can_be_narrowed_by_a_tag(producer: Producer) -> None:
    wanted = await producer.enqueue("http://example.org/1", tags=("old",))
    kept = await producer.enqueue("http://example.org/2", tags=("new",))
    assert [counts async for counts in producer.cancel_all(host="example.org", tag="old")] == [
        {CancelOutcome.CANCELLED: 1}
    ]
    assert (await wanted.status(), await kept.status()) == (JobStatus.COMPLETE, JobStatus.QUEUED)


@pytest.mark.asyncio
async def test_stale_ids_in_a_hosts_queue_do_not_block_cancelling(producer: Producer, redis: Redis) -> None:
    await producer.limits.pause("example.org")
    job = await producer.enqueue("http://example.org/")
    await redis.zadd(producer.keys.waiting + "example.org", {f"ghost{number:04}": 0 for number in range(1500)})
    assert [counts async for counts in producer.cancel_all(host="example.org")] == [{CancelOutcome.CANCELLED: 1}]
    assert await job.status() is JobStatus.COMPLETE


@pytest.mark.asyncio
@pytest.mark.parametrize("host", ["*", "*.example.org", "key:tenant", "http://example.org/"])
async def test_only_one_host_is_cancelled_at_a_time(producer: Producer, host: str) -> None:
    with pytest.raises(InvalidRequest, match=r"^host: takes (one|a) host such as example\.org"):
        await anext(producer.cancel_all(host=host))


def test_the_blocking_producer_sets_reads_and_pauses_too(redis_server: RedisServer) -> None:
    with SyncProducer.from_url(redis_server.url) as producer:
        assert producer.limits.set("example.org", concurrency=1, rate="5/s") == HostLimits(concurrency=1, rate="5/s")
        producer.limits.pause("example.org")
        assert producer.limits.effective("example.org").paused
        producer.enqueue_many([f"http://example.org/{number}" for number in range(3)])
        assert [state.waiting for state in producer.hosts()] == [3]
        producer.limits.resume("example.org")
        assert producer.limits.list() == {"example.org": HostLimits(concurrency=1, rate="5/s")}
        assert producer.limits.clear("example.org")
        producer.pause()
        producer.resume()
        assert list(producer.cancel_all(host="example.org")) == [{CancelOutcome.CANCELLED: 3}]
