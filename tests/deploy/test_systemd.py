"""deploy/systemd: what systemd itself says of the unit, and its agreement with the worker."""

from __future__ import annotations

import re
import subprocess
import sys
from configparser import RawConfigParser
from pathlib import Path

import pytest
from tests.integration.test_commands_in_pages import problem_of
from tests.support.redis_server import needed_binary

from fetchq_worker.health_address import FOLDER_ENV
from fetchq_worker.process.supervisor import KILL_AFTER_S
from fetchq_worker.settings import Settings, unknown_variables

from .manifests import DEPLOY

WORKER = DEPLOY / "systemd" / "fetchq-worker@.service"
GATEWAY = DEPLOY / "systemd" / "fetchq-gateway.service"
UNITS = pytest.mark.parametrize("unit", [WORKER, GATEWAY], ids=lambda unit: unit.stem)
ENVIRONMENT = DEPLOY / "systemd" / "worker.env"


def _lines(section: str, key: str, unit: Path = WORKER) -> list[str]:
    """The values of a key in the order of the file; a unit may repeat keys."""
    text = unit.read_text(encoding="utf-8").partition(f"[{section}]")[2].partition("\n[")[0]
    return re.findall(rf"^{key}=(.*)$", text, re.MULTILINE)


def _only(key: str, unit: Path = WORKER) -> str:
    (value,) = _lines("Service", key, unit)
    return value


def _variables(path: Path) -> dict[str, str]:
    """The variables of an environment file, those in comments too."""
    text = path.read_text(encoding="utf-8")
    return dict(re.findall(r"^#?([A-Z_]+)=(.*)$", text, re.MULTILINE))


def _installed(unit: Path, folder: Path) -> Path:
    """The unit with this environment's command, since systemd looks whether it exists."""
    path = folder / unit.name.replace("@", "@crawl")
    command = str(Path(sys.executable).with_name("fetchq"))
    path.write_text(unit.read_text(encoding="utf-8").replace("/opt/fetchq/bin/fetchq", command), encoding="utf-8")
    return path


def _analyze(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [needed_binary("systemd-analyze"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


@UNITS
def test_systemd_accepts_the_unit(unit: Path, tmp_path: Path) -> None:
    ended = _analyze("verify", "--man=no", _installed(unit, tmp_path))
    assert (ended.returncode, ended.stdout + ended.stderr) == (0, "")


def test_systemd_names_an_unknown_key(tmp_path: Path) -> None:
    unit = _installed(WORKER, tmp_path)
    unit.write_text(unit.read_text(encoding="utf-8").replace("KillMode=", "KillMood="), encoding="utf-8")
    assert "KillMood" in _analyze("verify", "--man=no", unit).stderr


@UNITS
def test_systemd_calls_the_exposure_low(unit: Path, tmp_path: Path) -> None:
    ended = _analyze("security", "--offline=true", "--threshold=15", "--no-pager", _installed(unit, tmp_path))
    assert ended.returncode == 0, ended.stdout[-300:]


@UNITS
def test_the_command_is_one_that_fetchq_has(unit: Path) -> None:
    assert problem_of(_only("ExecStart", unit).removeprefix("/opt/fetchq/bin/fetchq ")) == ""


def test_systemd_waits_longer_than_the_worker_takes_to_stop() -> None:
    grace_s = Settings.from_env(_variables(ENVIRONMENT)).grace_s
    assert _only("TimeoutStopSec") == f"{grace_s + KILL_AFTER_S + 5:g}s"
    assert _only("KillMode") == "mixed", "a supervisor tells its processes itself"


@UNITS
def test_a_wrong_setting_is_not_tried_again_and_a_missing_redis_is(unit: Path) -> None:
    assert _only("Restart", unit) == "on-failure"
    assert _only("RestartPreventExitStatus", unit) == "2"  # docs/command-line.md, exit status
    assert _lines("Unit", "StartLimitIntervalSec", unit) == ["0"]


def test_no_reload_stops_a_worker() -> None:
    assert _lines("Service", "ExecReload") == [], "SIGHUP stops a worker"


def test_the_variables_of_the_unit_and_of_its_example_file_are_fetchqs() -> None:
    of_unit = dict(line.split("=", 1) for line in _lines("Service", "Environment"))
    assert of_unit.keys() == {"FETCHQ_QUEUE", "FETCHQ_REDIS_URL_FILE", FOLDER_ENV}
    assert unknown_variables(of_unit) == {}
    assert unknown_variables(_variables(ENVIRONMENT)) == {}
    Settings.from_env(_variables(ENVIRONMENT))


@UNITS
def test_the_address_of_redis_is_a_credential_with_the_default_address(unit: Path) -> None:
    name, _, path = _only("LoadCredential", unit).partition(":")
    default_name, _, default = _only("SetCredential", unit).partition(":")
    assert (name, path) == (default_name, "/etc/fetchq/redis-url")
    assert default == Settings().redis_url
    assert f"FETCHQ_REDIS_URL_FILE=%d/{name}" in _lines("Service", "Environment", unit)


@UNITS
def test_the_unit_has_no_key_twice_that_may_be_there_once(unit: Path) -> None:
    parser = RawConfigParser(strict=False)
    parser.optionxform = str  # type: ignore[assignment,method-assign]  # keys of units have upper-case letters
    parser.read(unit, encoding="utf-8")
    repeated = {key for key in parser["Service"] if len(_lines("Service", key, unit)) > 1}
    assert repeated <= {"Environment", "EnvironmentFile", "SystemCallFilter"}
