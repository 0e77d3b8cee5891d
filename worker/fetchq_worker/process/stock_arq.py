"""The end of a job under the stock `arq` command, which does not use the engine's commit."""

from __future__ import annotations

import logging
from typing import Any, Final

from redis.exceptions import RedisError

from fetchq.contract.job_ids import PUSH_PREFIX_LEN
from fetchq.store.errors import reason_of
from fetchq.store.keys import Keys
from fetchq_worker.engine.run.context import RunContext, run_context

logger = logging.getLogger("fetchq.fetch")

_DEFAULT_KEYS: Final = Keys()


async def finish_under_stock_arq(ctx: dict[str, Any]) -> None:
    """The `after_job_end` hook: sets the result's TTL, publishes the job's end, uncounts the try of a requeued job.

    An error of Redis is logged and not raised: an exception of a hook ends the worker, and without this step a result
    only arrives later.
    """
    run = run_context(ctx)
    if run.lease_token:
        return
    try:
        await _finish(ctx["redis"], run, ctx["job_id"], ctx.get("keys", _DEFAULT_KEYS))
    except (RedisError, OSError) as problem:
        logger.warning("job.not_completed job=%s error=%s", ctx["job_id"], reason_of(problem))


async def _finish(redis: Any, run: RunContext, job_id: str, keys: Keys) -> None:
    if await redis.exists(keys.job + job_id):  # arq deletes the payload of a job that is finished, and of no other
        if run.uncounted:
            await redis.decr(keys.retry + job_id)
        return
    async with redis.pipeline(transaction=True) as pipe:
        if run.result_ttl_s is not None:
            pipe.pexpire(keys.result + job_id, round(run.result_ttl_s * 1000))  # 0 deletes
        pipe.delete(keys.attempts + job_id)
        pipe.publish(keys.done + job_id[:PUSH_PREFIX_LEN], job_id)
        await pipe.execute()
