"""The environment for arq's own suite: its sdist, the test versions that it locked, and this worker.

It has its own folder and is made again when its inputs change.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tarfile
import venv
from pathlib import Path
from typing import Final

from tests.support.constraints import read_pins

ARQ_VERSION: Final = "0.28.0"
ROOT: Final = Path(__file__).resolve().parents[2]
HERE: Final = Path(__file__).resolve().parent
FOLDER: Final = ROOT / ".conformance"
PYTHON: Final = FOLDER / "venv" / "bin" / "python"
ARQ: Final = FOLDER / f"arq-{ARQ_VERSION}"

TEST_REQUIREMENTS: Final = (
    f"arq[watch]=={ARQ_VERSION}",
    "dirty-equals",
    "msgpack",
    "pydantic",
    "pytest",
    "pytest-asyncio",
    "pytest-mock",
    "pytest-pretty",
    "pytest-timeout",
    "pytz",
    "tzdata",
)
"""arq's "testing" group without coverage and testcontainers."""


def prepare() -> None:
    """Makes the environment unless it is up to date. Raises `CalledProcessError` with pip's output."""
    stamp = FOLDER / "made-from"
    made_from = _fingerprint()
    if stamp.exists() and stamp.read_text(encoding="utf-8") == made_from:
        return
    print(f"Setting up {FOLDER.name}: arq {ARQ_VERSION}, its tests and the versions it locked ...", flush=True)
    stamp.unlink(missing_ok=True)
    venv.create(PYTHON.parents[1], clear=True, with_pip=True)
    constraints = FOLDER / "constraints.txt"
    constraints.write_text(merged_constraints(), encoding="utf-8")
    _pip("install", "--constraint", str(constraints), "--upgrade", "pip")
    _pip("install", "--constraint", str(constraints), *TEST_REQUIREMENTS)
    _pip(
        *("install", "--constraint", str(constraints)),
        *("--editable", str(ROOT / "producer"), "--editable", str(ROOT / "worker")),
    )
    _fetch_sdist()
    stamp.write_text(made_from, encoding="utf-8")


def _fetch_sdist() -> None:
    name = f"arq-{ARQ_VERSION}.tar.gz"
    _pip("download", "--no-deps", "--no-binary", "arq", "--dest", str(FOLDER), f"arq=={ARQ_VERSION}")
    with tarfile.open(FOLDER / name) as archive:
        archive.extractall(FOLDER, filter="data")


def merged_constraints() -> str:
    """arq's locked versions, and the project's for all packages that arq's lock does not name."""
    merged = {**read_pins(ROOT / "constraints.txt"), **read_pins(HERE / "constraints.txt")}
    return "".join(f"{name}=={version}\n" for name, version in sorted(merged.items()))


def _fingerprint() -> str:
    digest = hashlib.sha256(sys.version.encode())
    for path in ("constraints.txt", "producer/pyproject.toml", "worker/pyproject.toml"):
        digest.update((ROOT / path).read_bytes())
    for path in ("constraints.txt", "environment.py"):
        digest.update((HERE / path).read_bytes())
    return digest.hexdigest()


def _pip(*arguments: str) -> None:
    subprocess.run([PYTHON, "-m", "pip", "--quiet", "--disable-pip-version-check", *arguments], check=True)
