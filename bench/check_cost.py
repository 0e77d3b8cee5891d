"""What `fetchq worker --check` costs: `python -m bench.check_cost`. It runs one worker, without Redis, and asks it."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Final, NamedTuple

RUNS: Final = 20
START_TIMEOUT_S: Final = 60.0
_FETCHQ: Final = (sys.executable, "-c", "from fetchq_worker.cli import main; main()")
# In a process of its own: RUSAGE_CHILDREN then covers the check alone.
_MEASURE: Final = (
    "import resource, subprocess, sys, time\n"
    "began = time.perf_counter()\n"
    "status = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL).returncode\n"
    "took = time.perf_counter() - began\n"
    "used = resource.getrusage(resource.RUSAGE_CHILDREN)\n"
    "print(status, took, used.ru_utime + used.ru_stime, used.ru_maxrss)\n"
)


class CheckCost(NamedTuple):
    """The cost of one check."""

    wall_s: float
    cpu_s: float
    memory_mb: float


def measure(runs: int = RUNS) -> list[CheckCost]:
    """Runs a worker and checks it `runs` times. Raises `RuntimeError` if a check fails."""
    with tempfile.TemporaryDirectory(prefix="fetchq-") as folder:
        environ = {**os.environ, "FETCHQ_RUNTIME_DIR": folder, "FETCHQ_REDIS_URL": f"unix://{folder}/none"}
        worker = subprocess.Popen([*_FETCHQ, "worker", "--start-wait", "3600"], env=environ, stderr=subprocess.DEVNULL)
        try:
            _wait_for_socket(Path(folder))
            return [_measure_once(environ) for _ in range(runs)]
        finally:
            worker.kill()
            worker.wait()


def _wait_for_socket(folder: Path) -> None:
    until = time.monotonic() + START_TIMEOUT_S
    while not list(folder.glob("*.sock")):
        if time.monotonic() > until:
            raise RuntimeError("the worker did not start")
        time.sleep(0.01)


def _measure_once(environ: dict[str, str]) -> CheckCost:
    command = [sys.executable, "-c", _MEASURE, *_FETCHQ, "worker", "--check", "--timeout", "30"]
    said = subprocess.run(command, env=environ, capture_output=True, text=True, check=True)
    status, wall_s, cpu_s, memory_kb = said.stdout.split()
    if status != "0":
        raise RuntimeError(f"the check failed: {said.stderr}")
    scale = 1 if sys.platform == "darwin" else 1024  # ru_maxrss is in bytes on macOS
    return CheckCost(float(wall_s), float(cpu_s), int(memory_kb) * scale / 2**20)


def main() -> None:
    costs = measure()
    median = CheckCost(*(sorted(values)[len(values) // 2] for values in zip(*costs, strict=True)))
    sys.stdout.write(
        f"fetchq worker --check, median of {len(costs)}: {median.wall_s * 1000:.0f} ms, "
        f"{median.cpu_s * 1000:.0f} ms of CPU, {median.memory_mb:.1f} MB\n"
    )


if __name__ == "__main__":
    main()
