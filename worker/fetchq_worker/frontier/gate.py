"""The gate of fetch jobs: which limits a job comes under (`fetchq_worker.engine.admit.Gate`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from fetchq import FetchqError, FetchRequest
from fetchq.limit_key import limit_key_of
from fetchq.wire import FETCH_FUNCTION, decode_request
from fetchq_worker.engine.admit import WILL_NOT_RUN

UNLIMITED: Final = ("", "")


class FetchGate:
    """Tells the engine the limit key of a fetch. Jobs of other functions have none."""

    def limit_of(self, name: str, args: Sequence[Any]) -> tuple[str, str] | None:
        """The limit key of a fetch and its deadline in ms; nothing for what will not be fetched."""
        request = _request_of(name, args)
        if request is None:
            return UNLIMITED
        if request.deadline is None:
            return limit_key_of(request), ""
        if request.deadline <= datetime.now(UTC):
            return limit_key_of(request), WILL_NOT_RUN  # it ends as EXPIRED, and nobody is asked for anything
        return limit_key_of(request), str(round(request.deadline.timestamp() * 1000))

    async def wait_limit_of(self, name: str, args: Sequence[Any]) -> tuple[str, str]:
        return self.limit_of(name, args) or UNLIMITED


def _request_of(name: str, args: Sequence[Any]) -> FetchRequest | None:
    """The request of a fetch job; None for any other job, and for one that will end as INVALID_JOB."""
    if name != FETCH_FUNCTION or len(args) != 1 or not isinstance(args[0], Mapping | FetchRequest):
        return None
    try:
        request = decode_request(args[0])
    except FetchqError:
        return None
    if isinstance(args, list):
        args[0] = request  # decoded once: `fetch_data` takes it as it is
    return request
