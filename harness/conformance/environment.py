"""The environments of `make conformance`: arq's own suite with this worker, and the tools made for arq.

Each has its own folder and is made again when its inputs change.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tarfile
import venv
from pathlib import Path
from typing import Final

import msgspec
from tests.support.constraints import read_pins

ARQ_VERSION: Final = "0.28.0"
ROOT: Final = Path(__file__).resolve().parents[2]
HERE: Final = Path(__file__).resolve().parent
FOLDER: Final = ROOT / ".conformance"
ARQ: Final = FOLDER / f"arq-{ARQ_VERSION}"


class Environment(msgspec.Struct, frozen=True):
    """A virtual environment, with versions from a file in this folder."""

    name: str
    pins: str
    """The file. Packages that it does not name have the project's versions."""
    requirements: tuple[str, ...]
    with_fetchq: bool = True

    @property
    def python(self) -> Path:
        return FOLDER / self.name / "bin" / "python"

    def prepare(self) -> None:
        """Makes the environment unless it is up to date. Raises `CalledProcessError` with pip's output."""
        stamp = FOLDER / self.name / "made-from"
        made_from = self._fingerprint()
        if stamp.exists() and stamp.read_text(encoding="utf-8") == made_from:
            return
        print(f"Setting up {FOLDER.name}/{self.name}: {', '.join(self.requirements)} ...", flush=True)
        venv.create(FOLDER / self.name, clear=True, with_pip=True)
        constraints = FOLDER / f"{self.name}.txt"
        constraints.write_text(self.constraints(), encoding="utf-8")
        if self.with_fetchq:
            fetchq = ("--editable", str(ROOT / "producer"), "--editable", str(ROOT / "worker"))
            self.pip("install", "--constraint", str(constraints), *self.requirements, *fetchq)
        else:
            self.pip("install", "--constraint", str(constraints), *self.requirements)
        stamp.write_text(made_from, encoding="utf-8")

    def constraints(self) -> str:
        """The file's versions, and the project's for all packages that it does not name."""
        merged = {**read_pins(ROOT / "constraints.txt"), **read_pins(HERE / self.pins)}
        return "".join(f"{name}=={version}\n" for name, version in sorted(merged.items()))

    def pip(self, *arguments: str) -> None:
        subprocess.run([self.python, "-m", "pip", "--quiet", "--disable-pip-version-check", *arguments], check=True)

    def _fingerprint(self) -> str:
        digest = hashlib.sha256(f"{sys.version} {self}".encode())
        for path in ("constraints.txt", "producer/pyproject.toml", "worker/pyproject.toml"):
            digest.update((ROOT / path).read_bytes())
        digest.update((HERE / self.pins).read_bytes())
        return digest.hexdigest()


SUITE: Final = Environment(
    name="suite",
    pins="constraints.txt",
    requirements=(
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
    ),
)
"""arq's "testing" group without coverage and testcontainers."""
TOOLS: Final = Environment(
    name="tools",
    pins="tools.txt",
    requirements=(
        "arq-django-admin",
        "arq-prometheus",
        "dishka",
        "logfire",
        "modern-di-arq",
        "opentelemetry-instrumentation-arq",
        "opentelemetry-sdk",
        "sentry-sdk",
        "z4j-arq",
    ),
)
DASHBOARD: Final = Environment(
    name="dashboard", pins="dashboard.txt", requirements=("arq-dashboard",), with_fetchq=False
)


def fetch_suite() -> None:
    """Brings arq's sdist, with its tests, unless it is there."""
    if ARQ.exists():
        return
    name = f"arq-{ARQ_VERSION}.tar.gz"
    SUITE.pip("download", "--no-deps", "--no-binary", "arq", "--dest", str(FOLDER), f"arq=={ARQ_VERSION}")
    with tarfile.open(FOLDER / name) as archive:
        archive.extractall(FOLDER, filter="data")
