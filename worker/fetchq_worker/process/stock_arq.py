"""What a job still needs after its run under the stock `arq` command, which knows nothing of ours.

The engine's commit does all of this in one call; its runs have a lease token.
"""

from __future__ import annotations

import logging
from typing import Any, Final

from redis.exceptions import RedisError

from fetchq.contract.job_ids import PUSH_PREFIX_LEN
from fetchq.store.keys import Keys
from fetchq_worker.engine.run.context import RunContext, run_context

logger = logging.getLogger("fetchq.fetch")

_DEFAULT_KEYS: Final = Keys()


async def finish_under_stock_arq(ctx: dict[str, Any]) -> None:
    """The `after_job_end` hook: the result's own time to live, the push to whoever waits, and no try counted for a job
    that was given back.

    Redis's absence here costs promptness and not correctness, whereas an exception out of a hook would kill the worker.
    """
    run = run_context(ctx)
    if run.lease_token:
        return
    try:
        await _finish(ctx["redis"], run, ctx["job_id"], ctx.get("keys", _DEFAULT_KEYS))
    except (RedisError, OSError) as problem:
        logger.warning("job.unsettled job=%s error=%s", ctx["job_id"], problem)


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
