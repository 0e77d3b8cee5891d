"""What jobs leave in Redis."""

from __future__ import annotations

from typing import Any

_FIGURES = (b"fetchq:metrics:", b"fetchq:minute:")


async def job_keys(redis: Any) -> list[bytes]:
    """All keys, sorted, but those of a queue's figures, which stay."""
    return sorted(key for key in await redis.keys("*") if not key.startswith(_FIGURES))
