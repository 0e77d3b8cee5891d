"""Limit keys: a host, its registrable domain, or its address."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
import pytest_asyncio
from tests.support.running import running, wait_until
from tests.support.web.site import Site, Visit, http_response

from fetchq import Producer
from fetchq.store.keys import Keys
from fetchq_worker.politeness.gate import FetchGate
from fetchq_worker.politeness.limit_by import ByAddress, ByDomain, ByHost, agreed_policy, lowest
from fetchq_worker.process.arq_settings import worker_settings
from fetchq_worker.process.embedded import EmbeddedRedis
from fetchq_worker.process.make_worker import make_worker
from fetchq_worker.settings import LimitBy, Settings

KEYS = Keys()


@pytest_asyncio.fixture
async def redis(embedded: EmbeddedRedis) -> AsyncIterator[Any]:
    client = embedded.client()
    yield client
    await client.aclose()


@pytest.mark.parametrize(
    ("host", "domain"),
    [
        ("example.org", "example.org"),
        ("a.b.example.org", "example.org"),
        ("a.example.co.uk", "example.co.uk"),
        ("co.uk", "co.uk"),
        ("alice.github.io", "alice.github.io"),
        ("www.alice.github.io", "alice.github.io"),
        ("www.xn--fsq.xn--0zwm56d", "xn--fsq.xn--0zwm56d"),
        ("localhost", "localhost"),
        ("printer.intranet", "printer.intranet"),
        ("a..b.example", "a..b.example"),
        ("192.0.2.1", "192.0.2.1"),
        ("[2001:db8::1]", "[2001:db8::1]"),
    ],
)
def test_the_domain_is_the_registrable_domain(host: str, domain: str) -> None:
    assert ByDomain().key_of(f"https://{host}:8443/path") == domain


class _Names:
    """A resolver that records its look-ups; names without addresses do not resolve."""

    def __init__(self, **names: Sequence[str]) -> None:
        self.names = {name.replace("_", "."): addresses for name, addresses in names.items()}
        self.asked: list[str] = []

    async def addresses(self, host: str, timeout_s: float) -> Sequence[str]:
        self.asked.append(host)
        await asyncio.sleep(0)
        if host not in self.names:
            raise OSError("no such name")
        return self.names[host]


@pytest.mark.asyncio
async def test_hosts_with_one_address_share_a_key_and_each_name_is_resolved_once() -> None:
    names = _Names(a_example=("192.0.2.9", "192.0.2.10"), b_example=("192.0.2.10", "2001:db8::1", "192.0.2.9"))
    policy = ByAddress()
    policy.use(names)
    assert policy.key_of("http://a.example/") is None
    keys = await asyncio.gather(*(policy.wait_key_of("http://a.example/") for _ in range(5)))
    assert {*keys, await policy.wait_key_of("http://b.example:81/")} == {"192.0.2.9"}
    assert policy.key_of("http://a.example/") == "192.0.2.9"
    assert names.asked == ["a.example", "b.example"]


@pytest.mark.asyncio
async def test_a_host_that_does_not_resolve_is_its_own_key_and_the_failure_is_cached() -> None:
    names = _Names(empty_example=())
    policy = ByAddress()
    policy.use(names)
    assert await policy.wait_key_of("http://nowhere.example/") == "nowhere.example"
    assert await policy.wait_key_of("http://empty.example/") == "empty.example"
    assert policy.key_of("http://nowhere.example/") == "nowhere.example"
    assert await ByAddress().wait_key_of("http://a.example/") == "a.example", "without a resolver"


@pytest.mark.asyncio
async def test_cancelling_one_waiter_does_not_cancel_the_others() -> None:
    policy = ByAddress()
    policy.use(_Names(a_example=("192.0.2.1",)))
    first = asyncio.create_task(policy.wait_key_of("http://a.example/"))
    second = asyncio.create_task(policy.wait_key_of("http://a.example/"))
    await asyncio.sleep(0)
    first.cancel()
    assert await second == "192.0.2.1"


def test_the_lowest_address_does_not_depend_on_the_order() -> None:
    assert lowest(["2001:db8::1", "198.51.100.20", "198.51.100.3"]) == "198.51.100.3"
    assert lowest(["2001:db8::2", "2001:db8:0::1"]) == "[2001:db8::1]"
    assert lowest([]) is None


def test_an_ipv4_mapped_address_is_the_ipv4_address() -> None:
    assert lowest(["2001:db8::1", "::ffff:192.0.2.1"]) == "192.0.2.1"
    assert ByAddress().key_of("http://[::ffff:c000:201]/") == ByAddress().key_of("http://192.0.2.1/") == "192.0.2.1"
    assert ByAddress().key_of("http://[2001:DB8::1]:8080/".lower()) == "[2001:db8::1]"


@pytest.mark.asyncio
async def test_a_workers_policy_is_stored_for_the_other_workers_and_producers(redis: Any) -> None:
    assert isinstance(await agreed_policy(redis, KEYS, LimitBy.QUEUE), ByHost)
    assert not await redis.exists(KEYS.limits), "the default policy is not stored"
    assert isinstance(await agreed_policy(redis, KEYS, LimitBy.DOMAIN), ByDomain)
    assert isinstance(await agreed_policy(redis, KEYS, LimitBy.QUEUE), ByDomain)
    assert await redis.hget(KEYS.limits, "@by") == b"domain"
    assert isinstance(await agreed_policy(redis, KEYS, LimitBy.HOST), ByHost)
    assert not await redis.exists(KEYS.limits)
    await redis.hset(KEYS.limits, "@by", b"\xff nonsense")
    assert isinstance(await agreed_policy(redis, KEYS, LimitBy.QUEUE), ByHost)


@pytest.mark.asyncio
async def test_a_request_with_a_limit_key_respects_its_host_and_one_with_a_proxy_is_not_resolved(
    redis: Any,
) -> None:
    gate = FetchGate(LimitBy.ADDRESS)
    await gate.open(redis, KEYS)
    assert gate.limit_of("fetch_data", [{"url": "http://a.example/"}]) is None
    assert gate.limit_of("fetch_data", [{"url": "http://192.0.2.1/", "limit_key": "t"}]) == ("key:t", "", "192.0.2.1")
    assert gate.limit_of("fetch_data", [{"url": "http://a.example/", "proxy": "p"}]) == ("a.example", "", "")
    assert gate.limit_of("another", [{"url": "http://a.example/"}]) == ("", "", "")


@pytest.mark.parametrize("limit_by", [LimitBy.DOMAIN, LimitBy.ADDRESS])
@pytest.mark.asyncio
async def test_two_hosts_with_one_key_share_its_concurrency(
    site: Site, redis: Any, embedded: EmbeddedRedis, producer: Producer, limit_by: LimitBy
) -> None:
    now, most = 0, 0

    async def count(visit: Visit) -> None:
        nonlocal now, most
        now += 1
        most = max(most, now)
        await asyncio.sleep(0.01)
        now -= 1
        await visit.send(http_response(b"well"))

    site.serve("/", count)
    await redis.hset(KEYS.limits, "*", "c=1")
    settings = Settings(allow_net=("127.0.0.0/8",), concurrency=10, limit_by=limit_by)
    options = {"handle_signals": False, "job_completion_wait": 0}
    workers = [
        make_worker(worker_settings(settings=settings, redis_pool=None), embedded.client(), **options) for _ in range(2)
    ]
    urls = [site.url(f"/?{n}", host) for n in range(10) for host in ("a.sub.localhost", "b.sub.localhost")]
    before = await producer.enqueue_many(urls[:10])
    async with running(*workers):
        await wait_until(lambda: bool(site.visits))
        jobs = [*before, *await producer.enqueue_many(urls[10:])]
        assert all([result.ok async for result in producer.as_completed(jobs, timeout_s=20)])
        assert await redis.hget(KEYS.limits, "@by") == limit_by.value.encode()
    assert most == 1
