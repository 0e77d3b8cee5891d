"""The faults of a drill, each with the alert that is for it, and with those that may fire beside it, and why."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable, Mapping
from types import MappingProxyType
from typing import Final

import msgspec

from .stage import HOSTS, LEASE_S, WORKERS, Stage

_Action = Callable[[Stage], Awaitable[None]]
_NONE: Final[Mapping[str, str]] = MappingProxyType({})


class Fault(msgspec.Struct, frozen=True):
    """One fault. `inject` returns at once, or is repeated every second where `repeats` is set."""

    name: str
    alerts: frozenset[str]
    """Each of them must fire."""
    inject: _Action
    recover: _Action
    beside: Mapping[str, str] = _NONE
    """Other alerts that may fire, with the reason."""
    repeats: bool = False


async def _nothing(_stage: Stage) -> None:
    return


async def _start_all(stage: Stage) -> None:
    for number in range(WORKERS):
        if number not in stage.kept:
            await stage.start_worker(number)


async def _kill_one(stage: Stage) -> None:
    await stage.kill_worker(0)


async def _kill_all(stage: Stage) -> None:
    for number in range(WORKERS):
        await stage.kill_worker(number)


async def _pause(stage: Stage) -> None:
    await stage.producer.pause()


async def _resume(stage: Stage) -> None:
    await stage.producer.resume()


async def _fill(stage: Stage) -> None:
    used = int((await stage.admin.info("memory"))["used_memory"])
    await stage.admin.config_set("maxmemory", used)


async def _make_room(stage: Stage) -> None:
    await stage.admin.config_set("maxmemory", 0)


async def _freeze_redis(stage: Stage) -> None:
    stage.redis.freeze()


async def _thaw_redis(stage: Stage) -> None:
    stage.redis.thaw()


async def _slow_redis(stage: Stage) -> None:
    stage.proxy.delay_s = 0.3


async def _fast_redis(stage: Stage) -> None:
    stage.proxy.delay_s = 0.0


async def _make_read_only(stage: Stage) -> None:
    await stage.enqueue_job("work", 2.0)
    await asyncio.sleep(0.5)  # it runs, and ends when its result is refused
    await stage.admin.replicaof("127.0.0.1", "1")


async def _make_writable(stage: Stage) -> None:
    await stage.admin.replicaof("NO", "ONE")


async def _kill_gateway(stage: Stage) -> None:
    await stage.kill_gateway()


async def _start_gateway(stage: Stage) -> None:
    await stage.start_gateway()


async def _quiet(stage: Stage) -> None:
    stage.signal_worker(0, signal.SIGTSTP)


async def _wake(stage: Stage) -> None:
    stage.signal_worker(0, signal.SIGCONT)


async def _block(stage: Stage) -> None:
    await stage.enqueue_job("block", 1.5)


async def _block_for_longer_than_the_lease(stage: Stage) -> None:
    for _ in range(3):
        await stage.enqueue_job("work", 3.0)
    await asyncio.sleep(0.3)  # they run
    await stage.enqueue_job("block", 2.5 * LEASE_S)
    await asyncio.sleep(5 * LEASE_S)


async def _flood(stage: Stage) -> None:
    for _ in range(60):
        await stage.enqueue_job("work", 3.0)


async def _drain_flood(stage: Stage) -> None:
    async for _ in stage.producer.cancel_all():
        pass


async def _fail(stage: Stage) -> None:
    for _ in range(10):
        await stage.enqueue_job("fail")


async def _kill_and_replace(stage: Stage) -> None:
    stage.workers[0].kill()
    await asyncio.sleep(5.0)  # it is started again, and scraped


async def _unknown_function(stage: Stage) -> None:
    await stage.enqueue_job("no_such_function")


async def _not_found(stage: Stage) -> None:
    for host in HOSTS:
        await stage.enqueue(1, host=host, path="none")


async def _refuse(stage: Stage) -> None:
    for host in HOSTS:
        await stage.enqueue(100, host=host, port=stage.closed_port)


async def _cancel_refused(stage: Stage) -> None:
    for host in HOSTS:
        async for _ in stage.producer.cancel_all(host=host):
            pass


def _names(*alerts: str) -> frozenset[str]:
    return frozenset(f"Fetchq{alert}" for alert in alerts)


FAULTS: Final = (
    Fault("one of two workers is killed", _names("WorkerMissing"), _kill_one, _start_all),
    Fault(
        "all workers are killed",
        _names("NoWorkers"),
        _kill_all,
        _start_all,
        {
            "FetchqWorkerMissing": "their addresses do not answer",
            "FetchqWorkerRestarts": "they are started again, as in the fault before",
        },
    ),
    Fault("the queue is paused", _names("QueuePaused"), _pause, _resume),
    Fault("Redis is full", _names("RedisFull"), _fill, _make_room),
    Fault("Redis does not answer", _names("RedisAway"), _freeze_redis, _thaw_redis),
    Fault("Redis is slow", _names("RedisSlow"), _slow_redis, _fast_redis),
    Fault(
        "Redis takes no writes",
        _names("CommitsDelayed"),
        _make_read_only,
        _make_writable,
        {
            "FetchqNoWorkers": "their heartbeats are refused",
            "FetchqWorkerNotReady": "for the same reason",
        },
    ),
    Fault("the gateway is killed", _names("FiguresMissing"), _kill_gateway, _start_gateway),
    Fault("a worker is quiet", _names("WorkerNotReady"), _quiet, _wake),
    Fault(
        "a job blocks the event loop",
        _names("EventLoopBlocked"),
        _block,
        _nothing,
        {"FetchqCommitsDelayed": "a blocked process commits late"},
        repeats=True,
    ),
    Fault(
        "a job blocks the event loop for longer than the lease",
        _names("LeasesLost"),
        _block_for_longer_than_the_lease,
        _nothing,
        {
            "FetchqEventLoopBlocked": "it is",
            "FetchqWorkerMissing": "a blocked process answers no scrape",
            "FetchqInternalFailures": "fetches of a blocked worker count as crashed, and end as WORKER_LOST after five",
        },
        repeats=True,
    ),
    Fault(
        "more jobs come than the slots can run",
        _names("SlotsExhausted", "JobsWaitTooLong"),
        _flood,
        _drain_flood,
        repeats=True,
    ),
    Fault("most pages are not found", _names("FailureRatioHigh"), _not_found, _nothing, repeats=True),
    Fault(
        "thirty hosts refuse connections",
        _names("ManyHostsCooling", "DeadLettersGrow"),
        _refuse,
        _cancel_refused,
        {"FetchqFailureRatioHigh": "most fetches fail until the hosts cool off"},
    ),
    Fault(
        "a coroutine raises",
        _names("FunctionFails"),
        _fail,
        _nothing,
        {"FetchqDeadLettersGrow": "its jobs become dead letters"},
        repeats=True,
    ),
    Fault("a producer sends what no worker knows", _names("InternalFailures"), _unknown_function, _nothing),
    Fault(
        "a worker's process ends again and again",
        _names("WorkerRestarts"),
        _kill_and_replace,
        _nothing,
        {"FetchqWorkerMissing": "until the process is replaced"},
        repeats=True,
    ),
)
