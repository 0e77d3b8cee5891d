"""Every guarantee of docs/security.md has a test."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "security.md").read_text()


def _tests() -> set[str]:
    return {
        name
        for path in (ROOT / "tests").rglob("test_*.py")
        for name in re.findall(r"^(?:async )?def (test_\w+)", path.read_text(), re.MULTILINE)
    }


def test_every_test_that_the_page_names_exists() -> None:
    named = set(re.findall(r"`(test_\w+)`", PAGE))

    assert len(named) > 30
    assert named <= _tests(), sorted(named - _tests())


def test_every_file_that_the_page_names_exists() -> None:
    files = re.findall(r"`((?:tests|fetch)/[\w/]+\.py)`", PAGE)

    assert files
    for file in files:
        assert (ROOT / file).exists() or (ROOT / "worker" / "fetchq_worker" / file).exists(), file
