"""The lanes of a queue."""

from enum import StrEnum


class Priority(StrEnum):
    """The order in which jobs that could start are started. No lane starves: each is served first now and then."""

    HIGH = "high"
    DEFAULT = "default"
    LOW = "low"
