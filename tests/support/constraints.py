"""Reads constraints.txt and the packages of an environment, with names compared as in PEP 503."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

LIST_INSTALLED: Final = (
    "import json, re; from importlib.metadata import distributions; "
    'print(json.dumps({re.sub("[-_.]+", "-", it.name).lower(): it.version for it in distributions()}))'
)
"""A line of Python that prints the distributions of its environment as a JSON object of versions by name."""


def read_pins(path: Path) -> dict[str, str]:
    """The pinned version of each distribution. Raises `ValueError` for a line without a pin."""
    pins: dict[str, str] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line or line.startswith("#"):
            continue
        match = re.fullmatch(r"([\w.-]+)==([\w.!+]+)", line)
        if match is None:
            raise ValueError(f"{path.name}: {line!r} is not NAME==VERSION")
        pins[re.sub(r"[-_.]+", "-", match[1]).lower()] = match[2]
    return pins
