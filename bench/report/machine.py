"""The machine of a run."""

from __future__ import annotations

import os
import platform
import re
import sysconfig
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
        python=_python(),
        load_before=round(os.getloadavg()[0], 2),
    )


def _python() -> str:
    """The interpreter. A shared libpython makes calls into it slower, by some percent of a job."""
    built = "with" if sysconfig.get_config_var("Py_ENABLE_SHARED") else "without"
    return f"{platform.python_implementation()} {platform.python_version()} built {built} --enable-shared"
