"""An environment for each peer, under .bench/, so that their versions do not affect each other.

Python peers: a venv and the pinned `peers/<name>.txt`. BullMQ: `peers/bullmq.json`, exact versions, by npm.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from .failure import Unavailable
from .processes import REPO, run

ENVIRONMENTS: Final = REPO / ".bench"
_PINS: Final = REPO / "bench" / "peers"
INSTALL_S: Final = 300.0

_NETWORK: Final = ("HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY", "https_proxy", "http_proxy", "no_proxy")


def python_of(name: str) -> Path:
    """The interpreter of a peer's environment; fetchq's own is the workspace's."""
    if name == "fetchq":
        return Path(sys.executable)
    return ENVIRONMENTS / name / "bin" / "python"


async def ensure(name: str, folder: Path) -> None:
    """Makes the environment `name` unless it is up to date. Raises `Unavailable` with what is missing."""
    if name == "fetchq":
        return
    pins = next(path for path in (_PINS / f"{name}.txt", _PINS / f"{name}.json") if path.exists())
    stamp = ENVIRONMENTS / name / ".made-of"
    wanted = hashlib.sha256(pins.read_bytes() + sys.version.encode()).hexdigest()
    if stamp.exists() and stamp.read_text() == wanted:
        return
    print(f"making the environment of {name} ...", flush=True)
    place = ENVIRONMENTS / name
    place.mkdir(parents=True, exist_ok=True)
    if pins.suffix == ".json":
        await _npm(place, pins, folder)
    else:
        await _pip(name, place, pins, folder)
    stamp.write_text(wanted)


def pinned(name: str, packages: Sequence[str]) -> dict[str, str]:
    """The versions of some packages in a Python peer's environment."""
    pins = dict(line.split("==") for line in (_PINS / f"{name}.txt").read_text().split())
    return {package: pins[package] for package in packages}


async def _pip(name: str, place: Path, pins: Path, folder: Path) -> None:
    env = _installer_env()
    await run(f"venv-{name}", [sys.executable, "-m", "venv", "--clear", place], folder, timeout_s=INSTALL_S, env=env)
    command: list[str | Path] = [
        place / "bin" / "python",
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
    ]
    await run(f"pip-{name}", [*command, "-r", pins], folder, timeout_s=INSTALL_S, env=env)


async def _npm(place: Path, pins: Path, folder: Path) -> None:
    npm = shutil.which("npm")
    if npm is None:
        raise Unavailable("npm is missing; install Node 20 or newer")
    shutil.copy(pins, place / "package.json")
    # No lock file: it would contain the address of the registry that is used here.
    command: list[str | Path] = [npm, "install", "--prefix", place, "--no-package-lock", "--no-audit", "--no-fund"]
    await run(f"npm-{place.name}", command, folder, timeout_s=INSTALL_S, env=_installer_env())


def _installer_env() -> dict[str, str]:
    """The environment variables for pip and npm: their own settings and the network's."""
    own = ("PIP_", "NPM_CONFIG_", "npm_config_", "NODE_", "SSL_CERT_", "REQUESTS_CA_")
    return {key: value for key, value in os.environ.items() if key in _NETWORK or key.startswith(own)}
