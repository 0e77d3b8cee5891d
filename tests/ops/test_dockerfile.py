"""The Dockerfile: the files that it names exist, and its steps work."""

from __future__ import annotations

import json
from pathlib import Path, PurePosixPath

import pytest
from tests.support.constraints import LIST_INSTALLED, read_pins

from fetchq import __version__

from .dockerfile import Build, Context, Step, last, read_stages

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def stages() -> list[list[Step]]:
    return read_stages(ROOT / "Dockerfile")


def test_the_image_does_not_run_as_root(stages: list[list[Step]]) -> None:
    user = last(stages[-1], "USER").rest
    assert all(number.isdigit() and int(number) > 0 for number in user.split(":"))


def test_both_stages_start_from_the_same_image_so_that_the_environment_fits(stages: list[list[Step]]) -> None:
    images = {stage[0].rest.split()[0] for stage in stages}
    assert len(images) == 1
    assert images.pop().startswith("python:3.11-slim")


def test_the_builder_is_sent_only_what_the_build_needs() -> None:
    context = Context(ROOT)
    for sent in (
        "constraints.txt",
        "producer/pyproject.toml",
        "producer/fetchq/keys.py",
        "worker/fetchq_worker/x.py",
        "gateway/fetchq_gateway/x.py",
    ):
        assert context.sends(PurePosixPath(sent))
    for kept in (".git/config", ".venv/bin/python", "tests/conftest.py", ".env", "producer/fetchq/__pycache__/a.pyc"):
        assert not context.sends(PurePosixPath(kept))


def test_its_steps_one_by_one_make_a_fetchq_that_runs(stages: list[list[Step]], tmp_path: Path) -> None:
    build = Build(Context(ROOT), tmp_path, rebased=("/src", "/opt/fetchq", "/tmp"))
    for stage in stages:
        for step in stage:
            build.run(step)
    entrypoint, command = last(stages[-1], "ENTRYPOINT").words(), last(stages[-1], "CMD").words()

    assert build.done.count("RUN") == sum(step.instruction == "RUN" for stage in stages for step in stage) > 0
    assert build.shell(f"command -v {entrypoint[0]}").strip() == f"{tmp_path}/opt/fetchq/bin/fetchq"
    assert "Usage" in build.shell(" ".join([*entrypoint, *command, "--help"]))
    assert __version__ in build.shell(" ".join([*entrypoint, "--version"]))
    packages = "fetchq, fetchq_gateway, fetchq_worker"
    modules = build.shell(f"python -c 'import {packages}; [print(one.__file__) for one in ({packages})]'").split()
    assert all(path.startswith(f"{tmp_path}/opt/fetchq/lib/") for path in modules), "it runs from the source tree"
    installed = json.loads(build.shell(f"python -c '{LIST_INSTALLED}'"))
    assert {"fetchq", "fetchq-gateway", "fetchq-worker"} < installed.keys()
    assert installed.items() <= read_pins(ROOT / "constraints.txt").items() | {
        ("fetchq", __version__),
        ("fetchq-gateway", __version__),
        ("fetchq-worker", __version__),
    }
