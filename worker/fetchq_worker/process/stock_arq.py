"""What a job still needs after its run under the stock `arq` command, which knows nothing of ours.

The engine's commit does all of this in one call, and marks its jobs' `ctx` with a `lease_token`.
"""

from __future__ import annotations

from typing import Any, Final

from redis.exceptions import RedisError

from fetchq.contract.job_ids import PUSH_PREFIX_LEN
from fetchq.store.keys import Keys
from fetchq_worker.fetch.log import log

_DEFAULT_KEYS: Final = Keys()


async def finish_under_stock_arq(ctx: dict[str, Any]) -> None:
    """The `after_job_end` hook: the result's own time to live, the push to whoever waits, and no try counted for a job
    that was given back.

    Redis's absence here costs promptness and not correctness, whereas an exception out of a hook would kill the worker.
    """
    if "lease_token" in ctx:
        return
    try:
        await _finish(ctx, ctx["job_id"], ctx.get("keys", _DEFAULT_KEYS))
    except (RedisError, OSError) as problem:
        log.warning("job.unsettled", job_id=ctx["job_id"], why=str(problem))


async def _finish(ctx: dict[str, Any], job_id: str, keys: Keys) -> None:
    redis = ctx["redis"]
    if await redis.exists(keys.job + job_id):  # arq deletes the payload of a job that is finished, and of no other
        if ctx.get("released"):
            await redis.decr(keys.retry + job_id)
        return
    result_ttl_s: float | None = ctx.get("result_ttl_s")
    async with redis.pipeline(transaction=True) as pipe:
        if result_ttl_s is not None:
            pipe.pexpire(keys.result + job_id, round(result_ttl_s * 1000))  # 0 deletes
        pipe.delete(keys.attempts + job_id)
        pipe.publish(keys.done + job_id[:PUSH_PREFIX_LEN], job_id)
        await pipe.execute()
