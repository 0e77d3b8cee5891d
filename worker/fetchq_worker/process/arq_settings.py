"""Settings classes for `arq`: `arq fetchq_worker.WorkerSettings`, or one with coroutines of one's own beside the fetch.

arq reads only the attributes that a class itself has, so `worker_settings` makes a class; it is not to be subclassed.
"""

from __future__ import annotations

import inspect
import math
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, Final

from arq.connections import RedisSettings
from arq.cron import CronJob
from arq.worker import Function, Worker, func

from fetchq.contract.wire import FETCH_FUNCTION, deserialize, serialize
from fetchq.store.address import RedisAddress
from fetchq.store.connection import CONNECT_TIMEOUT_S
from fetchq.store.keys import Keys
from fetchq_worker.engine.run.crash_policy import CountsOwnAttempts
from fetchq_worker.fetch.http.client import Fetcher
from fetchq_worker.fetch.job.coroutine import MAX_CRASHES, fetch_data, finish_if_crashed
from fetchq_worker.politeness.feedback import Feedback
from fetchq_worker.politeness.gate import FetchGate
from fetchq_worker.settings import InvalidSetting, Settings

from .stock_arq import finish_under_stock_arq

if TYPE_CHECKING:
    WorkerSettings: type

Hook = Callable[[dict[str, Any]], Awaitable[Any]]

FETCH_TIMEOUT_S: Final = 320
"""Longer than any attempt may take (`fetchq.request.MAX_TIMEOUT_S`), which ends itself."""
FETCH_MAX_TRIES: Final = 2**31
"""None of arq's: the fetch counts its attempts, and its worker's crashes, itself."""

_ARQ_OPTIONS: Final = frozenset(inspect.signature(Worker).parameters)


def worker_settings(
    functions: Sequence[Function | Callable[..., Any] | str] = (),
    *,
    cron_jobs: Sequence[CronJob] | None = None,
    settings: Settings | None = None,
    **arq_options: Any,
) -> type:
    """A settings class for `arq`, with `fetch_data` and your own `functions`.

    `settings` are those of `FETCHQ_*` unless given. `arq_options` are arq's own (`arq.worker.Worker`) and outrank them;
    your `on_startup`, `on_shutdown` and `after_job_end` run beside ours, and the client stands in `ctx["fetcher"]` from
    before your start-up to after your shutdown. Raises `InvalidSetting`.
    """
    unknown = arq_options.keys() - _ARQ_OPTIONS
    if unknown:
        raise InvalidSetting(f"{min(unknown)} is not an option of arq's worker")
    settings = Settings.from_env() if settings is None else settings
    gate = FetchGate(settings.limit_by, cooling_s=settings.cooling_s, max_cooling_s=settings.max_cooling_s)
    attributes: dict[str, Any] = {
        "queue_name": settings.queue,
        "max_jobs": settings.concurrency,
        "job_completion_wait": math.ceil(settings.grace_s),
        "lease_s": settings.lease_s,  # the engine's own; stock arq passes over what it does not know
        "dead_letter_ttl_s": settings.dead_letter_ttl_s,
        "dead_letter_max": settings.kept_letters,
        "gate": gate,
        "allow_abort_jobs": True,
        "log_results": False,  # a result holds a body
        "log_arguments": False,  # and a request its headers
        "job_serializer": serialize,
        "job_deserializer": deserialize,
    }
    if "redis_pool" not in arq_options and "redis_settings" not in arq_options:
        attributes["redis_settings"] = redis_settings(RedisAddress.parse(settings.redis_url))
    attributes |= arq_options
    attributes |= _hooks(settings, gate, attributes["queue_name"], arq_options)
    attributes["functions"] = [fetch_function(), *functions]
    attributes["cron_jobs"] = cron_jobs
    return type("WorkerSettings", (), attributes)


def fetch_function() -> Function:
    """`fetch_data` as it is registered with a worker."""
    known = func(fetch_data, name=FETCH_FUNCTION, timeout=FETCH_TIMEOUT_S, max_tries=FETCH_MAX_TRIES)
    return CountsOwnAttempts(**vars(known), unjudged_starts=MAX_CRASHES, finish_if_crashed=finish_if_crashed)


class _DiscreetRedisSettings(RedisSettings):
    """arq's own, whose `repr` would show the password."""

    def __repr__(self) -> str:
        return f"RedisSettings({self.unix_socket_path or f'{self.host}:{self.port}'})"


def redis_settings(address: RedisAddress) -> RedisSettings:
    """arq's own form of an address; raises `InvalidSetting` for one that arq cannot express."""
    if address.sentinel_username is not None or address.sentinel_password is not None:
        raise InvalidSetting("redis_url (FETCHQ_REDIS_URL): arq's own worker cannot log in to a sentinel")
    host, port = address.hosts[0]
    return _DiscreetRedisSettings(
        host=list(address.hosts) if address.master is not None else host,
        port=port,
        unix_socket_path=address.unix_path,
        database=address.db,
        username=address.username,
        password=address.password,
        ssl=address.tls,
        ssl_ca_certs=address.ssl_ca_certs,
        ssl_certfile=address.ssl_certfile,
        ssl_keyfile=address.ssl_keyfile,
        ssl_check_hostname=address.tls,
        conn_timeout=math.ceil(CONNECT_TIMEOUT_S),
        sentinel=address.master is not None,
        sentinel_master=address.master or "",
    )


def _hooks(settings: Settings, gate: FetchGate, queue: str, theirs: dict[str, Any]) -> dict[str, Hook]:
    async def on_startup(ctx: dict[str, Any]) -> None:
        ctx.setdefault("keys", Keys(queue=queue))
        ctx["dead_letters"] = settings.dead_letters
        ctx["outcomes"] = Counter()  # every job's ctx is a copy of this one; what is counted in it is counted for all
        ctx["fetcher"] = Fetcher.from_settings(settings, redis=ctx["redis"], keys=ctx["keys"])
        if gate.cooldowns is not None:
            gate.use(ctx["fetcher"].resolver)
            ctx["feedback"] = Feedback(gate.cooldowns, gate.policy, circuit_breaker=settings.circuit_breaker)
        await _run(theirs.get("on_startup"), ctx)

    async def on_shutdown(ctx: dict[str, Any]) -> None:
        try:
            await _run(theirs.get("on_shutdown"), ctx)
        finally:
            fetcher: Fetcher | None = ctx.pop("fetcher", None)
            if fetcher is not None:
                await fetcher.aclose()

    async def after_job_end(ctx: dict[str, Any]) -> None:
        await finish_under_stock_arq(ctx)
        await _run(theirs.get("after_job_end"), ctx)

    # The engine's commit settles the job itself, and a hook would make each job wait for its commit.
    after_job_end.engine_hook = theirs.get("after_job_end")  # type: ignore[attr-defined]
    return {"on_startup": on_startup, "on_shutdown": on_shutdown, "after_job_end": after_job_end}


async def _run(hook: Hook | None, ctx: dict[str, Any]) -> None:
    if hook is not None:
        await hook(ctx)


@cache
def _of_environment() -> type:
    return worker_settings()


def __getattr__(name: str) -> type:
    if name == "WorkerSettings":  # made when arq asks for it: importing this module reads no environment
        return _of_environment()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
