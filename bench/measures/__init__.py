"""The measures, in the order in which they are taken."""

from __future__ import annotations

from typing import Final

from .callers import Callers
from .client_cpu import ClientCpu
from .command import Crawl, Peak, Startup
from .enqueue import Enqueue, Memory
from .latency import Latency
from .measure import Measure
from .recovery import Recovery
from .throughput import Depth, Empty, EmptyByTwo, Fetch1M, Fetch2K, Fetch100K, FetchByTwo, Sleeping
from .tls_crawl import TlsCrawl

MEASURES: Final[tuple[Measure, ...]] = (
    Fetch2K(),
    ClientCpu(),
    Fetch100K(),
    Fetch1M(),
    Empty(),
    Enqueue(),
    Callers(),
    Latency(),
    Memory(),
    FetchByTwo(),
    EmptyByTwo(),
    Sleeping(),
    Depth(),
    Recovery(),
    Crawl(),
    TlsCrawl(),
    Peak(),
    Startup(),
)
