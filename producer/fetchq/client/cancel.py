"""What cancelling needs to know of a job before it is run: whether it is meant, and what its result is to say."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

from fetchq.contract import wire
from fetchq.contract.placement import limit_key_of
from fetchq.contract.request import DEFAULT_RESULT_TTL_S
from fetchq.contract.urls import find_host
from fetchq.errors import FetchqError, InvalidRequest

from .limits import name_of


def host_to_cancel(host: str) -> str:
    """The host as it stands in URLs; raises `InvalidRequest`."""
    name = name_of(host)
    if name.startswith(("*", "key:")):
        raise InvalidRequest("host", f"takes one host such as example.org, not {host[:80]!r}")
    return name


def match_filter(*, tag: str | None, host: str | None) -> Callable[[bytes | None], bool]:
    """Tells of a payload whether its job is meant: a fetch with the tag and of the host, as far as they are given."""

    def is_chosen(payload: bytes | None) -> bool:
        if tag is None and host is None:
            return True
        try:
            [request] = wire.deserialize(payload or b"")["a"]
            tags, url = request.get("tags", ()), request.get("url", "")
        except (FetchqError, ValueError, AttributeError, KeyError, TypeError):  # no fetch
            return False
        if tag is not None and not (isinstance(tags, list) and tag in tags):
            return False
        return host is None or (isinstance(url, str) and find_host(url) == host)

    return is_chosen


def cancelled(job_id: str, payload: bytes | None, queue: str) -> tuple[bytes, int, str]:
    """The result of a job that is cancelled before it ran, the result's life in ms, and the job's limit key."""
    now_ms = time.time_ns() // 1_000_000
    job: dict[str, Any] = {"f": "<unknown>", "a": [], "k": {}, "et": now_ms}
    ttl_s, limit_key = DEFAULT_RESULT_TTL_S, ""
    if payload is not None:
        try:
            job = wire.deserialize(payload)
            request = wire.decode_request(job["a"][0])
            ttl_s, limit_key = request.result_ttl_s, limit_key_of(request)
        except (FetchqError, LookupError):  # a call of another coroutine, or no job at all: it can be cancelled too
            pass
    ended = {"t": 0, "s": False, "r": asyncio.CancelledError(), "st": now_ms, "ft": now_ms, "q": queue, "id": job_id}
    return wire.serialize({**job, **ended}), round(ttl_s * 1000), limit_key
