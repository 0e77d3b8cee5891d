"""DNS look-ups: slow and failing name servers, sharing, caching, cancellation."""

from __future__ import annotations

import asyncio
import resource
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import dns.rcode
import pytest
import pytest_asyncio
from tests.support.web.dns_server import DnsServer
from tests.support.web.site import Site, http_response

from fetchq import FetchStatus
from fetchq_worker.fetch import Fetcher, fetch
from fetchq_worker.fetch.egress.guard import EgressForbidden, Guard
from fetchq_worker.fetch.egress.lookup import MAX_ADDRESSES, Lookups, NameServersSilent, NameUnresolved
from fetchq_worker.fetch.egress.resolver import GuardedResolver

pytestmark = pytest.mark.asyncio

ADDRESS = "93.184.215.14"


@pytest_asyncio.fixture
async def server() -> AsyncIterator[DnsServer]:
    server = DnsServer()
    server.default = (ADDRESS,)
    await server.start()
    yield server
    server.stop()


@pytest_asyncio.fixture
async def lookups(server: DnsServer) -> AsyncIterator[Lookups]:
    lookups = Lookups((server.address,))
    yield lookups
    await lookups.aclose()


@pytest_asyncio.fixture
async def resolver(server: DnsServer) -> AsyncIterator[GuardedResolver]:
    resolver = GuardedResolver(Guard(), (server.address,))
    yield resolver
    await resolver.close()


async def test_a_name_server_that_becomes_slow_after_quick_answers_is_waited_for(
    server: DnsServer, resolver: GuardedResolver
) -> None:
    for number in range(20):
        await resolver.addresses(f"quick{number}.example", 10.0)
    server.delay_s = 2.5  # c-ares alone gives up after 0.25, 0.75 and 1.75 s, each time from another port

    slow = await asyncio.gather(*(resolver.addresses(f"slow{number}.example", 10.0) for number in range(20)))

    assert slow == [(ADDRESS,)] * 20


async def test_a_fetch_waits_for_a_slow_name_server_as_long_as_its_connect_timeout_says(server: DnsServer) -> None:
    site = Site()
    await site.start()
    server.default = ("127.0.0.1",)
    options = {"retry": {"max_tries": 1}, "connect_timeout_s": 10.0}
    async with Fetcher(user_agent="t/1", allow_net=("127.0.0.1",), nameservers=(server.address,)) as fetcher:
        site.serve("/", http_response(b"hello"))
        for number in range(20):
            await fetch({"fetcher": fetcher}, {"url": site.url("/", f"quick{number}.example"), **options})
        server.delay_s = 2.5
        slow = await fetch({"fetcher": fetcher}, {"url": site.url("/", "slow.example"), **options})
        server.delay_s, server.silent = 0.0, True
        options["connect_timeout_s"] = 0.2
        silent = await fetch({"fetcher": fetcher}, {"url": site.url("/", "silent.example"), **options})
        server.silent, server.failure = False, dns.rcode.SERVFAIL
        failed = await fetch({"fetcher": fetcher}, {"url": site.url("/", "failed.example"), **options})
    await site.stop()

    assert slow.status is FetchStatus.OK
    assert (silent.status, silent.error) == (
        FetchStatus.TIMEOUT,
        "no name server answered within connect_timeout_s",
    )
    assert (failed.status, failed.error) == (
        FetchStatus.DNS_ERROR,
        "the name does not resolve: the name server failed (SERVFAIL)",
    )


async def test_a_second_channel_that_has_adapted_to_quick_answers_is_replaced(
    server: DnsServer, resolver: GuardedResolver
) -> None:
    for number in range(20):
        await resolver.addresses(f"quick{number}.example", 10.0)
    server.delay_s = 0.3  # slow enough for the second channel, which then takes 1.5 s for long enough
    for number in range(4):
        await resolver.addresses(f"brisk{number}.example", 10.0)
    server.delay_s = 2.5
    assert await resolver.addresses("slow.example", 10.0) == (ADDRESS,)


async def test_slow_answers_to_many_look_ups_cost_few_channels(server: DnsServer, lookups: Lookups) -> None:
    await lookups.resolve("quick.example")
    threads = len(list(Path("/proc/self/task").iterdir()))
    server.delay_s = 0.4

    async def one_after_another(task: int) -> None:
        for number in range(3):
            await lookups.resolve(f"name{task}-{number}.example")

    await asyncio.gather(*(one_after_another(task) for task in range(50)))
    assert len(list(Path("/proc/self/task").iterdir())) <= threads + 15


async def test_a_lost_query_is_repeated_although_the_second_channel_waits_long(
    server: DnsServer, resolver: GuardedResolver
) -> None:
    await resolver.addresses("quick.example", 5.0)
    server.silent = True
    waiting = asyncio.create_task(resolver.addresses("lost.example", 30.0))
    while ("lost.example", "A") not in server.queries:
        await asyncio.sleep(0.01)
    server.silent = False

    assert await waiting == (ADDRESS,)


async def test_a_silent_name_server_is_waited_for_as_long_as_the_caller_says(
    server: DnsServer, resolver: GuardedResolver
) -> None:
    server.silent = True
    with pytest.raises(NameServersSilent, match="no name server answered within connect_timeout_s"):
        await resolver.addresses("a.example", 0.1)


@pytest.mark.parametrize(
    ("failure", "reason"),
    [
        (dns.rcode.NXDOMAIN, "it does not exist or has no address"),
        (dns.rcode.NOERROR, "it does not exist or has no address"),
        (dns.rcode.SERVFAIL, r"the name server failed \(SERVFAIL\)"),
        (dns.rcode.REFUSED, r"the name server refused to answer \(REFUSED\)"),
    ],
)
async def test_the_error_says_what_the_name_server_answered(
    server: DnsServer, lookups: Lookups, failure: dns.rcode.Rcode, reason: str
) -> None:
    server.failure = failure
    with pytest.raises(NameUnresolved, match=f"^the name does not resolve: {reason}$"):
        await lookups.resolve("a.example")


async def test_a_name_server_that_is_down_is_told_from_a_name_that_does_not_exist() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    lookups = Lookups((f"127.0.0.1:{port}",))
    with pytest.raises(NameUnresolved, match="no name server can be reached"):
        await lookups.resolve("a.example")
    await lookups.aclose()


@pytest.mark.parametrize("name", ["a..example", "x" * 64 + ".example", "x." * 130 + "example", "a b.example"])
async def test_a_name_that_dns_cannot_express_does_not_resolve(lookups: Lookups, name: str) -> None:
    with pytest.raises(NameUnresolved):
        await lookups.resolve(name)


async def test_concurrent_look_ups_of_one_name_are_one_and_survive_a_cancelled_waiter(
    server: DnsServer, lookups: Lookups
) -> None:
    server.delay_s = 0.05
    waiters = [asyncio.create_task(lookups.resolve("a.example")) for _ in range(10)]
    await asyncio.sleep(0)
    waiters[0].cancel()  # the one that began it

    assert await asyncio.gather(*waiters[1:]) == [(ADDRESS,)] * 9
    assert waiters[0].cancelled()
    assert sorted(server.queries) == [("a.example", "A"), ("a.example", "AAAA")]


async def test_a_look_up_ends_with_its_last_waiter(server: DnsServer, lookups: Lookups) -> None:
    server.silent = True
    waiters = [asyncio.create_task(lookups.resolve("a.example")) for _ in range(3)]
    await asyncio.sleep(0)
    for waiter in waiters:
        waiter.cancel()
    await asyncio.gather(*waiters, return_exceptions=True)

    assert "running=0" in repr(lookups)
    server.silent = False
    assert await lookups.resolve("a.example") == (ADDRESS,)


async def test_addresses_are_cached_for_their_ttl(server: DnsServer, lookups: Lookups) -> None:
    server.ttl_s = 300
    assert await lookups.resolve("kept.example") == lookups.cached("kept.example") == (ADDRESS,)
    server.ttl_s = 0
    assert await lookups.resolve("fresh.example") == (ADDRESS,)
    assert lookups.cached("fresh.example") is None


async def test_both_families_are_found(server: DnsServer, lookups: Lookups) -> None:
    server.names["both.example"] = [(ADDRESS, "2606:4700::1")]
    server.names["six.example"] = [("2606:4700::1",)]
    assert sorted(await lookups.resolve("both.example")) == ["2606:4700::1", ADDRESS]
    assert await lookups.resolve("six.example") == ("2606:4700::1",)


async def test_many_addresses_are_bounded_but_each_is_checked(server: DnsServer, resolver: GuardedResolver) -> None:
    many = tuple(f"93.184.{n // 200}.{n % 200 + 1}" for n in range(500))
    server.names = {"many.example": [many], "one-bad.example": [(*many, "10.0.0.1")]}
    assert len(await resolver.addresses("many.example", 5.0)) == MAX_ADDRESSES
    with pytest.raises(EgressForbidden, match="private addresses"):
        await resolver.addresses("one-bad.example", 5.0)


async def test_search_domains_are_tried_after_a_name_with_a_dot_and_not_for_an_absolute_one(
    server: DnsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOCALDOMAIN", "corp.example")  # as `search` in resolv.conf
    monkeypatch.setenv("RES_OPTIONS", "ndots:5")  # as in a pod of Kubernetes
    server.default = None
    server.names["host.corp.example"] = server.names["svc.ns.corp.example"] = [(ADDRESS,)]
    lookups = Lookups((server.address,))

    assert await lookups.resolve("host") == await lookups.resolve("svc.ns") == (ADDRESS,)
    assert server.queries[0][0] == "host.corp.example"
    assert [name for name, kind in server.queries if "svc" in name and kind == "A"] == ["svc.ns", "svc.ns.corp.example"]
    server.queries.clear()
    for name in ("host.", "svc.ns."):
        with pytest.raises(NameUnresolved, match="it does not exist"):
            await lookups.resolve(name)
    assert {name for name, _ in server.queries} == {"host", "svc.ns"}
    await lookups.aclose()


async def test_a_name_server_that_drops_one_kind_of_query_is_not_waited_for(
    server: DnsServer, resolver: GuardedResolver
) -> None:
    for number in range(5):
        await resolver.addresses(f"quick{number}.example", 5.0)
    server.unanswered = {"AAAA"}
    assert await resolver.addresses("a.example", 5.0) == (ADDRESS,)


async def test_a_process_without_a_free_descriptor_reports_a_name_that_does_not_resolve(
    server: DnsServer, lookups: Lookups
) -> None:
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, limits[1]))
    try:
        with pytest.raises(NameUnresolved):
            await lookups.resolve("a.example")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert await lookups.resolve("a.example") == (ADDRESS,)


async def test_closing_ends_look_ups_and_leaves_no_descriptor(server: DnsServer) -> None:
    def descriptors() -> int:
        return sum(1 for _ in Path("/proc/self/fd").iterdir())

    server.silent = True
    before = descriptors()
    for _ in range(20):
        lookups = Lookups((server.address,))
        waiting = asyncio.create_task(lookups.resolve("a.example"))
        while not server.queries:
            await asyncio.sleep(0.001)
        server.queries.clear()
        await lookups.aclose()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        with pytest.raises(NameUnresolved, match="the client is closed"):
            await lookups.resolve("a.example")
    async with asyncio.timeout(10.0):
        while descriptors() > before:  # c-ares closes them in a thread of its own
            await asyncio.sleep(0.01)
