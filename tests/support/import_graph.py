"""The import graph of the source tree. Imports under TYPE_CHECKING and inside functions count too."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
SOURCES: Final = {
    "fetchq": ROOT / "producer",
    "fetchq_worker": ROOT / "worker",
    "fetchq_gateway": ROOT / "gateway",
    "tests": ROOT,
    "harness": ROOT,
    "bench": ROOT,
}
"""Each top folder, and the folder from which it is imported."""

Graph = Mapping[str, frozenset[str]]


def read_modules() -> dict[str, Path]:
    """Returns every module's file by its name. A package stands for its `__init__.py`."""
    return {
        _name(path.relative_to(base)): path
        for top, base in SOURCES.items()
        for path in sorted((base / top).rglob("*.py"))
    }


def read_imports(modules: Mapping[str, Path]) -> Graph:
    """Returns the modules of this repository that each module imports."""
    return {name: frozenset(_imports(name, path, modules)) - {name} for name, path in modules.items()}


def folder_graph(imports: Graph, modules: Mapping[str, Path]) -> Graph:
    """Returns the folders that each folder's modules import. A package's `__init__.py` re-exports, so it is ignored."""
    graph: dict[str, set[str]] = {}
    for module, targets in imports.items():
        if modules[module].name != "__init__.py":
            here = folder_of(module, modules)
            graph.setdefault(here, set()).update(folder_of(target, modules) for target in targets)
    return {folder: frozenset(targets) - {folder} for folder, targets in graph.items()}


def folder_of(module: str, modules: Mapping[str, Path]) -> str:
    return module if modules[module].name == "__init__.py" else module.rpartition(".")[0]


def find_circles(graph: Graph) -> list[tuple[str, ...]]:
    """Returns the strongly connected components with more than one node (Tarjan), each sorted."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    circles: list[tuple[str, ...]] = []

    def visit(node: str) -> None:
        index[node] = low[node] = len(index)
        stack.append(node)
        for target in graph.get(node, ()):
            if target not in index:
                visit(target)
                low[node] = min(low[node], low[target])
            elif target in stack:
                low[node] = min(low[node], index[target])
        if low[node] == index[node]:
            component = stack[stack.index(node) :]
            del stack[stack.index(node) :]
            if len(component) > 1:
                circles.append(tuple(sorted(component)))

    for node in graph:
        if node not in index:
            visit(node)
    return sorted(circles)


def _name(path: Path) -> str:
    parts = path.with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _imports(name: str, path: Path, modules: Mapping[str, Path]) -> Iterator[str]:
    package = name.split(".") if path.name == "__init__.py" else name.split(".")[:-1]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in modules)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            source = ".".join([*base, *([node.module] if node.module else [])])
            for alias in node.names:
                found = next((module for module in (f"{source}.{alias.name}", source) if module in modules), None)
                if found is not None:
                    yield found
