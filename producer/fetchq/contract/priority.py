"""The lanes of a queue."""

from enum import StrEnum


class Priority(StrEnum):
    """The lane of a job: which of the jobs that may start are started first.

    Each lane is first now and then, so none starves.
    """

    HIGH = "high"
    DEFAULT = "default"
    LOW = "low"
