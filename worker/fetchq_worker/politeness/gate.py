"""The gate of fetch jobs: the limit key of each job (`fetchq_worker.engine.queue.admission.Gate`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from redis.asyncio import Redis

from fetchq import FetchqError, FetchRequest
from fetchq.contract.placement import deadline_ms_of, limit_key_of
from fetchq.contract.urls import host_of
from fetchq.contract.wire import FETCH_FUNCTION, decode_request
from fetchq.store.keys import Keys
from fetchq_worker.engine.queue.admission import UNLIMITED, Limit
from fetchq_worker.settings import FIRST_COOLDOWN_S, MAX_COOLDOWN_S, LimitBy

from .cooldown import Cooldowns
from .limit_by import ByAddress, ByHost, KeyPolicy, Resolver, agreed_policy

_REQUESTS: Final = (dict, FetchRequest, Mapping)
"""The most frequent first: `isinstance` of an abstract Mapping is slow."""


class FetchGate:
    """Names the limit key of a fetch to the engine. Other jobs have only the one that `enqueue_job` named, if any."""

    def __init__(
        self,
        limit_by: LimitBy = LimitBy.QUEUE,
        *,
        cooldown_s: float = FIRST_COOLDOWN_S,
        max_cooldown_s: float = MAX_COOLDOWN_S,
    ) -> None:
        self._limit_by: Final = limit_by
        self._cooldown_limits_s: Final = {"first_s": cooldown_s, "max_s": max_cooldown_s}
        self.policy: KeyPolicy = ByHost()
        self.cooldowns: Cooldowns | None = None
        """None until an engine opens the gate; arq's own worker has no limits."""

    async def open(self, redis: Redis, keys: Keys) -> None:
        self.policy = await agreed_policy(redis, keys, self._limit_by)
        self.cooldowns = Cooldowns(redis, keys, **self._cooldown_limits_s)

    def use(self, resolver: Resolver) -> None:
        """Looks addresses up with `resolver`, which applies the egress policy of the fetches."""
        if isinstance(self.policy, ByAddress):
            self.policy.use(resolver)

    def limit_of(self, name: str, args: Sequence[Any]) -> Limit | None:
        """The limit key of a fetch and its deadline in ms; `UNLIMITED` for any other job.

        None if the key needs a DNS look-up: then the engine awaits `wait_limit_of`.
        """
        request = _request_of(name, args)
        if request is None:
            return UNLIMITED
        deadline = "" if request.deadline is None else str(deadline_ms_of(request.deadline))
        # The proxy resolves the name; this machine may have no DNS for it.
        key = self.policy.key_of(request.url) if request.proxy is None else host_of(request.url)
        if key is None:
            return None
        return Limit(key, deadline) if request.limit_key is None else Limit(limit_key_of(request), deadline, key)

    async def wait_limit_of(self, name: str, args: Sequence[Any]) -> Limit:
        """The same, after the look-up."""
        request = _request_of(name, args)
        if request is not None:
            await self.policy.wait_key_of(request.url)
            return self.limit_of(name, args) or Limit(host_of(request.url))
        return UNLIMITED

    def due_ms_of(self, name: str, args: Sequence[Any], enqueue_time_ms: int) -> int:
        request = _request_of(name, args)
        if request is None:
            return enqueue_time_ms
        due_ms = enqueue_time_ms + round(request.delay_s * 1000)
        return due_ms if request.not_before is None else max(due_ms, round(request.not_before.timestamp() * 1000))


def _request_of(name: str, args: Sequence[Any]) -> FetchRequest | None:
    """The request of a fetch job; None for any other job, and for one that will end as INVALID_JOB."""
    if name != FETCH_FUNCTION or len(args) != 1 or not isinstance(args[0], _REQUESTS):
        return None
    try:
        request = decode_request(args[0])
    except FetchqError:
        return None
    if isinstance(args, list):
        args[0] = request  # decoded once: `fetch_data` accepts the struct
    return request
