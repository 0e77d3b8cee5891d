"""Runs one target under atheris. Arguments: the target, the folder of its corpus, libFuzzer's options."""

from __future__ import annotations

import sys

import atheris

with atheris.instrument_imports(include=["fetchq", "fetchq_worker", "harness.fuzz"]):
    from .seeds import seeds_of
    from .targets import TARGETS


def main() -> None:
    name, folder, *options = sys.argv[1:]
    for number, seed in enumerate(seeds_of(name)):
        with open(f"{folder}/seed-{number}", "wb") as file:  # noqa: PTH123 - importing pathlib here would leave it uninstrumented
            file.write(seed)
    atheris.Setup([sys.argv[0], *options, folder], TARGETS[name])
    atheris.Fuzz()


if __name__ == "__main__":
    main()
