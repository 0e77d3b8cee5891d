"""Type checkers accept what users write: the examples of the pages, and requests from mappings and lists."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from mypy import api

ROOT = Path(__file__).parents[2]
REQUESTS = """\
from fetchq import FetchRequest, FetchStatus, Priority, RetryPolicy

request = FetchRequest(url="https://a.example/", headers={"a": "b"}, tags=["x"], priority="high")
FetchRequest(url="https://a.example/", headers=[("a", "b")], tags=("x",), priority=Priority.LOW)
FetchRequest(url="https://a.example/", retry=RetryPolicy(on=["TIMEOUT", FetchStatus.DNS_ERROR], http_statuses=[503]))
pairs: tuple[tuple[str, str], ...] = request.headers
tags: tuple[str, ...] = request.tags
"""
WRONG = """\
from fetchq import FetchRequest, RetryPolicy

FetchRequest()
FetchRequest("https://a.example/")
FetchRequest(url="https://a.example/", headers=5)
FetchRequest(url="https://a.example/", tags=[5])
FetchRequest(url="https://a.example/", timeout_s="5")
FetchRequest(url="https://a.example/", colour="red")
FetchRequest(url="https://a.example/", json={})
RetryPolicy(http_statuses=["503"])
"""


def _examples(page: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(encoding="utf-8"), re.DOTALL)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("user")
    pages = {"readme": "README.md", "producer": "producer/README.md", "testing": "docs/testing.md"}
    pages |= {"gateway": "gateway/README.md", "http": "docs/http-api.md"}
    for name, page in pages.items():
        for number, text in enumerate(_examples(page)):
            if "django" not in text and not re.search(r"^from (app|feeds) ", text, re.MULTILINE):
                (folder / f"{name}_{number}.py").write_text(text, encoding="utf-8")
    (folder / "requests_right.py").write_text(REQUESTS, encoding="utf-8")
    (folder / "requests_wrong.py").write_text(WRONG, encoding="utf-8")
    return folder


def test_mypy_accepts_what_is_right_and_reports_each_line_that_is_wrong(folder: Path) -> None:
    files = sorted(map(str, folder.glob("*.py")))
    assert len(files) > 8
    cache = ROOT / ".mypy_cache" / "user"
    out, err, _ = api.run(["--strict", "--config-file", "", "--cache-dir", str(cache), "--no-error-summary", *files])
    assert err == ""
    errors = re.findall(r"(\w+)\.py:(\d+): error: (.*)", out)
    assert [error for error in errors if error[0] != "requests_wrong"] == []
    assert {int(line) for _, line, _ in errors} == set(range(3, 11)), out


def test_pyright_accepts_what_is_right_and_reports_each_line_that_is_wrong(folder: Path) -> None:
    command = shutil.which("basedpyright", path=str(Path(sys.executable).parent)) or shutil.which("pyright")
    if command is None:
        pytest.skip("pyright is not installed; pip install basedpyright brings it with its own node")
    (folder / "pyrightconfig.json").write_text('{"typeCheckingMode": "standard"}', encoding="utf-8")
    options = ["--outputjson", "--pythonpath", sys.executable, "--project", str(folder)]
    done = subprocess.run([command, *options], capture_output=True, text=True, timeout=120, check=False)
    found = [
        (Path(item["file"]).stem, item["range"]["start"]["line"] + 1, item["message"])
        for item in json.loads(done.stdout)["generalDiagnostics"]
        if item["severity"] == "error"
    ]
    assert [item for item in found if item[0] != "requests_wrong"] == []
    assert {line for _, line, _ in found} == set(range(3, 11)), found
