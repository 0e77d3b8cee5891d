"""Sentry's ArqIntegration: a hundred jobs that fail at the same time, retries, a success and a cron job."""

from __future__ import annotations

import asyncio
from typing import Any

import sentry_sdk
from arq import Retry, cron
from harness.conformance.tool_cases.reported import REDIS, report_at_exit
from sentry_sdk.envelope import Envelope
from sentry_sdk.integrations.arq import ArqIntegration
from sentry_sdk.transport import Transport

JOBS = 100


class Kept(Transport):
    """Sends nothing, and keeps all events."""

    events: list[dict[str, Any]] = []  # noqa: RUF012 - of the class, since Sentry makes the instance

    def capture_envelope(self, envelope: Envelope) -> None:
        self.events += [item.payload.json for item in envelope.items if item.payload.json is not None]


sentry_sdk.init(
    dsn="http://key@127.0.0.1:1/1",
    transport=Kept,
    traces_sample_rate=1.0,
    send_default_pii=True,
    integrations=[ArqIntegration()],
)


async def fail(ctx: dict[Any, Any], number: int) -> None:
    sentry_sdk.set_tag("number", number)
    ctx["all"].append(number)
    while len(ctx["all"]) < JOBS:
        await asyncio.sleep(0.001)
    raise ValueError(number)


async def again(ctx: dict[Any, Any]) -> None:
    if ctx["job_try"] < 3:
        raise Retry(0.01)


async def well(ctx: dict[Any, Any], *, name: str) -> str:
    return name


async def tick(ctx: dict[Any, Any]) -> None:
    raise KeyError("tick")


async def on_startup(ctx: dict[Any, Any]) -> None:
    ctx["all"] = []


class WorkerSettings:
    functions = [fail, again, well]  # noqa: RUF012 - as arq's users write it
    cron_jobs = [cron(tick, run_at_startup=True)]  # noqa: RUF012
    redis_settings = REDIS
    on_startup = on_startup
    burst = True
    max_jobs = JOBS + 10
    poll_delay = 0.02


def observed() -> dict[str, Any]:
    errors, transactions = [], []
    for event in Kept.events:
        trace = event["contexts"]["trace"]
        if event.get("type") == "transaction":
            transactions.append([event["transaction"], trace["status"], trace["op"]])
            continue
        thrown = event["exception"]["values"][-1]
        job = event["extra"]["arq-job"]
        names = [thrown["type"], thrown["value"], thrown["mechanism"]["type"], event["transaction"], job["task"]]
        tags = event["tags"]
        errors.append([*names, job["args"], job["kwargs"], job["retry"], tags.get("number"), tags["arq_task_retry"]])
    return {"errors": sorted(errors, key=str), "transactions": sorted(transactions)}


report_at_exit(observed)
