"""Garbage collection for a worker process. For the program that owns the process, not for a library."""

from __future__ import annotations

import gc
from typing import Final

YOUNG_OBJECTS: Final = 20_000
"""Container objects allocated between two collections of the youngest generation. With Python's 700, a collection comes
every few fetches and finds little, and takes a tenth of a worker's time (`make profile`). At most about 10 MB wait for
collection, since the bodies of fetches are not container objects and are freed with their last reference."""


def tune_gc() -> None:
    """Exempts all present objects from collection. Called after the start and before the first job."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS, 20, 100)
