"""The gate of fetch jobs: which limits a job comes under (`fetchq_worker.engine.admit.Gate`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from redis.asyncio import Redis

from fetchq import FetchqError, FetchRequest
from fetchq.contract.placement import deadline_ms_of, limit_key_of
from fetchq.contract.urls import host_of
from fetchq.contract.wire import FETCH_FUNCTION, decode_request
from fetchq.store.keys import Keys
from fetchq_worker.engine.queue.admission import Limit

from .cooldown import FIRST_COOLING_S, MAX_COOLING_S, Cooling
from .limit_by import ByAddress, ByHost, KeyPolicy, LimitBy, Resolver, agreed_policy

UNLIMITED: Final = Limit("")
_REQUESTS: Final = (dict, FetchRequest, Mapping)
"""In the order of how often they are met: whether something is a mapping is slow to ask."""


class FetchGate:
    """Tells the engine the limit key of a fetch. Jobs of other functions have none."""

    def __init__(
        self,
        limit_by: LimitBy = LimitBy.QUEUE,
        *,
        cooling_s: float = FIRST_COOLING_S,
        max_cooling_s: float = MAX_COOLING_S,
    ) -> None:
        self._limit_by: Final = limit_by
        self._limits_s: Final = {"first_s": cooling_s, "max_s": max_cooling_s}
        self.policy: KeyPolicy = ByHost()
        self.cooling: Cooling | None = None
        """None until an engine has opened the gate: under arq's own worker there is no frontier."""

    async def open(self, redis: Redis, keys: Keys) -> None:
        self.policy = await agreed_policy(redis, keys, self._limit_by)
        self.cooling = await Cooling.open(redis, keys, **self._limits_s)

    def use(self, resolver: Resolver) -> None:
        """Addresses are looked up by `resolver`, which forbids what the fetches are forbidden."""
        if isinstance(self.policy, ByAddress):
            self.policy.use(resolver)

    def limit_of(self, name: str, args: Sequence[Any]) -> Limit | None:
        """The limit key of a fetch and its deadline in ms; nothing for what will not be fetched."""
        request = _request_of(name, args)
        if request is None:
            return UNLIMITED
        deadline = "" if request.deadline is None else str(deadline_ms_of(request.deadline))
        # Behind a proxy it is the proxy that resolves, and here perhaps nothing does.
        key = self.policy.key_of(request.url) if request.proxy is None else host_of(request.url)
        if key is None:
            return None
        return Limit(key, deadline) if request.limit_key is None else Limit(limit_key_of(request), deadline, key)

    async def wait_limit_of(self, name: str, args: Sequence[Any]) -> Limit:
        request = _request_of(name, args)
        if request is not None:
            await self.policy.wait_key_of(request.url)
            return self.limit_of(name, args) or Limit(host_of(request.url))
        return UNLIMITED


def _request_of(name: str, args: Sequence[Any]) -> FetchRequest | None:
    """The request of a fetch job; None for any other job, and for one that will end as INVALID_JOB."""
    if name != FETCH_FUNCTION or len(args) != 1 or not isinstance(args[0], _REQUESTS):
        return None
    try:
        request = decode_request(args[0])
    except FetchqError:
        return None
    if isinstance(args, list):
        args[0] = request  # decoded once: `fetch_data` takes it as it is
    return request
