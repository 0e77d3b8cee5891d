"""Imports point one way (ARCHITECTURE.md, "What must stay true")."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PRODUCER = ROOT / "producer" / "fetchq"
WORKER = ROOT / "worker" / "fetchq_worker"


def _imports(folder: Path) -> Iterator[tuple[Path, str]]:
    """Every module that the files below a folder import, relative ones made absolute."""
    for path in folder.rglob("*.py"):
        inside = path.relative_to(PRODUCER.parent if PRODUCER in path.parents else WORKER.parent).parts[:-1]
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                yield from ((path, alias.name) for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                base = list(inside[: len(inside) - node.level + 1]) if node.level else []
                module = ".".join([*base, *([node.module] if node.module else [])])
                yield from ((path, f"{module}.{alias.name}") for alias in node.names)


def _forbidden(folder: Path, *prefixes: str) -> list[str]:
    return [
        f"{path.relative_to(ROOT)} imports {module}"
        for path, module in _imports(folder)
        if any(module == prefix or module.startswith(f"{prefix}.") for prefix in prefixes)
    ]


@pytest.mark.parametrize(
    ("folder", "prefixes"),
    [
        (PRODUCER, ("fetchq_worker", "arq", "aiohttp", "typer", "rich", "uvloop", "fakeredis")),
        (WORKER / "engine", ("fetchq_worker.fetch", "fetchq_worker.cli", "aiohttp", "ada_url", "typer")),
        (WORKER / "fetch", ("fetchq_worker.cli", "fetchq_worker.engine.worker", "typer", "rich")),
    ],
)
def test_imports_point_one_way(folder: Path, prefixes: tuple[str, ...]) -> None:
    assert _forbidden(folder, *prefixes) == []


def test_the_contract_imports_nothing_of_ours_but_itself_and_the_errors() -> None:
    contract = PRODUCER / "contract"
    found = {module for path, module in _imports(PRODUCER) if contract in path.parents and module.startswith("fetchq.")}
    assert all(module.startswith(("fetchq.contract.", "fetchq.errors.")) for module in found), found


def test_the_check_sees_an_import_that_points_the_wrong_way() -> None:
    assert _forbidden(WORKER, "fetchq")
    assert _forbidden(WORKER / "fetch", "aiohttp")
