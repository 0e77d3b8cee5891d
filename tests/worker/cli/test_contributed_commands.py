"""Commands that other distributions contribute to `fetchq`."""

from __future__ import annotations

import importlib.metadata

import pytest
from tests.worker.cli.conftest import Fetchq
from tests.worker.cli.test_command_line import imported_by


@pytest.fixture
def without_gateway(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda **_: ())


def test_the_gateways_command_is_one_of_fetchq(fetchq: Fetchq) -> None:
    assert "  serve " in fetchq.run("--help").stdout
    assert fetchq.run("serve", "--help").stdout.startswith("Usage: fetchq serve [OPTIONS]\n")
    assert "did you mean serve?" in fetchq.run("serv").stderr


@pytest.mark.usefixtures("without_gateway")
def test_without_the_gateway_a_sentence_says_what_to_install(fetchq: Fetchq) -> None:
    done = fetchq.run("serve", "--listen", "127.0.0.1:0")
    assert (done.returncode, done.stderr) == (2, "fetchq serve needs fetchq-gateway: pip install fetchq-gateway\n")
    assert "serve" not in fetchq.run("--help").stdout


def test_the_help_of_the_gateways_command_loads_no_web_framework() -> None:
    heavy = {"asyncio", "msgspec", "redis", "starlette", "uvicorn"}
    assert imported_by("serve", "--help", among=heavy).endswith("\n[]\n")


def test_other_commands_look_for_no_contributed_ones() -> None:
    assert imported_by("status", "--help", among={"fetchq_gateway", "importlib.metadata"}).endswith("\n[]\n")


def test_wrong_usage_of_the_gateways_command_is_one_sentence(fetchq: Fetchq) -> None:
    done = fetchq.run("serve", "--listen", "0.0.0.0:8080")
    assert done.returncode == 2
    assert done.stderr == (
        "fetchq: --listen: 0.0.0.0:8080 can be reached from other machines: add --metrics-only, or listen on loopback\n"
    )
