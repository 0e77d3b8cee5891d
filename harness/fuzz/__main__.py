"""`make fuzz`: runs every target under atheris (coverage-guided, libFuzzer) for some seconds, and reports.

The environment is made once, in `.fuzz/`; corpora grow there from run to run, and findings are stored.
"""

from __future__ import annotations

import argparse
import hashlib
import re
import subprocess
import sys
import venv
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
FOLDER: Final = ROOT / ".fuzz"
PYTHON: Final = FOLDER / "venv" / "bin" / "python"
REQUIREMENTS: Final = Path(__file__).with_name("requirements.txt")
CONSTRAINTS: Final = ROOT / "constraints.txt"
MAX_INPUT_BYTES: Final = 4096
ONE_INPUT_S: Final = 10
"""An input that takes longer counts as a finding."""
RSS_LIMIT_MB: Final = 1024


def prepare() -> None:
    stamp = FOLDER / "made-from"
    made_from = hashlib.sha256(REQUIREMENTS.read_bytes() + CONSTRAINTS.read_bytes() + sys.version.encode()).hexdigest()
    if stamp.exists() and stamp.read_text() == made_from:
        return
    print(f"Setting up {FOLDER.name} ...", flush=True)
    venv.create(PYTHON.parents[1], clear=True, with_pip=True)
    install: list[str | Path] = [
        PYTHON,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "--constraint",
        CONSTRAINTS,
    ]
    packages: list[str | Path] = ["--editable", ROOT / "producer", "--editable", ROOT / "worker"]
    subprocess.run([*install, "--requirement", REQUIREMENTS, *packages, "pytest", "pytest-asyncio"], check=True)
    stamp.write_text(made_from)


def fuzz(target: str, seconds: int) -> tuple[int, bool]:
    """Runs one target. Returns the number of runs, and whether there was a finding."""
    corpus, found = FOLDER / "corpus" / target, FOLDER / "found"
    for folder in (corpus, found):
        folder.mkdir(parents=True, exist_ok=True)
    options = [f"-max_total_time={seconds}", f"-max_len={MAX_INPUT_BYTES}", f"-timeout={ONE_INPUT_S}"]
    options += [f"-rss_limit_mb={RSS_LIMIT_MB}", f"-artifact_prefix={found}/{target}-", "-print_final_stats=1"]
    command: list[str | Path] = [PYTHON, "-m", "harness.fuzz.atheris_run", target, corpus, *options]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, errors="replace", check=False)
    runs = re.search(r"number_of_executed_units:\s*(\d+)", ended.stderr)
    if ended.returncode:
        print("\n".join(line for line in ended.stderr.splitlines() if not line.startswith("#"))[-4000:])
    return int(runs[1]) if runs else 0, ended.returncode != 0


def names() -> list[str]:
    """Read from that environment, since this one may lack the packages."""
    code = "from harness.fuzz.targets import TARGETS; print(*TARGETS)"
    return subprocess.run([PYTHON, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True).stdout.split()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m harness.fuzz")
    parser.add_argument("--seconds", type=int, default=60, help="for each target")
    parser.add_argument("--only", help="targets, by commas")
    chosen = parser.parse_args()
    prepare()
    targets = chosen.only.split(",") if chosen.only else names()
    broken = 0
    for target in targets:
        runs, found = fuzz(target, chosen.seconds)
        broken += found
        print(f"{target:<18}{runs:>12,} runs {runs // max(1, chosen.seconds):>9,}/s  {'FOUND' if found else 'nothing'}")
        sys.stdout.flush()
    if broken:
        print(f"Findings are in {FOLDER / 'found'}; fix them, and keep each input as harness/fuzz/found/TARGET-WHAT")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
