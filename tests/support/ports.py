"""Ports of loopback for servers that cannot choose one themselves."""

from __future__ import annotations

import random
import socket
from typing import Final

_LOWEST: Final = 15_000
_HIGHEST: Final = 32_000
"""Below the range from which Linux gives ports to outgoing connections and to servers that ask for any port."""


def free_port() -> int:
    """Returns a port that nothing listens on. No connection takes it before the caller's server does."""
    while True:
        port = random.randint(_LOWEST, _HIGHEST)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
