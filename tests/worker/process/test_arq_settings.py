"""The stock `arq` worker with fetchq's settings class: users' coroutines and the fetch, and what arq does not do."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from typing import Any
from unittest.mock import AsyncMock

import msgspec
import pytest
import pytest_asyncio
from arq.connections import ArqRedis
from arq.cron import cron
from arq.worker import Worker, func, get_kwargs
from tests.support.scripted_queue import job_keys
from tests.support.web.site import Site, http_response

import fetchq_worker
from fetchq import FetchRequest, FetchResult, FetchStatus, Producer, RetryPolicy
from fetchq.command.settings import InvalidSetting
from fetchq.contract import wire
from fetchq.contract.job_ids import PUSH_PREFIX_LEN
from fetchq.store.address import RedisAddress
from fetchq_worker import engine, worker_settings
from fetchq_worker.engine.run.context import RunContext
from fetchq_worker.engine.run.snooze import Snooze
from fetchq_worker.fetch import Fetcher, fetch
from fetchq_worker.process.arq_settings import FETCH_MAX_TRIES, redis_settings
from fetchq_worker.process.embedded import EmbeddedRedis
from fetchq_worker.process.make_worker import make_worker
from fetchq_worker.settings import Settings

pytestmark = pytest.mark.filterwarnings(
    "ignore:Call to deprecated close:DeprecationWarning"  # arq's own, as it closes its Redis
)

SETTINGS = Settings(allow_net=("127.0.0.0/8",), concurrency=7, user_agent="stock/1")


@pytest_asyncio.fixture
async def redis(embedded: EmbeddedRedis, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[ArqRedis]:
    """A client of the embedded Redis, which has no INFO for arq to log."""
    monkeypatch.setattr("arq.worker.log_redis_info", AsyncMock())
    client = embedded.client()
    client.job_serializer, client.job_deserializer = wire.serialize, wire.deserialize
    yield client
    await client.aclose()


@pytest.fixture(params=[Worker, engine.Worker], ids=["stock", "engine"])
def kind(request: pytest.FixtureRequest) -> type[Worker]:
    """The class of the worker, for tests that apply to both."""
    worker_class: type[Worker] = request.param
    return worker_class


async def _run(redis: ArqRedis, settings_class: type, kind: type[Worker] = Worker) -> Worker:
    """Runs a worker until the queue is empty."""
    options = {"redis_pool": redis, "burst": True, "poll_delay": 0.01, "handle_signals": False}
    worker = kind(**{**get_kwargs(settings_class), **options})  # type: ignore[arg-type]  # arq types them as NameError
    try:
        await worker.async_run()
    finally:
        await worker.close()
    return worker


@pytest.mark.asyncio
async def test_a_producers_fetch_is_run_and_its_result_pushed(
    site: Site, redis: ArqRedis, producer: Producer, kind: type[Worker]
) -> None:
    job = await producer.enqueue(site.serve_json("/", [42]), result_ttl_s=77)
    waiting = asyncio.create_task(job.result(timeout_s=10))

    worker = await _run(redis, worker_settings(settings=SETTINGS), kind)

    result = await waiting
    assert (result.status, result.data, result.id) == (FetchStatus.OK, [42], job.id)
    assert site.visits[0].header("User-Agent") == "stock/1"
    assert worker.jobs_complete == 1


@pytest.mark.asyncio
async def test_the_results_time_to_live_is_the_requests_own(
    site: Site, redis: ArqRedis, producer: Producer, kind: type[Worker]
) -> None:
    url = site.serve("/", http_response())
    kept = await producer.enqueue(url, result_ttl_s=77)
    dropped = await producer.enqueue(url, result_ttl_s=0)

    await _run(redis, worker_settings(settings=SETTINGS), kind)

    assert 70 < await redis.ttl(f"arq:result:{kept.id}") <= 77
    assert not await redis.exists(f"arq:result:{dropped.id}")


@pytest.mark.asyncio
async def test_a_finished_job_is_published_on_its_producers_channel(
    site: Site, redis: ArqRedis, producer: Producer, embedded: EmbeddedRedis, kind: type[Worker]
) -> None:
    job = await producer.enqueue(site.serve("/", http_response()))
    listener = embedded.client()
    async with listener.pubsub() as channel:
        await channel.subscribe(f"fetchq:done:{job.id[:PUSH_PREFIX_LEN]}")

        await _run(redis, worker_settings(settings=SETTINGS), kind)

        async with asyncio.timeout(5):
            messages = [message async for message in _two(channel)]
    await listener.aclose()
    assert messages[1] == job.id.encode()


async def _two(channel: Any) -> AsyncIterator[Any]:
    seen = 0
    async for message in channel.listen():
        yield message["data"]
        seen += 1
        if seen == 2:
            return


@pytest.mark.asyncio
async def test_a_retried_job_is_tried_again_and_leaves_no_key_but_its_result(
    site: Site, redis: ArqRedis, producer: Producer, kind: type[Worker]
) -> None:
    url = site.serve("/", http_response(status=503), http_response(status=503), http_response(b"at last"))
    job = await producer.enqueue(url, retry=RetryPolicy(base_s=0.02, cap_s=0.02))

    worker = await _run(redis, worker_settings(settings=SETTINGS), kind)

    result = await job.result(timeout_s=5)
    assert [attempt.http_status for attempt in result.attempts] == [503, 503, 200]
    assert worker.jobs_retried == 2
    # Neither of these workers has a gate: the record of the host that the producer wrote stays for workers with one.
    left = [key for key in await job_keys(redis) if b"wake" not in key and b"fetchq:hosts" not in key]
    assert left == [f"arq:result:{job.id}".encode()]


@pytest.mark.asyncio
async def test_a_job_of_a_newer_version_keeps_its_tries_under_stock_arq_too(redis: ArqRedis) -> None:
    await redis.enqueue_job("fetch_data", {"url": "http://example.org/", "v": 2}, _job_id="newer")
    settings_class = worker_settings(settings=SETTINGS, max_burst_jobs=1)

    worker = await _run(redis, settings_class)

    assert worker.jobs_retried == 1
    assert await redis.get("arq:retry:newer") == b"0"
    assert await redis.exists("arq:job:newer")


@pytest.mark.asyncio
async def test_a_stopping_worker_requeues_the_job_uncounted(site: Site, redis: ArqRedis, producer: Producer) -> None:
    arrived = asyncio.Event()

    async def never(_: object) -> None:
        arrived.set()
        await asyncio.Event().wait()

    job = await producer.enqueue(site.serve("/", never, http_response(b"hello")))
    stopping = asyncio.create_task(_run(redis, worker_settings(settings=SETTINGS)))
    await arrived.wait()
    stopping.cancel()
    await asyncio.wait([stopping])

    assert await redis.get(f"arq:retry:{job.id}") == b"0"
    await _run(redis, worker_settings(settings=SETTINGS))
    assert (await job.result(timeout_s=5)).body == b"hello"


@pytest.mark.asyncio
async def test_the_users_coroutine_fetches_with_the_shared_client(
    site: Site, redis: ArqRedis, kind: type[Worker]
) -> None:
    upload = AsyncMock(return_value="stored")  # stands in for a user's own coroutine

    async def archive(ctx: dict[str, Any], url: str) -> str:
        page = await fetch(ctx, FetchRequest(url=url))
        assert page.id == ""
        stored: str = await upload(page.body, name=page.final_url)
        return stored

    url = site.serve("/", http_response(b"a page"))
    job = await redis.enqueue_job("archive", url)
    assert job is not None

    await _run(redis, worker_settings([func(archive, name="archive")], settings=SETTINGS), kind)

    assert await job.result(timeout=1) == "stored"
    upload.assert_awaited_once_with(b"a page", name=url)
    assert site.visits[0].header("User-Agent") == "stock/1"


@pytest.mark.asyncio
async def test_the_users_hooks_run_beside_ours(redis: ArqRedis, kind: type[Worker]) -> None:
    seen: list[tuple[str, bool]] = []

    def hook(name: str) -> Any:
        async def note(ctx: dict[str, Any]) -> None:
            seen.append((name, isinstance(ctx.get("fetcher"), Fetcher)))

        return note

    async def nothing(ctx: dict[str, Any]) -> None:
        await asyncio.sleep(0)

    await redis.enqueue_job("nothing")
    hooks = {name: hook(name) for name in ("on_startup", "on_job_start", "on_job_end", "after_job_end", "on_shutdown")}
    await _run(redis, worker_settings([func(nothing, name="nothing")], settings=SETTINGS, **hooks), kind)

    assert seen == [
        (name, True) for name in ("on_startup", "on_job_start", "on_job_end", "after_job_end", "on_shutdown")
    ]


@pytest.mark.asyncio
async def test_the_client_is_closed_even_if_the_users_shutdown_fails(redis: ArqRedis) -> None:
    class ShutdownFailed(Exception):
        pass

    clients: list[Fetcher] = []

    async def on_shutdown(ctx: dict[str, Any]) -> None:
        clients.append(ctx["fetcher"])
        raise ShutdownFailed

    with pytest.raises(ShutdownFailed):
        await _run(redis, worker_settings(settings=SETTINGS, on_shutdown=on_shutdown))

    assert clients[0].closed


@pytest.mark.asyncio
async def test_after_the_engines_commit_the_hook_does_nothing() -> None:
    redis = AsyncMock()
    hook = worker_settings(settings=SETTINGS).__dict__["after_job_end"]

    await hook({"redis": redis, "job_id": "a", "fetchq": RunContext(lease_token="t")})

    assert redis.mock_calls == []


@pytest.mark.asyncio
async def test_an_outage_at_the_end_of_a_job_does_not_end_the_worker(caplog: pytest.LogCaptureFixture) -> None:
    redis = AsyncMock(exists=AsyncMock(side_effect=OSError("gone")))
    hook = worker_settings(settings=SETTINGS).__dict__["after_job_end"]

    await hook({"redis": redis, "job_id": "a"})

    assert "job.not_completed" in caplog.text


def test_the_class_holds_what_arq_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    made = worker_settings(settings=SETTINGS, max_jobs=3, health_check_interval=9).__dict__

    assert (made["max_jobs"], made["health_check_interval"], made["queue_name"]) == (3, 9, "arq:queue")
    (fetch_function,) = made["functions"]
    assert (fetch_function.name, fetch_function.timeout_s, fetch_function.max_tries) == (
        "fetch_data",
        320,
        FETCH_MAX_TRIES,
    )


def test_an_option_that_arq_does_not_have_is_refused() -> None:
    with pytest.raises(InvalidSetting, match="max_job is not an option"):
        worker_settings(settings=SETTINGS, max_job=3)


def test_the_default_class_reads_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    from fetchq_worker.process.arq_settings import _of_environment

    monkeypatch.setenv("FETCHQ_REDIS_URL", "rediss://user:p%40ss@redis.example.org:7000/3")
    monkeypatch.setenv("FETCHQ_CONCURRENCY", "23")
    _of_environment.cache_clear()
    try:
        made = fetchq_worker.WorkerSettings.__dict__
    finally:
        _of_environment.cache_clear()

    address = made["redis_settings"]
    assert made["max_jobs"] == 23
    assert (address.host, address.port, address.database) == ("redis.example.org", 7000, 3)
    assert (address.username, address.password, address.ssl, address.ssl_check_hostname) == ("user", "p@ss", True, True)


def test_sentinels_and_sockets_become_arqs_own_settings() -> None:
    sentinels = redis_settings(RedisAddress.parse("redis+sentinel://a:1,b:2/main/4"))
    socket = redis_settings(RedisAddress.parse("unix:///run/redis.sock?db=2"))

    assert (sentinels.host, sentinels.sentinel, sentinels.sentinel_master) == ([("a", 1), ("b", 2)], True, "main")
    assert (socket.unix_socket_path, socket.database) == ("/run/redis.sock", 2)
    with pytest.raises(InvalidSetting, match="sentinel"):
        redis_settings(RedisAddress.parse("redis+sentinel://a/main?sentinel_password=x"))


def test_importing_the_package_loads_no_http_client() -> None:
    code = "import sys, fetchq_worker; sys.exit('aiohttp' in sys.modules or 'arq' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_an_unknown_name_of_the_package_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        fetchq_worker.nothing  # noqa: B018


def test_a_snooze_is_a_retry_to_stock_arq() -> None:
    assert Snooze(1.5).defer_score == 1500


def test_a_failed_fetch_is_a_result_that_a_stock_client_reads() -> None:
    data = wire.serialize({"s": True, "f": "fetch_data", "r": FetchResult(url="http://a/", status=FetchStatus.TIMEOUT)})

    assert wire.deserialize(data)["r"] == {"url": "http://a/", "status": "TIMEOUT"}


async def _hello(ctx: dict[str, Any]) -> str:
    await ctx["redis"].enqueue_job("world", _job_id="from-a-coroutine")
    return "hello"


async def _world(ctx: dict[str, Any]) -> str:
    return "world"


@pytest.mark.asyncio
async def test_jobs_enqueued_by_cron_and_by_coroutines_follow_the_contract(
    embedded: EmbeddedRedis,
) -> None:
    """arq's client pickles by default, and a pickle is refused."""
    pool = embedded.client()
    described = worker_settings([func(_world, name="world")], settings=SETTINGS, redis_pool=None)
    options = {"burst": True, "poll_delay": 0.01, "handle_signals": False}
    described.cron_jobs = [cron(_hello, run_at_startup=True, keep_result=60)]  # type: ignore[attr-defined]
    worker = make_worker(described, pool, **options)
    await worker.async_run()
    await worker.close()
    assert (worker.jobs_complete, worker.jobs_failed) == (2, 0)
    async with Producer(embedded.client()) as producer:
        assert await producer.job("from-a-coroutine").value(timeout_s=0) == "world"


@pytest.mark.asyncio
async def test_the_stock_worker_refuses_a_namespace_before_it_runs_anything(redis: ArqRedis) -> None:
    await redis.enqueue_job("fetch_data", {"url": "http://example.org/"}, _job_id="a")
    with pytest.raises(InvalidSetting, match=r"the arq command knows no namespace \('n:'\)"):
        await _run(redis, worker_settings(settings=SETTINGS, namespace="n:"))
    assert await redis.exists("arq:job:a")
    assert await redis.get("arq:retry:a") is None


@pytest.mark.asyncio
async def test_a_namespace_is_the_settings_unless_it_is_given(redis: ArqRedis) -> None:
    settings = msgspec.structs.replace(SETTINGS, namespace="s:")
    assert worker_settings(settings=settings).__dict__["namespace"] == "s:"
    assert worker_settings(settings=settings, namespace="").__dict__["namespace"] == ""
    assert make_worker(worker_settings(settings=settings), redis).keys.job == "s:arq:job:"
