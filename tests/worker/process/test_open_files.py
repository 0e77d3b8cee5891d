"""The limit of open files of a worker process."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import resource
from fetchq_worker.fetch.transport.pool import open_limit
from fetchq.command.open_files import raise_open_files
resource.setrlimit(resource.RLIMIT_NOFILE, (256, 1024))
print(open_limit())
raise_open_files()
print(resource.getrlimit(resource.RLIMIT_NOFILE), open_limit())
"""


def test_the_limit_is_raised_as_far_as_allowed_and_bounds_the_connections() -> None:
    ran = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)

    assert ran.stdout.splitlines() == ["128", "(1024, 1024) 896"]


WARNS = """
import resource
from fetchq_worker.process.open_files import warn_of_few_files
resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))
warn_of_few_files(100)
warn_of_few_files(300)
"""


def test_a_concurrency_beyond_the_limit_is_warned_of() -> None:
    ran = subprocess.run([sys.executable, "-c", WARNS], capture_output=True, text=True, check=True)

    assert ran.stderr.count("open_files.few") == 1
    assert "limit=256 concurrency=300" in ran.stderr
