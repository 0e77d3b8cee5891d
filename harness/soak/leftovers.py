"""Keys that remain after a soak run."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from typing import Final

from redis.asyncio import Redis

from fetchq.store.keys import Keys

LEFT_MAX_S: Final = 60.0
EXPIRY_LATE_S: Final = 1.0
"""How late Redis may remove an expired key that no command reads."""
SCAN: Final = 1000


async def wait_for_leftovers(redis: Redis, *, result_ttl_s: float) -> Counter[str]:
    """Waits for keys that expire, and counts the others by prefix.

    A key with a TTL above `LEFT_MAX_S` counts as left over, and so does a result with a TTL above its own limit. The
    figures of the queue stay.
    """
    until = time.monotonic() + LEFT_MAX_S
    prefix = Keys().result.encode()
    figures = (Keys().metrics.encode(), Keys().minute.encode())
    while True:
        left: Counter[str] = Counter()
        longest_s = 0.0
        async for key in redis.scan_iter(count=SCAN):
            if key.startswith(figures):
                continue
            ttl_s = await redis.pttl(key) / 1000
            allowed_s = result_ttl_s if key.startswith(prefix) else until - time.monotonic()
            if 0 <= ttl_s <= allowed_s:
                longest_s = max(longest_s, ttl_s)
            elif ttl_s > -0.002:
                left[_prefix(key)] += 1
        if left or longest_s == 0.0:
            return left
        await asyncio.sleep(min(longest_s, EXPIRY_LATE_S))


def _prefix(key: bytes) -> str:
    """`arq:job:1234` -> `arq:job:`; a name without a second colon stands for itself."""
    parts = key.decode(errors="replace").split(":")
    return ":".join(parts[:2]) + (":" if len(parts) > 2 else "")
