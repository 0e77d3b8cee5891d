"""constraints.txt pins what is installed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from tests.support.constraints import LIST_INSTALLED, read_pins

ROOT = Path(__file__).resolve().parents[2]
UNPINNED = {"fetchq", "fetchq-worker", "fetchq-gateway", "setuptools"}
"""Our own, and what Python 3.11 puts into every new environment."""


def test_every_distribution_of_this_environment_is_pinned_to_its_version() -> None:
    said = subprocess.run([sys.executable, "-c", LIST_INSTALLED], capture_output=True, text=True, check=True).stdout
    installed = {name: version for name, version in json.loads(said).items() if name not in UNPINNED}
    pins = read_pins(ROOT / "constraints.txt")
    assert {name: pins.get(name) for name in installed} == installed


@pytest.mark.parametrize("path", ["constraints.txt", "harness/conformance/constraints.txt"])
def test_the_pins_are_names_and_versions_alone(path: str) -> None:
    assert read_pins(ROOT / path)


@pytest.mark.parametrize("line", ["arq>=0.28", "--index-url somewhere", "arq @ file:x", "arq==0.28.0 --hash=sha256:0"])
def test_a_line_with_anything_else_is_refused(line: str, tmp_path: Path) -> None:
    path = tmp_path / "constraints.txt"
    path.write_text(f"{line}\n", encoding="utf-8")
    with pytest.raises(ValueError, match="is not NAME==VERSION"):
        read_pins(path)
