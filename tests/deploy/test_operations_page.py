"""docs/operations.md: each alert has its section, and what the page says to run exists."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from tests.support.redis_server import RedisServer, needed_binary

from .manifests import DEPLOY, find
from .queries import alert_rules

ROOT = DEPLOY.parent
PAGE = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)
PROGRAMS = {
    *("fetchq", "redis-cli", "redis-server", "redis-check-rdb", "promtool"),  # checked below
    *("docker", "kubectl", "systemctl", "journalctl"),
    *(
        "cp",
        "curl",
        "install",
        "mkdir",
        "openssl",
        "pip",
        "printf",
        "py-spy",
        "python3",
        "sed",
        "touch",
        "/opt/fetchq/bin/pip",
    ),
}


def _commands() -> list[str]:
    lines = [line.partition(" #")[0].strip() for block in BLOCKS for line in block.splitlines()]
    return [part.strip("() ") for line in lines if line for part in re.split(r" && | \| |; (?=sed)", line)]


def _section(alert: str) -> str:
    return PAGE.partition(f"\n### {alert}\n")[2].partition("\n### ")[0]


def test_the_runbook_has_the_alerts_and_no_others() -> None:
    runbook = PAGE.partition("\n## Runbook\n")[2]
    assert set(re.findall(r"^### (\w+)$", runbook, re.MULTILINE)) == {rule["alert"] for rule in alert_rules()}


@pytest.mark.parametrize("alert", [rule["alert"] for rule in alert_rules()])
def test_a_section_says_what_to_run(alert: str) -> None:
    assert "```sh\n" in _section(alert)
    assert len(_section(alert)) > 100


def test_every_block_is_shell() -> None:
    checked = subprocess.run(["bash", "-n"], input="\n".join(BLOCKS), capture_output=True, text=True, check=False)
    assert (checked.returncode, checked.stderr) == (0, "")


def test_every_program_is_known() -> None:
    assert {command.split()[0] for command in _commands()} <= PROGRAMS


def test_every_command_of_redis_exists(redis_server: RedisServer) -> None:
    named = {command.split()[1] for command in _commands() if command.startswith("redis-cli ")}
    named |= set(re.findall(r"`redis-cli ([A-Z]+)", PAGE))
    named = {name for name in named if not name.startswith("-")}
    assert len(named) > 3
    told = subprocess.run(
        [needed_binary("redis-cli"), "-s", str(redis_server.socket), "COMMAND", "INFO", *sorted(named)],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert all(name.lower() in told.splitlines() for name in named)


def test_every_option_of_redis_cli_exists() -> None:
    told = subprocess.run([needed_binary("redis-cli"), "--help"], capture_output=True, text=True, check=False)
    help_text = told.stdout + told.stderr
    named = {
        word for command in _commands() if command.startswith("redis-cli") for word in command.split() if word[0] == "-"
    }
    assert named
    assert [option for option in named if not re.search(rf"^\s+{option}\b", help_text, re.MULTILINE)] == []


def test_every_file_of_the_repository_that_is_named_exists() -> None:
    named = set(re.findall(r"\bdeploy/[\w./@-]*\w", PAGE))
    assert len(named) > 5
    assert [name for name in sorted(named) if not (ROOT / name).exists()] == []


def test_every_object_of_kubernetes_that_is_named_exists() -> None:
    named = set(re.findall(r"deployment/([\w-]+)", PAGE))
    assert [name for name in named if not find("Deployment", name)] == []
    secret, key = re.findall(r"kubectl create secret generic ([\w-]+) --from-literal=(\w+)=", PAGE)[0]
    (container,) = find("Deployment", "fetchq-worker")["spec"]["template"]["spec"]["containers"]
    assert {"name": secret, "key": key} in [
        one["valueFrom"]["secretKeyRef"] for one in container["env"] if "valueFrom" in one
    ]


def test_the_unit_that_is_named_exists() -> None:
    named = set(re.findall(r"(fetchq-worker@)arq:queue\.service", PAGE))
    assert [name for name in named if not Path(DEPLOY / "systemd" / f"{name}.service").exists()] == []
