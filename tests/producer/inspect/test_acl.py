"""The permissions that `fetchq acl` prints: all that a producer, a worker and an operator need, and no more."""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import pytest
import pytest_asyncio
import redis
from arq.connections import ArqRedis
from arq.cron import cron
from arq.jobs import serialize_job
from redis.exceptions import NoPermissionError
from tests.support.redis_server import RedisServer
from tests.support.redis_users import PASSWORD, create_users, refusals, sent_commands, user_url
from tests.support.running import running, wait_until
from tests.support.web.site import Site, Visit, http_response
from tests.worker.cli.conftest import Fetchq

from fetchq import (
    CancelOutcome,
    FetchStatus,
    JobStatus,
    Producer,
    RedisRefused,
    RetryPolicy,
    SyncProducer,
)
from fetchq.client.write.policy import Durability
from fetchq.contract import wire
from fetchq.errors import DurabilityRefused, NotDurable
from fetchq.inspect.acl import RIGHTS, acl_rule, channel_names, key_access, script_commands
from fetchq.store.connection import connect
from fetchq.store.keys import Keys
from fetchq.store.registry import Role
from fetchq_worker.cli.actions.figures import show_queue_state
from fetchq_worker.engine import Worker
from fetchq_worker.process.arq_settings import worker_settings
from fetchq_worker.process.make_worker import make_worker
from fetchq_worker.settings import Settings

NAMED_DANGEROUS = {"info"}
"""Commands of Redis's category `dangerous` that a rule may hold; the module says why."""
SENT_ELSEWHERE = {"eval", "unlink"}
"""EVAL is sent if the server does not have a script, which another user may have loaded; UNLINK by `fetchq fetch
--redis`, in the next test."""


@pytest.fixture
def admin(redis_server: RedisServer) -> Iterator[redis.Redis]:
    with redis.Redis(unix_socket_path=str(redis_server.socket)) as admin:
        admin.script_flush()
        create_users(admin)
        yield admin
        for role in Role:
            admin.acl_deluser(role)


@pytest_asyncio.fixture
async def site() -> AsyncIterator[Site]:
    site = Site()
    await site.start()
    yield site
    await site.stop()


@asynccontextmanager
async def worker_at_work(url: str, ran: list[str]) -> AsyncIterator[Worker]:
    """Runs a worker as `fetchq worker` makes it, with coroutines that use arq's features."""

    async def tick(ctx: dict[str, Any]) -> None:
        ran.append("cron")

    async def again(ctx: dict[str, Any], more: int) -> None:
        if more:
            for _ in range(2):  # the second is there already
                await ctx["redis"].enqueue_job("again", more - 1, _job_id="one-more")
        ran.append("again")

    settings = Settings(redis_url=url, allow_net=("127.0.0.0/8",), concurrency=10, cooldown_s=0)
    described = worker_settings([again], settings=settings, redis_pool=None)
    options = {"handle_signals": False, "lease_s": 1.0, "cron_jobs": [cron(tick, run_at_startup=True)]}
    options |= {"health_check_interval": 1, "job_completion_wait": 0}
    again.__qualname__ = "again"
    worker = make_worker(described, connect(url, redis_class=ArqRedis), **options)
    async with running(worker):
        yield worker


async def _fetch(producer: Producer, site: Site) -> None:
    page = site.serve("/page", http_response(b"well", headers={"Cache-Control": "max-age=60"}))
    site.serve("/robots.txt", http_response(b"User-agent: *\nDisallow: /no"))
    flaky = site.serve("/flaky", http_response(status=503), http_response(b"well"))
    await producer.ping()
    quick = RetryPolicy(max_tries=2, base_s=0.0)
    jobs = await producer.enqueue_many([page, flaky, site.url("/missing")])
    jobs.append(await producer.enqueue(page, robots=True, cache=True))
    jobs.append(await producer.enqueue(flaky, method="POST", retry_non_idempotent=True, retry=quick))
    jobs.append(await producer.enqueue(page, key="once"))
    assert await producer.enqueue(page, key="once") == jobs[-1]
    assert len([result async for result in producer.as_completed(jobs, timeout_s=20)]) == 6
    keyed = [await producer.enqueue(page, key=f"channel {number}") for number in range(6)]  # a channel each
    assert len([result async for result in producer.as_completed(keyed, timeout_s=20)]) == 6
    assert (await (await producer.enqueue(page, cache=True)).result(timeout_s=20)).from_cache
    await (await producer.enqueue(page, method="PUT")).result(timeout_s=20)
    assert not (await (await producer.enqueue(page, cache=True)).result(timeout_s=20)).from_cache
    assert [result.status async for result in producer.as_completed(jobs[:1], timeout_s=0)] == [FetchStatus.OK]


async def _cancel(producer: Producer, site: Site) -> None:
    asked = asyncio.Event()

    async def never(visit: Visit) -> None:
        asked.set()
        await asyncio.Event().wait()

    page = site.url("/page")
    later = await producer.enqueue(page, delay_s=600, tags=("old",))
    assert await later.status() is JobStatus.DEFERRED
    assert await later.cancel() is CancelOutcome.CANCELLED
    assert (await later.result(timeout_s=0)).status is FetchStatus.CANCELLED
    await producer.enqueue(page, delay_s=600, tags=("old",))
    assert [counts async for counts in producer.cancel_all(tag="old")] == [{CancelOutcome.CANCELLED: 1}]
    await producer.enqueue(page, delay_s=600)
    assert [counts async for counts in producer.cancel_all(host="127.0.0.1")] == [{CancelOutcome.CANCELLED: 1}]
    hanging = await producer.enqueue(site.serve("/never", never))
    await asyncio.wait_for(asked.wait(), 20)
    assert await hanging.cancel() is CancelOutcome.REQUESTED
    assert (await hanging.result(timeout_s=20)).status is FetchStatus.CANCELLED


async def _run_coroutines(producer: Producer, admin: redis.Redis, ran: list[str]) -> None:
    chain = await producer.enqueue_job("again", 1)
    assert chain is not None
    await chain.value(timeout_s=20)
    await wait_until(lambda: ran.count("again") == 2 and "cron" in ran)
    tried = serialize_job("again", (0,), {}, 3, 1, serializer=wire.serialize)
    admin.set("arq:job:tried", tried or b"")  # by a stock client, with a count of tries
    admin.zadd("arq:queue", {"tried": 1})
    await producer.job("tried").value(timeout_s=20)


def _use_blocking_producer(url: str, page: str) -> None:
    with SyncProducer.from_url(url) as producer:
        assert all(producer.as_completed(producer.enqueue_many([page] * 3), timeout_s=20))
        job = producer.enqueue(page, delay_s=600)
        assert job.status() is JobStatus.DEFERRED
        assert job.cancel() is CancelOutcome.CANCELLED


async def _fail(producer: Producer) -> str:
    """Leaves two dead letters, and returns the id of the first."""
    ids = []
    for _ in range(2):
        job = await producer.enqueue("http://127.0.0.1:9999/", retry=RetryPolicy(max_tries=1))
        assert (await job.result(timeout_s=20)).status is FetchStatus.CONNECT_ERROR
        ids.append(job.id)
    return ids[0]


async def _operate(operator: Producer, producer: Producer, admin: redis.Redis, dead: str, operator_url: str) -> None:
    dead_letters = operator.dead_letters
    assert await dead_letters.count() == 2
    assert (await dead_letters.get(dead)).id == dead
    assert dead in [dead_letter.id async for dead_letter in dead_letters.list()]
    assert dead in [dead_letter.id async for dead_letter in dead_letters.list(newest_first=True)]
    assert await dead_letters.retry_many([dead]) == ["retried"]
    await wait_until(lambda: admin.zscore("fetchq:dead:arq:queue", dead) is not None)
    assert await dead_letters.purge_many([dead]) == [True]
    assert sum([count async for count in dead_letters.purge_all()]) == 1
    await operator.limits.pause("example.org")
    await producer.enqueue("http://example.org/")
    assert [state.host for state in await operator.hosts()] == ["example.org"]
    assert await show_queue_state(False, True, 10, Settings(redis_url=operator_url)) == 0
    await operator.limits.set("*", concurrency=3, rate="5/s")
    assert (await operator.limits.effective("example.org")).paused
    assert list(await operator.limits.list()) == ["*", "example.org"]
    await operator.pause()
    await operator.limits.resume("example.org")
    assert await operator.limits.clear("*")
    await operator.resume()


async def _use_another_database(server: RedisServer) -> None:
    for role in (Role.PRODUCER, Role.OPERATOR):
        async with Producer.from_url(user_url(server, role, database=1)) as elsewhere:
            await elsewhere.ping()
    burst = Settings(redis_url=user_url(server, Role.WORKER, database=1))
    async with connect(burst.redis_url, redis_class=ArqRedis) as pool:
        worker = make_worker(worker_settings(settings=burst, redis_pool=None), pool, burst=True)
        worker._handle_signals = False
        await worker.async_run()
        await worker.close()


@pytest.mark.asyncio
async def test_producer_worker_and_operator_need_all_of_their_rights_and_no_more(
    redis_server: RedisServer, admin: redis.Redis, site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    producer_url, worker_url = (user_url(redis_server, role) for role in (Role.PRODUCER, Role.WORKER))
    settings = Settings(redis_url=worker_url)
    ran: list[str] = []
    with sent_commands() as sent:
        async with Producer.from_url(producer_url) as producer, worker_at_work(worker_url, ran):
            await _fetch(producer, site)
            await _cancel(producer, site)
            await _run_coroutines(producer, admin, ran)
            await wait_until(lambda: bool(admin.exists("fetchq:workers:arq:queue")))
            assert await show_queue_state(True, True, 5, settings) == 0
            admin.script_flush()
            assert (await (await producer.enqueue(site.url("/page"))).result(timeout_s=20)).ok
            await asyncio.to_thread(_use_blocking_producer, producer_url, site.url("/page"))
            await wait_until(lambda: bool(admin.exists("arq:queue:health-check")))
            await wait_until(lambda: bool(admin.exists("fetchq:maintenance-cursor:arq:queue")))
            dead = await _fail(producer)
            operator_url = user_url(redis_server, Role.OPERATOR)
            async with Producer.from_url(operator_url) as operator:
                await _operate(operator, producer, admin, dead, operator_url)
        await _use_another_database(redis_server)
    assert refusals(admin) == []
    assert not [event for event in ("redis.unavailable", "redis.refused", "failed error") if event in caplog.text]
    for role, rights in RIGHTS.items():
        allowed = rights.commands | script_commands(role)
        assert sent[role] - {"auth"} <= allowed
        unused = rights.commands - sent[role] - script_commands(role)
        if int(redis.__version__.partition(".")[0]) > 5:  # which sends SET in its place; the worker runs on redis-py 5
            unused -= {"setex"}
        assert unused <= SENT_ELSEWHERE, f"the rule of a {role} holds commands that nothing here sends"


def test_every_command_line_works_with_these_rights(
    redis_server: RedisServer, admin: redis.Redis, tmp_path: Path
) -> None:
    producer_url, worker_url = (user_url(redis_server, role) for role in (Role.PRODUCER, Role.WORKER))
    command = Fetchq(tmp_path)
    url = "http://127.0.0.1:9999/"
    try:
        enqueued = command.run("enqueue", url, "--max-tries", "1", "--redis", producer_url)
        job_id = enqueued.stdout.strip()
        assert command.run("worker", "--burst", "--redis", worker_url).returncode == 0
        assert "CONNECT_ERROR" in command.run("result", job_id, "--redis", producer_url).stdout
        assert command.run("enqueue", url, "--tag", "t", "--redis", producer_url).returncode == 0
        assert command.run("cancel", "--tag", "t", "--redis", producer_url).stdout.startswith("1 cancelled")
        for url_of_role in (worker_url, user_url(redis_server, Role.OPERATOR)):
            assert command.run("status", "--json", "--hosts", "--redis", url_of_role).returncode == 0
            assert command.run("top", "--once", "--redis", url_of_role).returncode == 0
        both = acl_rule("both", [Role.PRODUCER, Role.WORKER], Keys())
        admin.execute_command(*both.split())  # type: ignore[no-untyped-call]
        admin.execute_command("ACL", "SETUSER", "both", f">{PASSWORD}")  # type: ignore[no-untyped-call]
        own_url = producer_url.replace("producer:", "both:")
        assert '"CONNECT_ERROR"' in command.run("fetch", url, "--max-tries", "1", "--redis", own_url).stdout
        assert refusals(admin) == []
        refused = command.run("worker", "--burst", "--redis", producer_url)
        assert refused.returncode == 3
        assert "give the user of its address the rights that `fetchq acl` prints" in refused.stderr
    finally:
        command.close()
    assert all(line.startswith("producer: ") for line in refusals(admin))


@pytest.mark.parametrize(
    ("role", "command"),
    [
        (Role.PRODUCER, ("CONFIG", "GET", "*")),
        (Role.PRODUCER, ("KEYS", "*")),
        (Role.PRODUCER, ("SCAN", "0")),
        (Role.PRODUCER, ("FLUSHALL",)),
        (Role.PRODUCER, ("ACL", "LIST")),
        (Role.PRODUCER, ("CLIENT", "KILL", "ID", "1")),
        (Role.PRODUCER, ("MONITOR",)),
        (Role.PRODUCER, ("SET", "elsewhere", "1")),
        (Role.PRODUCER, ("GET", "elsewhere")),
        (Role.PRODUCER, ("SET", "arq:in-progress:x", "1")),
        (Role.PRODUCER, ("GET", "arq:retry:x")),
        (Role.PRODUCER, ("EXISTS", "fetchq:workers:arq:queue")),
        (Role.PRODUCER, ("ZADD", "arq:other-queue", "1", "x")),
        (Role.PRODUCER, ("BLPOP", "fetchq:wake:arq:queue", "1")),
        (Role.PRODUCER, ("SUBSCRIBE", "elsewhere")),
        (Role.PRODUCER, ("PSUBSCRIBE", "*")),
        (Role.PRODUCER, ("PUBLISH", "elsewhere", "x")),
        (Role.PRODUCER, ("EVAL", "return redis.call('GET', 'elsewhere')", "0")),
        (Role.PRODUCER, ("EVAL", "return redis.call('FLUSHALL')", "0")),
        (Role.WORKER, ("CONFIG", "SET", "maxmemory-policy", "noeviction")),
        (Role.WORKER, ("KEYS", "*")),
        (Role.WORKER, ("FLUSHDB",)),
        (Role.WORKER, ("SCRIPT", "FLUSH")),
        (Role.WORKER, ("SCRIPT", "KILL")),
        (Role.WORKER, ("FUNCTION", "LIST")),
        (Role.WORKER, ("SHUTDOWN",)),
        (Role.WORKER, ("GET", "elsewhere")),
        (Role.WORKER, ("ZADD", "arq:other-queue", "1", "x")),
        (Role.WORKER, ("HGETALL", "fetchq:leases:arq:other-queue")),
        (Role.WORKER, ("PUBLISH", "elsewhere", "x")),
        (Role.WORKER, ("EVAL", "return redis.call('SET', 'elsewhere', '1')", "0")),
    ],
)
@pytest.mark.usefixtures("admin")
def test_what_a_role_does_not_need_is_refused(redis_server: RedisServer, role: Role, command: tuple[str, ...]) -> None:
    user = redis.Redis(unix_socket_path=str(redis_server.socket), username=role, password=PASSWORD)
    with user, pytest.raises(redis.ResponseError) as refusal:
        user.execute_command(*command)  # type: ignore[no-untyped-call]
    assert isinstance(refusal.value, NoPermissionError) or "user executing the script can't" in str(refusal.value)


@pytest.mark.parametrize("role", Role)
def test_a_rule_holds_no_admin_command_and_each_dangerous_one_is_listed(admin: redis.Redis, role: Role) -> None:
    categories = {category: set(cast(list[str], admin.acl_cat(category))) for category in ("admin", "dangerous")}
    rights = RIGHTS[role]
    commands = rights.commands | script_commands(role)
    assert not commands & categories["admin"]
    assert commands & categories["dangerous"] <= NAMED_DANGEROUS


@pytest.mark.asyncio
async def test_a_rule_is_for_one_queue_and_one_namespace_whatever_their_names(
    redis_server: RedisServer, admin: redis.Redis
) -> None:
    keys = Keys(queue="a*b [c]?\\", namespace="{tenant}:")
    create_users(admin, keys)
    url = user_url(redis_server, Role.PRODUCER)
    async with Producer.from_url(url, queue=keys.queue, namespace=keys.namespace) as producer:
        job = await producer.enqueue("https://example.org/", delay_s=60)
        assert await job.cancel() is CancelOutcome.CANCELLED
    async with Producer.from_url(url, queue="axb [c]?\\", namespace=keys.namespace) as other:
        with pytest.raises(RedisRefused, match="permission"):
            await other.enqueue("https://example.org/")


def test_applying_a_rule_again_removes_old_rights_and_keeps_the_password(
    redis_server: RedisServer, admin: redis.Redis
) -> None:
    admin.execute_command("ACL", "SETUSER", Role.PRODUCER, "allkeys", "allchannels", "+@all")  # type: ignore[no-untyped-call]
    admin.execute_command(*acl_rule(Role.PRODUCER, [Role.PRODUCER], Keys()).split())  # type: ignore[no-untyped-call]
    with redis.Redis(unix_socket_path=str(redis_server.socket), username=Role.PRODUCER, password=PASSWORD) as user:
        assert user.ping()
        with pytest.raises(NoPermissionError):
            user.keys()


def test_redis_cli_accepts_the_printed_commands(redis_server: RedisServer, tmp_path: Path) -> None:
    command = Fetchq(tmp_path)
    try:
        both = command.run("acl").stdout
        one = command.run("acl", "producer", "worker", "--user", "all-in-one", "--queue", "q").stdout
        assert command.run("acl", "emperor").returncode == 2
        assert command.run("acl", "--user", "two words").returncode == 2
    finally:
        command.close()
    assert re.findall(r"^ACL SETUSER (\S+) on ", both, re.MULTILINE) == [
        "fetchq-producer",
        "fetchq-worker",
        "fetchq-operator",
    ]
    assert one.count("\n") == 1
    with socket.socket(socket.AF_UNIX) as client:  # as redis-cli sends a line, but for its quotes
        client.connect(str(redis_server.socket))
        for line in (both + one).splitlines():
            client.sendall(line.encode() + b"\r\n")
            assert client.recv(64) == b"+OK\r\n"
    with redis.Redis(unix_socket_path=str(redis_server.socket)) as admin:
        for user in ("fetchq-producer", "fetchq-worker", "fetchq-operator", "all-in-one"):
            state = admin.acl_getuser(user)
            assert state is not None
            assert state["passwords"] == []
            assert "nopass" not in state["flags"]
            admin.acl_deluser(user)


@pytest.mark.parametrize("durability", Durability)
def test_every_server_accepts_the_rules_of_each_durability(
    redis_server: RedisServer, tmp_path: Path, durability: Durability
) -> None:
    shown = Fetchq(tmp_path).run("acl", "--durability", durability)
    assert shown.returncode == 0
    with redis.Redis(unix_socket_path=str(redis_server.socket)) as admin:
        version = admin.info("server")["redis_version"].split(".")
        has_waitaof = [int(part) for part in version] >= [7, 2]
        for rule in shown.stdout.splitlines():
            if rule.endswith(" +waitaof") and not has_waitaof:
                with pytest.raises(redis.ResponseError, match="waitaof"):
                    admin.execute_command(*rule.split())
            else:
                assert "waitaof" not in rule or durability is Durability.FSYNC
                assert admin.execute_command(*rule.split())
        for user in ("fetchq-producer", "fetchq-worker", "fetchq-operator"):
            admin.acl_deluser(user)
    assert ("WAITAOF" in shown.stderr) == (durability is Durability.FSYNC)


def test_every_key_and_channel_is_granted_to_a_role() -> None:
    names = {
        name
        for name, value in vars(Keys).items()
        if isinstance(value, property) and isinstance(getattr(Keys(), name), str)
    }
    granted = {name for role in Role for name in key_access(role)}
    channels = {name for role in Role for name in channel_names(role)}
    assert granted | channels | {"durability_marker"} == names  # the marker: of producers that ask for durability
    assert not granted & channels


@pytest.mark.asyncio
async def test_only_a_producer_with_replicated_durability_may_send_wait(
    redis_server: RedisServer, admin: redis.Redis
) -> None:
    """Without a replica the writes are not durable; the test is about whether WAIT may be sent."""
    rule = acl_rule(Role.PRODUCER, [Role.PRODUCER], Keys(), Durability.REPLICATED)
    url = user_url(redis_server, Role.PRODUCER)
    async with Producer.from_url(url, durability="replicated", durable_timeout_s=0.1) as producer:
        with pytest.raises(DurabilityRefused, match="no permissions"):
            await producer.enqueue("https://example.org/")
        admin.acl_log_reset()
        admin.execute_command(*rule.split())  # type: ignore[no-untyped-call]
        with pytest.raises(NotDurable, match="0 of 1 replicas"):
            await producer.enqueue("https://example.org/")
    assert refusals(admin) == []
