"""Prometheus's own rules for names and types."""

from __future__ import annotations

import subprocess

from tests.support.redis_server import needed_binary


def problems_of(text: bytes) -> str:
    """What `promtool check metrics` says about metrics in Prometheus's format; empty for nothing."""
    tool = needed_binary("promtool")
    found = subprocess.run([tool, "check", "metrics"], input=text, capture_output=True, timeout=30, check=False)
    return (found.stdout + found.stderr).decode()
