"""The machine of a run."""

from __future__ import annotations

import os
import platform
import re
from pathlib import Path

from .results import Machine


def this_machine() -> Machine:
    """As Linux describes it."""
    model = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    total = re.search(r"^MemTotal:\s*(\d+) kB$", Path("/proc/meminfo").read_text(), re.MULTILINE)
    return Machine(
        processor=model[1] if model else platform.machine(),
        cores=len(os.sched_getaffinity(0)),
        memory_gb=round(int(total[1]) / 1e6, 1) if total else 0.0,
        system=f"{platform.system()} {platform.release().split('-')[0]}",
        load_before=round(os.getloadavg()[0], 2),
    )
