"""What a producer asks of its writes: how durable they are to be, and what is done where there is no room."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, Self, TypedDict

import msgspec
from msgspec import Meta

from fetchq.errors import InvalidRequest


class Durability(StrEnum):
    """What an acknowledged enqueue has survived by the time it is acknowledged. docs/reliability.md, "Durability"."""

    MEMORY = "memory"
    """Redis has it. What Redis keeps when it dies is for its own configuration to say."""
    FSYNC = "fsync"
    """It is in the append-only file of the server that took it, and that file is on the disk."""
    REPLICATED = "replicated"
    """`replicas` of the server's replicas have it too, in memory."""


class WhenFull(StrEnum):
    """What an enqueue does where there is no room."""

    REFUSE = "refuse"
    """It raises `QueueFull`."""
    WAIT = "wait"
    """It waits until there is room, and raises `QueueFull` after `full_timeout_s`."""


class WriteOptions(TypedDict, total=False):
    """The fields of `WritePolicy`, as a producer takes them."""

    durability: Durability | str
    replicas: int | None
    durable_timeout_s: float
    max_queued: int | None
    when_full: WhenFull | str
    full_timeout_s: float | None
    max_memory: float | None


class WritePolicy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a producer writes. Raises `InvalidRequest` for a value that cannot be."""

    durability: Durability = Durability.MEMORY
    replicas: Annotated[int, Meta(ge=1, le=100)] | None = None
    """How many replicas must have a write that is to be `replicated`: 1 where it is not said."""
    durable_timeout_s: Annotated[float, Meta(gt=0, le=300)] = 5.0
    """How long the disk or the replicas may take before `NotDurable` is raised."""
    max_queued: Annotated[int, Meta(ge=1, lt=1 << 53)] | None = None
    """How many jobs the queue may hold for this producer to add one: those that wait, are deferred, and run."""
    when_full: WhenFull = WhenFull.REFUSE
    full_timeout_s: Annotated[float, Meta(ge=0)] | None = 60.0
    """How long to wait without any progress; None for as long as it takes."""
    max_memory: Annotated[float, Meta(gt=0, le=1)] | None = 0.95
    """The share of Redis's `maxmemory` from which on nothing is added; None leaves it to Redis to refuse at its end."""

    def __post_init__(self) -> None:
        if self.replicas is not None and self.durability is not Durability.REPLICATED:
            raise InvalidRequest("replicas", "goes with durability='replicated' alone")

    @classmethod
    def of(cls, options: WriteOptions) -> Self:
        """The policy that `options` make."""
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
            raise InvalidRequest(where.rstrip("`") or "options", f"{what[0].lower()}{what[1:]}") from None


def _either(words: tuple[str, ...]) -> str:
    return f"{', '.join(words[:-1])} or {words[-1]}"
