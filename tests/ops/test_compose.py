"""docker-compose.yml: the files that it names exist, and it has what the documentation says."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.support.redis_server import RedisServer, needed_binary

from fetchq.store.address import RedisAddress
from fetchq_worker.settings import Settings, unknown_variables

from .dockerfile import last, read_stages

ROOT = Path(__file__).resolve().parents[2]
FILE = ROOT / "docker-compose.yml"


@pytest.fixture
def services() -> dict[str, Any]:
    services: dict[str, Any] = yaml.safe_load(FILE.read_text(encoding="utf-8"))["services"]
    return services


def _environment(service: dict[str, Any]) -> dict[str, str]:
    """The variables of a service as they are when the operator sets none: `${NAME:-default}` is its default."""
    return {name: re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", str(value)) for name, value in service["environment"].items()}


def _seconds(duration: str) -> float:
    match = re.fullmatch(r"(\d+)(s|m)", duration)
    assert match, f"{duration} is not a whole number of seconds or minutes"
    return int(match[1]) * {"s": 1, "m": 60}[match[2]]


def test_docker_compose_accepts_the_file() -> None:
    compose = needed_binary("docker-compose")
    ended = subprocess.run(
        [compose, "--file", str(FILE), "config"], capture_output=True, text=True, timeout=60, check=False
    )
    assert ended.returncode == 0, ended.stderr
    assert yaml.safe_load(ended.stdout)["services"].keys() == {"redis", "worker"}


def test_the_workers_variables_are_settings_and_their_values_are_accepted(services: dict[str, Any]) -> None:
    environment = _environment(services["worker"])
    assert unknown_variables(environment) == {}
    settings = Settings.from_env(environment)
    assert settings.redis_url == environment["FETCHQ_REDIS_URL"]
    assert settings.user_agent == Settings().user_agent


def test_the_worker_asks_for_the_redis_that_the_file_runs(services: dict[str, Any]) -> None:
    address = RedisAddress.parse(_environment(services["worker"])["FETCHQ_REDIS_URL"])
    ((host, port),) = address.hosts
    assert host in services
    published = [binding.split(":") for binding in services[host]["ports"]]
    assert published == [["127.0.0.1", str(port), str(port)]], "reachable from this machine alone"


def test_the_workers_command_is_one_that_fetchq_has(services: dict[str, Any]) -> None:
    assert last(read_stages(ROOT / "Dockerfile")[-1], "ENTRYPOINT").words() == ["fetchq"]
    fetchq = Path(sys.executable).with_name("fetchq")
    ended = subprocess.run(
        [fetchq, *services["worker"]["command"], "--help"], capture_output=True, text=True, timeout=60, check=False
    )
    assert ended.returncode == 0, ended.stderr


def test_redis_starts_with_its_options_and_its_health_check_passes(services: dict[str, Any]) -> None:
    client = needed_binary("redis-cli")
    server, *options = services["redis"]["command"]
    kind, program, *check = services["redis"]["healthcheck"]["test"]
    assert (server, kind, program) == ("redis-server", "CMD", "redis-cli")
    redis = RedisServer(*options)

    def ask(*words: str) -> str:
        command = [client, "-s", str(redis.socket), *words]
        return subprocess.run(command, capture_output=True, text=True, timeout=30, check=True).stdout

    try:
        assert ask(*check) == "PONG\n"
        assert ask("CONFIG", "GET", "appendonly").split() == ["appendonly", "yes"]
        assert ask("CONFIG", "GET", "maxmemory-policy").split() == ["maxmemory-policy", "noeviction"]
        assert int(ask("CONFIG", "GET", "maxmemory").split()[1]) > 0
    finally:
        redis.remove()


def test_the_health_check_fails_while_redis_answers_with_an_error(services: dict[str, Any]) -> None:
    client = needed_binary("redis-cli")
    check = services["redis"]["healthcheck"]["test"][2:]
    redis = RedisServer()
    try:
        command = [client, "-s", str(redis.socket)]
        subprocess.run([*command, "CONFIG", "SET", "requirepass", "s3cret"], capture_output=True, check=True)
        assert subprocess.run([*command, *check], capture_output=True, timeout=30, check=False).returncode != 0
    finally:
        redis.remove()


def test_redis_stores_its_file_on_a_volume(services: dict[str, Any]) -> None:
    (mount,) = services["redis"]["volumes"]
    volume, path = mount.split(":")
    assert path == "/data"
    assert volume in yaml.safe_load(FILE.read_text(encoding="utf-8"))["volumes"]


def test_workers_wait_for_a_healthy_redis_and_can_be_scaled(services: dict[str, Any]) -> None:
    worker = services["worker"]
    assert worker["depends_on"] == {"redis": {"condition": "service_healthy"}}
    assert "container_name" not in worker
    assert "ports" not in worker


def test_the_stop_grace_period_exceeds_the_workers_grace_time(services: dict[str, Any]) -> None:
    worker = services["worker"]
    grace_s = Settings.from_env(_environment(worker)).grace_s
    assert _seconds(worker["stop_grace_period"]) >= grace_s + 5


@pytest.mark.parametrize("name", ["redis", "worker"])
def test_no_container_can_write_outside_its_volumes_or_gain_rights(name: str, services: dict[str, Any]) -> None:
    service = services[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
