"""The measures, in the order in which they are taken."""

from __future__ import annotations

from typing import Final

from .command import Crawl, Peak, Startup
from .enqueue import Enqueue, Memory
from .latency import Latency
from .measure import Measure
from .recovery import Recovery
from .throughput import Depth, Empty, EmptyByTwo, Fetch2K, Fetch100K, FetchByTwo, Sleeping

MEASURES: Final[tuple[Measure, ...]] = (
    Fetch2K(),
    Fetch100K(),
    Empty(),
    Enqueue(),
    Latency(),
    Memory(),
    FetchByTwo(),
    EmptyByTwo(),
    Sleeping(),
    Depth(),
    Recovery(),
    Crawl(),
    Peak(),
    Startup(),
)
