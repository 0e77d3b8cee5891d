"""What the harness tells an adapter, through the environment."""

import json
import os
from dataclasses import dataclass

VARIABLE = "FETCHQ_BENCH"


@dataclass(frozen=True)
class Settings:
    """One run's settings. The same struct goes to every peer, whatever its language."""

    redis_port: int
    concurrency: int = 100
    tuned: bool = True
    """False: leave every option of the peer at its default, concurrency too."""
    lease_s: float | None = None
    """fetchq's lease; None leaves the default."""
    hold_s: float = 0.0
    """How long the `hold` job stays after it has signed the file."""

    @property
    def redis_url(self) -> str:
        return f"redis://127.0.0.1:{self.redis_port}"


def read_settings() -> Settings:
    return Settings(**json.loads(os.environ[VARIABLE]))
