"""What a package must work without, although its layer would allow the import (layers: test_structure.py)."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.import_graph import read_imports, read_modules

MODULES = read_modules()


@pytest.mark.parametrize(
    ("package", "foreign"),
    [
        ("fetchq", ("fetchq_worker", "fetchq_gateway", "arq", "aiohttp", "starlette", "uvicorn", "uvloop")),
        ("fetchq_worker", ("fetchq_gateway", "starlette", "uvicorn")),
        ("fetchq_gateway", ("fetchq_worker", "arq", "aiohttp")),
        ("fetchq_worker.engine", ("aiohttp", "ada_url", "click")),
        ("fetchq_worker.fetch", ("fetchq_worker.engine.worker", "click")),
    ],
)
def test_a_package_does_not_import_what_it_must_work_without(package: str, foreign: tuple[str, ...]) -> None:
    assert _foreign(package, *foreign) == []


def test_only_the_testing_package_imports_test_dependencies() -> None:
    found = _foreign("fetchq", "fakeredis", "pytest", "pytest_asyncio")
    assert found
    assert [line for line in found if not line.startswith("fetchq.testing.")] == []


def test_only_what_programs_share_imports_click() -> None:
    found = _foreign("fetchq", "click")
    assert {line.partition(" ")[0] for line in found} == {"fetchq.command.command_line", "fetchq.command.option_types"}


def test_the_contract_imports_only_the_errors_of_fetchq() -> None:
    contract = {name: path for name, path in MODULES.items() if name.startswith("fetchq.contract")}
    graph = read_imports(MODULES)
    imported = {target for module in contract for target in graph[module]}
    assert {target for target in imported if not target.startswith(("fetchq.contract.", "fetchq.errors"))} == set()


def test_the_check_finds_a_foreign_import() -> None:
    assert _foreign("fetchq_worker", "fetchq")
    assert _foreign("fetchq_worker.fetch", "aiodns")


def _foreign(package: str, *foreign: str) -> list[str]:
    return [
        f"{module} imports {name}"
        for module, path in MODULES.items()
        if module == package or module.startswith(f"{package}.")
        for name in _imported_names(path)
        if any(name == prefix or name.startswith(f"{prefix}.") for prefix in foreign)
    ]


def _imported_names(path: Path) -> Iterator[str]:
    """The absolute names that a file imports; relative imports stay within its distribution."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
