"""What a process that only works sets for itself. For the owner of the process to call, not for a library's user."""

from __future__ import annotations

import gc
from typing import Final

YOUNG_OBJECTS: Final = 20_000
"""Container objects made before the collector looks. Python's 700 are made by a handful of fetches, and with a hundred
of them in flight each look finds little: it was a tenth of a worker's time (`make profile`). What waits for it here is
some 10 MB at the most, as the bodies of fetches are not container objects and go when their last reference does."""


def settle_in() -> None:
    """After the start-up, before the first job: what is loaded by now stays, so the collector need not look at it."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS, 20, 100)
