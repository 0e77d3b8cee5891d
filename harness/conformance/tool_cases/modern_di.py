"""modern-di: a container for each job, opened and closed by the hooks that it wraps."""

from __future__ import annotations

from typing import Annotated, Any

import modern_di_arq
from harness.conformance.tool_cases.reported import REDIS, report_at_exit
from modern_di import Container, Group, Scope, providers

events: list[str] = []


class Session:
    def __init__(self) -> None:
        events.append("opened")


def _close(session: Session) -> None:
    events.append("closed")


class Dependencies(Group):
    session = providers.Factory(Session, scope=Scope.REQUEST, cache=providers.CacheSettings(finalizer=_close))


@modern_di_arq.inject
async def work(ctx: dict[Any, Any], session: Annotated[Session, modern_di_arq.FromDI(Dependencies.session)]) -> None:
    events.append(type(session).__name__)


class WorkerSettings:
    functions = [work]  # noqa: RUF012 - as arq's users write it
    redis_settings = REDIS
    burst = True
    max_jobs = 1
    poll_delay = 0.02


modern_di_arq.setup_di(WorkerSettings, Container(groups=[Dependencies]))
report_at_exit(lambda: events)
