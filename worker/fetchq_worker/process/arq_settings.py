"""Settings classes for `arq`: `arq fetchq_worker.WorkerSettings`, or one with your own coroutines beside the fetch.

arq reads only a class's own attributes, not inherited ones. So `worker_settings` makes a class; do not subclass it.
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

from fetchq.command.settings import InvalidSetting
from fetchq.contract.wire import FETCH_FUNCTION, deserialize, serialize
from fetchq.store.address import RedisAddress
from fetchq.store.connection import CONNECT_TIMEOUT_S
from fetchq.store.errors import address_of
from fetchq.store.keys import Keys
from fetchq_worker.engine.run.crash_policy import CountsOwnAttempts
from fetchq_worker.engine.run.snooze import tell_sentry
from fetchq_worker.fetch.attempt.fetcher import Fetcher
from fetchq_worker.fetch.job.coroutine import fetch_data, finish_if_crashed
from fetchq_worker.fetch.job.crashes import MAX_CRASHES
from fetchq_worker.politeness.feedback import Feedback
from fetchq_worker.politeness.gate import FetchGate
from fetchq_worker.settings import Settings
from fetchq_worker.telemetry.publisher import Subscriber
from fetchq_worker.telemetry.telemetry import KEY, Telemetry

from .stock_arq import finish_under_stock_arq

if TYPE_CHECKING:
    WorkerSettings: type

Hook = Callable[[dict[str, Any]], Awaitable[Any]]

FETCH_TIMEOUT_S: Final = 320
"""Longer than any attempt may take (`fetchq.request.MAX_TIMEOUT_S`), which ends itself."""
FETCH_MAX_TRIES: Final = 2**31
"""No limit by arq: the fetch counts its own attempts and the crashes of its workers."""

_ARQ_OPTIONS: Final = frozenset(inspect.signature(Worker).parameters)


def worker_settings(
    functions: Sequence[Function | Callable[..., Any] | str] = (),
    *,
    cron_jobs: Sequence[CronJob] | None = None,
    settings: Settings | None = None,
    namespace: str | None = None,
    subscribers: Sequence[Subscriber] = (),
    **arq_options: Any,
) -> type:
    """A settings class for `arq`, with `fetch_data` and your own `functions`.

    Without `settings`, they come from `FETCHQ_*`. `namespace` and `arq_options` (those of `arq.worker.Worker`) outrank
    them. Each of `subscribers` is called with every event (`fetchq_worker.telemetry.events`); under the stock `arq`
    command, with those of fetches. Your `on_startup`, `on_shutdown` and `after_job_end` run beside ours; the HTTP
    client is `ctx["fetcher"]` from before your `on_startup` until after your `on_shutdown`. The stock `arq` command
    refuses a class with a namespace. Raises `InvalidSetting`.
    """
    unknown = arq_options.keys() - _ARQ_OPTIONS
    if unknown:
        raise InvalidSetting(f"{min(unknown)} is not an option of arq's worker")
    settings = Settings.from_env() if settings is None else settings
    gate = FetchGate(settings.limit_by, cooldown_s=settings.cooldown_s, max_cooldown_s=settings.max_cooldown_s)
    attributes: dict[str, Any] = {
        "queue_name": settings.queue,
        "namespace": settings.namespace if namespace is None else namespace,
        "max_jobs": settings.concurrency,
        "job_completion_wait": math.ceil(settings.grace_s),
        "lease_s": settings.lease_s,  # the engine's own, as are the next seven; stock arq ignores them
        "start_wait_s": settings.start_wait_s,
        "dead_letter_ttl_s": settings.dead_letter_ttl_s,
        "dead_letter_max": settings.max_dead_letters,
        "gate": gate,
        "metrics": settings.metrics,
        "subscribers": tuple(subscribers),
        "traces": settings.traces,
        "allow_abort_jobs": True,
        "log_results": False,  # a result holds a body
        "log_arguments": False,  # and a request its headers
        "job_serializer": serialize,
        "job_deserializer": deserialize,
    }
    if "redis_pool" not in arq_options and "redis_settings" not in arq_options:
        attributes["redis_settings"] = redis_settings(RedisAddress.parse(settings.redis_url))
    attributes |= arq_options
    keys = Keys(queue=attributes["queue_name"], namespace=attributes["namespace"])
    attributes |= _hooks(settings, gate, keys, arq_options, subscribers)
    attributes["functions"] = [fetch_function(), *functions]
    attributes["cron_jobs"] = cron_jobs
    return type("WorkerSettings", (), attributes)


def fetch_function() -> Function:
    """`fetch_data` as it is registered with a worker."""
    known = func(fetch_data, name=FETCH_FUNCTION, timeout=FETCH_TIMEOUT_S, max_tries=FETCH_MAX_TRIES)
    return CountsOwnAttempts(**vars(known), unchecked_starts=MAX_CRASHES, finish_if_crashed=finish_if_crashed)


class SettingsOfAddress(RedisSettings):
    """arq's settings made from an address, with a `repr` that hides the password."""

    address: RedisAddress

    def __repr__(self) -> str:
        return f"RedisSettings({self.unix_socket_path or f'{self.host}:{self.port}'})"


def redis_settings(address: RedisAddress) -> RedisSettings:
    """The address in arq's form; raises `InvalidSetting` if arq cannot express it."""
    if address.sentinel_username is not None or address.sentinel_password is not None:
        raise InvalidSetting("--redis (FETCHQ_REDIS_URL): the arq command cannot log in to a sentinel")
    host, port = address.hosts[0]
    settings = SettingsOfAddress(
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
    settings.address = address
    return settings


def _hooks(
    settings: Settings, gate: FetchGate, keys: Keys, theirs: dict[str, Any], subscribers: Sequence[Subscriber]
) -> dict[str, Hook]:
    async def on_startup(ctx: dict[str, Any]) -> None:
        tell_sentry()
        if "keys" not in ctx:  # the engine sets it, stock arq does not
            if keys.namespace:
                raise InvalidSetting(
                    f"the arq command knows no namespace ({keys.namespace!r}): run these settings by fetchq worker"
                )
            ctx["keys"] = keys
        has_engine = KEY in ctx
        telemetry: Telemetry = ctx.setdefault(KEY, Telemetry(subscribers, settings.traces))
        ctx["dead_letters"] = settings.dead_letters
        ctx["outcomes"] = Counter()  # each job's ctx is a copy of this one, so all jobs share the counter
        ctx["fetcher"] = Fetcher.from_settings(settings, redis=ctx["redis"], keys=ctx["keys"])
        client = ctx["fetcher"].client
        telemetry.connections = client.pool.count
        if gate.cooldowns is not None:
            gate.use(client.resolver)
            breaks = settings.circuit_breaker
            ctx["feedback"] = Feedback(gate.cooldowns, gate.policy, telemetry.events, circuit_breaker=breaks)
        await _run(theirs.get("on_startup"), ctx)
        if not has_engine:  # else its worker does so: here attempts alone can be traced
            telemetry.find_traces(queue=keys.pending, redis=address_of(ctx["redis"]))

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

    # The engine's commit does what `finish_under_stock_arq` does, and a hook would make each job wait for its commit.
    after_job_end.engine_hook = theirs.get("after_job_end")  # type: ignore[attr-defined]
    return {"on_startup": on_startup, "on_shutdown": on_shutdown, "after_job_end": after_job_end}


async def _run(hook: Hook | None, ctx: dict[str, Any]) -> None:
    if hook is not None:
        await hook(ctx)


@cache
def _of_environment() -> type:
    return worker_settings()


def __getattr__(name: str) -> type:
    if name == "WorkerSettings":  # made when arq reads it, so that an import reads no environment
        return _of_environment()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
