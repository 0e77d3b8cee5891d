"""The examples of docs/testing.md, run by pytest in a separate process, with warnings as errors."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[3] / "docs" / "testing.md"
FILES = dict(re.findall(r"<!-- file: (\S+) -->\n```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL))
EXAMPLES = {name.partition("/")[0] for name in FILES}


def test_every_python_block_of_the_page_is_a_file() -> None:
    assert PAGE.read_text(encoding="utf-8").count("```python\n") == len(FILES)
    assert {"plain", "fastapi", "django", "coroutines"} == EXAMPLES


@pytest.mark.parametrize("example", sorted(EXAMPLES))
def test_an_example_passes(example: str, tmp_path: Path) -> None:
    for name, text in FILES.items():
        if name.startswith(f"{example}/"):
            (tmp_path / Path(name).name).write_text(text, encoding="utf-8")
    options = ["-q", "-p", "no:cacheprovider", "--rootdir", ".", "-o", "asyncio_default_fixture_loop_scope=function"]
    command = [sys.executable, "-W", "error", "-m", "pytest", *options]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    tests = sum(text.count("def test_") for name, text in FILES.items() if name.startswith(f"{example}/"))
    assert f"{tests} passed" in done.stdout
