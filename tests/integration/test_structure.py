"""The structure that ARCHITECTURE.md describes: no circles, imports downwards only, small folders, plain words.

Each list of exceptions contains what breaks a rule, with its reason. An entry that is not needed fails its test.
"""

from __future__ import annotations

import ast
import functools
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final

from tests.support.import_graph import ROOT, Graph, find_circles, folder_graph, read_imports, read_modules

MAX_MODULES: Final = 12
MAX_FUNCTION_LINES: Final = 50
MAX_MODULE_LINES: Final = 450

LAYERS: Final[tuple[tuple[str, ...], ...]] = (
    # What a service installs.
    ("fetchq.errors", "fetchq.tasks", "fetchq.units"),
    ("fetchq.logs",),
    ("fetchq.contract",),
    ("fetchq.telemetry",),
    ("fetchq.store",),
    ("fetchq.command",),
    ("fetchq.client.write",),
    ("fetchq.client",),
    ("fetchq.inspect", "fetchq.sync"),
    ("fetchq",),
    ("fetchq.testing",),
    # What an operator runs.
    ("fetchq_worker.health_address",),
    ("fetchq_worker.health_check", "fetchq_worker.settings", "fetchq_worker.http_date"),
    ("fetchq_worker.telemetry",),
    ("fetchq_worker.engine.queue",),
    ("fetchq_worker.engine.run",),
    ("fetchq_worker.engine.upkeep", "fetchq_worker.engine.stopping"),
    ("fetchq_worker.engine",),
    ("fetchq_worker.politeness",),
    ("fetchq_worker.fetch.egress",),
    ("fetchq_worker.fetch.transport",),
    ("fetchq_worker.fetch.content",),
    ("fetchq_worker.fetch.access",),
    ("fetchq_worker.fetch.http",),
    ("fetchq_worker.fetch.cache",),
    ("fetchq_worker.fetch.robots",),
    ("fetchq_worker.fetch.attempt",),
    ("fetchq_worker.fetch.job",),
    ("fetchq_worker.fetch",),
    ("fetchq_worker.process",),
    ("fetchq_worker.cli.terminal",),
    ("fetchq_worker.cli.bulk",),
    ("fetchq_worker.cli.actions",),
    ("fetchq_worker.cli.top",),
    ("fetchq_worker.cli.commands",),
    ("fetchq_worker.cli",),
    ("fetchq_worker",),
    # What an operator runs beside the workers.
    ("fetchq_gateway",),
    # Programs and tests.
    ("bench.adapters",),
    ("bench.testbed",),
    ("bench.report",),
    ("bench.measures", "bench.frontier"),
    ("bench",),
    ("tests.support",),
    ("harness.page", "harness.servers"),
    ("harness.chaos.fleet",),
    ("harness.chaos.judge",),
    ("harness.chaos",),
    ("harness",),
    ("tests",),
)
"""From the lowest layer up. A module belongs to the longest name here that is a prefix of its own. It imports its own
entry and lower lines; the entries of one line do not import each other."""

PRIVATE_WORDS: Final = re.compile(
    r"anew|bell|bur(y|ied)|courtesy|dressed|heed(s|ed)?|keepers?|mend(s|ed)?|nobody|shelf|stir(s|red)?|tend(er|ing|s)?"
    r"|unburied|undress|unheard|whoever|whom"
)
"""Literary words, and words that only fetchq would use, for what the field has a term."""


@functools.cache
def _modules() -> Mapping[str, Path]:
    return read_modules()


@functools.cache
def _imports() -> Graph:
    return read_imports(_modules())


@functools.cache
def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def _layer(module: str) -> tuple[int, str]:
    """The rank of a module's layer, and the entry that it belongs to."""
    found = [
        (len(entry), rank, entry)
        for rank, entries in enumerate(LAYERS)
        for entry in entries
        if module == entry or module.startswith(f"{entry}.")
    ]
    _, rank, entry = max(found)
    return rank, entry


def _upward(imports: Graph) -> Iterator[tuple[str, str]]:
    for module, targets in imports.items():
        rank, entry = _layer(module)
        for target in sorted(targets):
            target_rank, target_entry = _layer(target)
            if target_entry != entry and target_rank >= rank:
                yield module, target


def assert_none(found: set[str], *, reasons: Mapping[str, str] = MappingProxyType({})) -> None:
    assert sorted(found - reasons.keys()) == []
    assert sorted(reasons.keys() - found) == [], "no longer needed"


def test_imports_point_downwards() -> None:
    assert_none({f"{module} imports {target}" for module, target in _upward(_imports())})


def test_no_files_import_each_other_in_a_circle() -> None:
    assert_none({" ".join(circle) for circle in find_circles(_imports())})


def test_no_folders_import_each_other_in_a_circle() -> None:
    assert_none({" ".join(circle) for circle in find_circles(folder_graph(_imports(), _modules()))})


def test_a_folder_has_at_most_twelve_modules() -> None:
    sizes = Counter(path.parent for path in _modules().values() if path.name not in ("__init__.py", "conftest.py"))
    assert_none({f"{folder.relative_to(ROOT)} is crowded" for folder, size in sizes.items() if size > MAX_MODULES})


def test_no_function_has_more_than_fifty_lines() -> None:
    found = {
        f"{module}.{node.name}"
        for module, path in _modules().items()
        for node in ast.walk(_tree(path))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (node.end_lineno or 0) - node.lineno >= MAX_FUNCTION_LINES
    }
    assert_none(found)


def test_no_module_has_more_than_450_lines() -> None:
    found = {module for module, path in _modules().items() if len(path.read_text().splitlines()) > MAX_MODULE_LINES}
    assert_none(found)


def test_names_docstrings_scripts_and_pages_use_the_words_of_the_field() -> None:
    texts = {module: _words(_tree(path)) for module, path in _modules().items() if path != Path(__file__)}
    texts |= {path.name: _split(path.read_text()) for path in (ROOT / "producer").rglob("*.lua")}
    pages = [*ROOT.glob("[!C]*.md"), *(ROOT / "docs").rglob("*.md")]  # without the changelog, which has old names
    texts |= {page.name: _split(page.read_text()) for page in pages}
    found = {f"{name}: {word}" for name, words in texts.items() for word in words if PRIVATE_WORDS.fullmatch(word)}
    assert_none(found)


def test_the_checks_find_what_they_look_for() -> None:
    circle = {"fetchq.store.a": {"fetchq.client.b"}, "fetchq.client.b": {"fetchq.store.a"}, "fetchq.client.c": set()}
    graph = {module: frozenset(targets) for module, targets in circle.items()}
    assert find_circles(graph) == [("fetchq.client.b", "fetchq.store.a")]
    assert list(_upward(graph)) == [("fetchq.store.a", "fetchq.client.b")]
    assert "anew" in _words(ast.parse('def start_anew() -> None: "Starts."'))
    assert "whoever" in _words(ast.parse('def start() -> None: "For whoever waits."'))
    assert len(_imports()["fetchq.client.producer"]) > 3


def _words(tree: ast.Module) -> set[str]:
    """The words of names and docstrings, in lower case."""
    text: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            text.append(ast.get_docstring(node) or "")
        text += [name for field in ("name", "id", "attr", "arg") if isinstance(name := getattr(node, field, None), str)]
    return _split(" ".join(text))


def _split(text: str) -> set[str]:
    """`pass_wake`, `PassWake` and `pass wake` are the same words."""
    return {word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+", text)}
