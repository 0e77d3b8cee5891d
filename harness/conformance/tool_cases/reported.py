"""What every case shares: its Redis, and the report of what its tool has observed."""

from __future__ import annotations

import atexit
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from arq.connections import RedisSettings

REDIS: Final = RedisSettings(port=int(os.environ["TOOL_REDIS_PORT"]))


def report_at_exit(observed: Callable[[], Any]) -> None:
    """Writes what `observed` returns, as JSON, when the command ends."""
    path = Path(os.environ["TOOL_REPORT"])
    atexit.register(lambda: path.write_text(json.dumps(observed()), encoding="utf-8"))
