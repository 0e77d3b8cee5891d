"""How a producer writes: the durability of an acknowledged enqueue, and what happens when the queue is full."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, Final, Self, TypedDict

import msgspec
from msgspec import Meta

from fetchq.errors import InvalidRequest


class Durability(StrEnum):
    """Where a job is stored by the time its enqueue is acknowledged. See docs/reliability.md, "Durability"."""

    MEMORY = "memory"
    """In the memory of Redis, whose persistence settings decide what survives a crash."""
    FSYNC = "fsync"
    """In the append-only file of the server, synced to its disk."""
    REPLICATED = "replicated"
    """In the memory of `replicas` replicas of the server, too."""


class WhenFull(StrEnum):
    """What an enqueue does when the queue or Redis's memory is full."""

    REFUSE = "refuse"
    """It raises `QueueFull`."""
    WAIT = "wait"
    """It waits for capacity, and raises `QueueFull` after `full_timeout_s`."""


class WriteOptions(TypedDict, total=False):
    """The fields of `WritePolicy`, as keyword arguments of a producer."""

    durability: Durability | str
    replicas: int | None
    durable_timeout_s: float
    max_queued: int | None
    when_full: WhenFull | str
    full_timeout_s: float | None
    max_memory: float | None


class WritePolicy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a producer writes. Raises `InvalidRequest` for an invalid value."""

    durability: Durability = Durability.MEMORY
    replicas: Annotated[int, Meta(ge=1, le=100)] | None = None
    """How many replicas must have a `replicated` write; 1 by default."""
    durable_timeout_s: Annotated[float, Meta(gt=0, le=300)] = 5.0
    """Seconds to wait for the disk or the replicas; then `NotDurable` is raised."""
    max_queued: Annotated[int, Meta(ge=1, lt=1 << 53)] | None = None
    """This producer adds no job while the queue has this many: waiting, deferred and running ones."""
    when_full: WhenFull = WhenFull.REFUSE
    full_timeout_s: Annotated[float, Meta(ge=0)] | None = 60.0
    """Seconds to wait without progress; None: no limit."""
    max_memory: Annotated[float, Meta(gt=0, le=1)] | None = 0.95
    """The share of Redis's `maxmemory` at which this producer adds no more jobs; None: Redis itself refuses."""

    def __post_init__(self) -> None:
        if self.replicas is not None and self.durability is not Durability.REPLICATED:
            raise InvalidRequest("replicas", "is used with durability='replicated' only")

    @classmethod
    def of(cls, options: WriteOptions) -> Self:
        """The policy with these options; raises `InvalidRequest`."""
        given: dict[str, Any] = dict(options)
        for name, kind in (("durability", Durability), ("when_full", WhenFull)):
            if name in given and given[name] not in tuple(kind):
                raise InvalidRequest(name, f"takes {_either(tuple(kind))}, not {given[name]!r}")
        try:
            return msgspec.convert(given, cls)
        except msgspec.ValidationError as problem:
            if isinstance(problem.__cause__, InvalidRequest):
                raise problem.__cause__ from None
            what, _, where = str(problem).partition(" - at `$.")
            name = where.rstrip("`")
            if name in _TAKES:
                raise InvalidRequest(name, f"takes {_TAKES[name]}, not {given[name]!r}") from None
            raise InvalidRequest(name or "options", f"{what[0].lower()}{what[1:]}") from None


_TAKES: Final = {
    "replicas": "a whole number from 1 to 100",
    "durable_timeout_s": "more than 0 and at most 300 seconds",
    "max_queued": "a whole number of at least 1",
    "full_timeout_s": "0 seconds or more",
    "max_memory": "a share above 0 and at most 1",
}


def _either(words: tuple[str, ...]) -> str:
    return f"{', '.join(words[:-1])} or {words[-1]}"
