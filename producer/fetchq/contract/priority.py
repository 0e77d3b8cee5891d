"""The lanes of a queue."""

from enum import StrEnum


class Priority(StrEnum):
    """Which jobs go first where several could. None starves: now and then each lane has the first place."""

    HIGH = "high"
    DEFAULT = "default"
    LOW = "low"
