"""docker-compose.yml: the files that it names exist, and it has what the documentation says."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import yaml
from tests.support.ports import free_port
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


def _in_shell(text: str, paths: dict[str, Path | str]) -> str:
    """A shell script of the file as a container gets it, with other paths and ports."""
    text = text.replace("$$", "$")
    for old, new in paths.items():
        assert old in text
        text = text.replace(old, str(new))
    return text


def _seconds(duration: str) -> float:
    match = re.fullmatch(r"(\d+)(s|m)", duration)
    assert match, f"{duration} is not a whole number of seconds or minutes"
    return int(match[1]) * {"s": 1, "m": 60}[match[2]]


@pytest.mark.parametrize("profile", [(), ("--profile", "monitoring")])
def test_docker_compose_accepts_the_file(profile: tuple[str, ...]) -> None:
    compose = needed_binary("docker-compose")
    command = [compose, "--file", str(FILE), *profile, "config"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert yaml.safe_load(ended.stdout)["services"].keys() == {"redis", "worker", "gateway", "prometheus", "grafana"}


def test_prometheus_and_grafana_run_only_on_request(services: dict[str, Any]) -> None:
    profiles = {name: service.get("profiles", []) for name, service in services.items()}
    assert {name for name, of in profiles.items() if of} == {"prometheus", "grafana"}
    assert profiles["prometheus"] == profiles["grafana"] == ["monitoring"]


def test_the_workers_variables_are_settings_and_their_values_are_accepted(
    services: dict[str, Any], tmp_path: Path
) -> None:
    environment = _environment(services["worker"])
    assert unknown_variables(environment) == {}
    password = tmp_path / "redis-password"
    password.write_text("s3cret\n", encoding="utf-8")
    settings = Settings.from_env({**environment, "FETCHQ_REDIS_PASSWORD_FILE": str(password)})
    address = RedisAddress.parse(settings.redis_url)
    assert (address.hosts, address.password) == ((("redis", 6379),), "s3cret")
    assert settings.user_agent == Settings().user_agent


def test_every_secret_is_a_file_that_git_ignores_and_each_service_has_only_those_that_it_needs(
    services: dict[str, Any],
) -> None:
    declared = yaml.safe_load(FILE.read_text(encoding="utf-8"))["secrets"]
    assert declared == {name: {"file": f"./secrets/{name}"} for name in declared}
    assert "/secrets/" in (ROOT / ".gitignore").read_text(encoding="utf-8").splitlines()
    used = {name: set(service.get("secrets", ())) for name, service in services.items()}
    assert used == {
        "redis": {"redis-password"},
        "worker": {"redis-password", "credentials.toml"},
        "gateway": {"redis-password"},
        "prometheus": set(),
        "grafana": {"grafana-password"},
    }
    for service in services.values():
        mounted = {path for value in service.get("environment", {}).values() for path in re.findall("/run/.*", value)}
        assert mounted <= {f"/run/secrets/{name}" for name in service.get("secrets", ())}


def test_the_worker_asks_for_the_redis_that_the_file_runs(services: dict[str, Any]) -> None:
    address = RedisAddress.parse(_environment(services["worker"])["FETCHQ_REDIS_URL"])
    ((host, port),) = address.hosts
    assert host in services
    published = [binding.split(":") for binding in services[host]["ports"]]
    assert published == [["127.0.0.1", str(port), str(port)]], "reachable from this machine alone"


@pytest.mark.parametrize("name", ["worker", "gateway"])
def test_the_command_is_one_that_fetchq_has(name: str, services: dict[str, Any]) -> None:
    assert last(read_stages(ROOT / "Dockerfile")[-1], "ENTRYPOINT").words() == ["fetchq"]
    fetchq = Path(sys.executable).with_name("fetchq")
    ended = subprocess.run(
        [fetchq, *services[name]["command"], "--help"], capture_output=True, text=True, timeout=60, check=False
    )
    assert ended.returncode == 0, ended.stderr


class _ComposeRedis(RedisServer):
    """The server as the file starts it, with its password and its ACL in `folder`."""

    def __init__(self, service: dict[str, Any], folder: Path, password: str) -> None:
        shell, flags, script, server, *options = service["command"]
        assert (shell, flags, server) == ("sh", "-ec", "redis-server")
        self.secret = folder / "redis-password"
        self.secret.write_text(f"{password}\n", encoding="utf-8")
        self.acl = folder / "users.acl"
        self._script = _in_shell(script, {"/run/secrets/redis-password": self.secret, "/tmp/users.acl": self.acl})
        super().__init__(*options, password=password, binary=needed_binary("redis-server"))

    def _launcher(self) -> list[str]:
        return ["sh", "-ec", self._script]


PASSWORD = "p$s\\w*(%s"


@pytest.fixture
def redis(services: dict[str, Any], tmp_path: Path) -> Iterator[_ComposeRedis]:
    server = _ComposeRedis(services["redis"], tmp_path, PASSWORD)
    yield server
    server.remove()


def _ask(redis: RedisServer, *words: str, password: str = PASSWORD) -> str:
    command = [needed_binary("redis-cli"), "-s", str(redis.socket), "--no-auth-warning", "-a", password, *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False).stdout


def _check(redis: _ComposeRedis, services: dict[str, Any]) -> subprocess.CompletedProcess[str]:
    """Runs the health check of the file."""
    kind, line = services["redis"]["healthcheck"]["test"]
    assert kind == "CMD-SHELL"
    line = _in_shell(line, {"/run/secrets/redis-password": redis.secret, "redis-cli": f"redis-cli -s {redis.socket}"})
    return subprocess.run(["sh", "-c", line], capture_output=True, text=True, timeout=30, check=False)


def test_redis_starts_with_its_options_and_its_health_check_passes(
    redis: _ComposeRedis, services: dict[str, Any]
) -> None:
    checked = _check(redis, services)
    assert (checked.returncode, checked.stdout) == (0, "PONG\n")
    assert _ask(redis, "CONFIG", "GET", "appendonly").split() == ["appendonly", "yes"]
    assert _ask(redis, "CONFIG", "GET", "maxmemory-policy").split() == ["maxmemory-policy", "noeviction"]
    assert int(_ask(redis, "CONFIG", "GET", "maxmemory").split()[1]) > 0


def test_redis_needs_the_password_and_does_not_show_it(redis: _ComposeRedis) -> None:
    assert "NOAUTH" in _ask(redis, "PING", password="wrong") + _ask(redis, "PING", password="")
    assert redis.acl.stat().st_mode & 0o077 == 0
    assert PASSWORD not in redis.acl.read_text(encoding="utf-8")
    (pid,) = re.findall(r"process_id:(\d+)", _ask(redis, "INFO", "server"))
    assert PASSWORD not in Path(f"/proc/{pid}/cmdline").read_text(encoding="utf-8")


def test_the_health_check_fails_while_redis_answers_with_an_error(
    redis: _ComposeRedis, services: dict[str, Any]
) -> None:
    _ask(redis, "ACL", "SETUSER", "default", "-ping")
    assert _check(redis, services).returncode != 0


def test_redis_stores_its_file_on_a_volume(services: dict[str, Any]) -> None:
    (mount,) = services["redis"]["volumes"]
    volume, path = mount.split(":")
    assert path == "/data"
    assert volume in yaml.safe_load(FILE.read_text(encoding="utf-8"))["volumes"]


@contextmanager
def _answering(port: int, status: int) -> Iterator[None]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status if self.path == "/livez" else 404)
            self.end_headers()
            self.wfile.write(b"said\n")

        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            return

    with HTTPServer(("127.0.0.1", port), Handler) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield
        server.shutdown()
        thread.join()


def _check_livez(service: dict[str, Any], port: int) -> int:
    """The exit status of a service's health check, asked of another port."""
    kind, *command, script = service["healthcheck"]["test"]
    assert (kind, command) == ("CMD", ["bash", "-c"]), "a shell alone, which is what makes it cheap"
    own_port = re.findall(r"/dev/tcp/127.0.0.1/(\d+)", script)[0]
    script = _in_shell(script, {f"/{own_port}": f"/{port}"})
    return subprocess.run([*command, script], capture_output=True, timeout=30, check=False).returncode


@pytest.mark.parametrize("name", ["worker", "gateway"])
def test_a_health_check_passes_if_livez_does(name: str, services: dict[str, Any]) -> None:
    port = free_port()
    with _answering(port, 200):
        assert _check_livez(services[name], port) == 0
    with _answering(port, 503):
        assert _check_livez(services[name], port) != 0
    assert _check_livez(services[name], port) != 0, "there is no listener"


@pytest.mark.parametrize(("name", "started"), [("worker", "worker.started"), ("gateway", "gateway.started")])
def test_the_health_check_understands_the_answer(
    name: str, started: str, services: dict[str, Any], redis: _ComposeRedis, tmp_path: Path
) -> None:
    port = free_port()
    environment = {
        "FETCHQ_REDIS_URL": redis.url,
        "FETCHQ_REDIS_PASSWORD_FILE": str(redis.secret),
        ("FETCHQ_HTTP" if name == "worker" else "FETCHQ_LISTEN"): f"127.0.0.1:{port}",
        "FETCHQ_RUNTIME_DIR": str(tmp_path),
    }
    fetchq = Path(sys.executable).with_name("fetchq")
    command = [fetchq, services[name]["command"][0]]
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        try:
            assert any(started in line for line in process.stderr)
            assert _check_livez(services[name], port) == 0
        finally:
            process.kill()


def test_workers_wait_for_a_healthy_redis_and_can_be_scaled(services: dict[str, Any]) -> None:
    worker = services["worker"]
    assert worker["depends_on"] == {"redis": {"condition": "service_healthy"}}
    assert "container_name" not in worker
    assert "ports" not in worker


def test_the_stop_grace_period_exceeds_the_workers_grace_time(services: dict[str, Any]) -> None:
    worker = services["worker"]
    grace_s = Settings.from_env({"FETCHQ_GRACE": worker["environment"]["FETCHQ_GRACE"]}).grace_s
    assert _seconds(worker["stop_grace_period"]) >= grace_s + 5


@pytest.mark.parametrize("name", ["redis", "worker", "gateway", "prometheus", "grafana"])
def test_no_container_can_write_outside_its_volumes_or_gain_rights(name: str, services: dict[str, Any]) -> None:
    service = services[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]


@pytest.mark.parametrize("name", ["redis", "worker", "gateway", "prometheus", "grafana"])
def test_every_container_is_limited_in_memory_and_processes_and_reached_from_this_machine_alone(
    name: str, services: dict[str, Any]
) -> None:
    service = services[name]
    assert service["mem_limit"]
    assert service["pids_limit"]
    assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ()))


def test_the_memory_of_redis_has_room_for_a_rewrite_of_its_file(services: dict[str, Any]) -> None:
    command = services["redis"]["command"]
    assert (command[command.index("--maxmemory") + 1], services["redis"]["mem_limit"]) == ("1gb", "2g")


def test_the_files_that_monitoring_mounts_exist_and_its_addresses_are_those_of_the_services(
    services: dict[str, Any],
) -> None:
    for name in ("prometheus", "grafana"):
        mounts = [mount.split(":")[0] for mount in services[name]["volumes"]]
        assert all((ROOT / mount).exists() for mount in mounts if mount.startswith("./"))
    config = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text(encoding="utf-8"))
    queue, worker = config["scrape_configs"]
    listen = services["gateway"]["command"][-1].rpartition(":")[2]
    assert queue["static_configs"] == [{"targets": [f"gateway:{listen}"]}]
    port = int(_environment(services["worker"])["FETCHQ_HTTP"].rpartition(":")[2])
    assert [(one["names"], one["port"]) for one in worker["dns_sd_configs"]] == [(["worker"], port)]
    source = yaml.safe_load((ROOT / "deploy/grafana/provisioning/datasources/prometheus.yml").read_text("utf-8"))
    assert [one["url"] for one in source["datasources"]] == ["http://prometheus:9090"]
    folders = yaml.safe_load((ROOT / "deploy/grafana/provisioning/dashboards/fetchq.yml").read_text("utf-8"))
    (folder,) = [one["options"]["path"] for one in folders["providers"]]
    assert any(mount.split(":")[1] == f"{folder}/fetchq.json" for mount in services["grafana"]["volumes"])
