"""The settings that the harness passes to an adapter, through the environment."""

import json
import os
from dataclasses import dataclass

VARIABLE = "FETCHQ_BENCH"


@dataclass(frozen=True)
class Settings:
    """The settings of one run, the same for every peer in any language."""

    redis_port: int
    concurrency: int = 100
    tuned: bool = True
    """False: every option of the peer has its default, concurrency too."""
    lease_s: float | None = None
    """fetchq's lease; None: the default."""
    hold_s: float = 0.0
    """How long the `hold` job sleeps after it has written its line."""

    @property
    def redis_url(self) -> str:
        return f"redis://127.0.0.1:{self.redis_port}"


def read_settings() -> Settings:
    return Settings(**json.loads(os.environ[VARIABLE]))
