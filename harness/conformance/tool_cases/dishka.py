"""dishka: a container for each job, in its ctx between the hooks that dishka sets on settings that are a dict."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from arq import Retry
from dishka import Provider, Scope, make_async_container
from dishka.integrations.arq import FromDishka, inject, setup_dishka
from harness.conformance.tool_cases.reported import REDIS, report_at_exit

events: list[str] = []


class Session:
    pass


async def _session() -> AsyncIterator[Session]:
    events.append("opened")
    yield Session()
    events.append("closed")


@inject
async def work(ctx: dict[Any, Any], number: int, session: FromDishka[Session]) -> None:
    events.append(f"{type(session).__name__} {number}")
    if ctx["job_try"] == 1:
        raise Retry(0.01)


WorkerSettings: dict[str, Any] = {
    "functions": [work],
    "redis_settings": REDIS,
    "burst": True,
    "max_jobs": 1,
    "poll_delay": 0.02,
}
provider = Provider(scope=Scope.REQUEST)
provider.provide(_session)
setup_dishka(make_async_container(provider), WorkerSettings)
report_at_exit(lambda: events)
