"""Limits of hosts for code without an event loop."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fetchq.client.limits import HostLimits

if TYPE_CHECKING:
    from .producer import SyncProducer


class SyncLimits:
    """`Limits` for a `SyncProducer`, with the same methods."""

    def __init__(self, owner: SyncProducer) -> None:
        self._owner = owner

    def set(
        self,
        host: str,
        *,
        concurrency: int | None = None,
        rate: str | None = None,
        burst: int | None = None,
        min_delay_s: float | None = None,
    ) -> HostLimits:
        """As `Limits.set`."""
        engine = self._owner._started()
        limits = engine.producer.limits
        return engine.call(limits.set(host, concurrency=concurrency, rate=rate, burst=burst, min_delay_s=min_delay_s))

    def clear(self, host: str) -> bool:
        """As `Limits.clear`."""
        engine = self._owner._started()
        return engine.call(engine.producer.limits.clear(host))

    def pause(self, host: str) -> None:
        """As `Limits.pause`."""
        engine = self._owner._started()
        engine.call(engine.producer.limits.pause(host))

    def resume(self, host: str) -> None:
        """As `Limits.resume`."""
        engine = self._owner._started()
        engine.call(engine.producer.limits.resume(host))

    def get(self, host: str) -> HostLimits:
        """As `Limits.get`."""
        engine = self._owner._started()
        return engine.call(engine.producer.limits.get(host))

    def show(self) -> dict[str, HostLimits]:
        """As `Limits.show`."""
        engine = self._owner._started()
        return engine.call(engine.producer.limits.show())
