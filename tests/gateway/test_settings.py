"""The gateway's settings, and the addresses on which it listens."""

from __future__ import annotations

from pathlib import Path

import click
import msgspec
import pytest

from fetchq.command.option_types import SettingOption
from fetchq.command.settings import GATEWAY_VARIABLES, Given, InvalidSetting, flag_of, variable_of
from fetchq_gateway.command import serve
from fetchq_gateway.settings import GatewaySettings
from fetchq_worker.settings import Settings, unknown_variables


def test_every_setting_has_an_option_of_its_name_with_its_default() -> None:
    options = {one.name: one for one in serve.params if isinstance(one, SettingOption)}
    assert options.keys() == set(GatewaySettings.__struct_fields__)
    for name, default in msgspec.structs.asdict(GatewaySettings()).items():
        option = options[name]
        assert isinstance(option, click.Option)
        assert (flag_of(name) in option.opts, option.envvar) == (True, variable_of(name))
        if isinstance(option.show_default, str):
            assert getattr(GatewaySettings.of({name: Given(option.show_default, "the help")}), name) == default
        else:
            assert not default


def test_a_worker_knows_the_variables_of_a_gateway_beside_it() -> None:
    own = {variable_of(name) for name in set(GatewaySettings.__struct_fields__) - set(Settings.__struct_fields__)}
    assert own == GATEWAY_VARIABLES
    assert unknown_variables(dict.fromkeys(own, "x")) == {}


def test_queues_come_from_a_variable_or_from_several_flags() -> None:
    assert GatewaySettings.from_env({"FETCHQ_QUEUE": "a, b a"}).queue == ("a", "b", "a")
    keys = GatewaySettings.from_env({"FETCHQ_QUEUE": "z"}, queue=("a", "b", "a"), namespace="{n}:").keys
    assert [(one.queue, one.namespace) for one in keys] == [("a", "{n}:"), ("b", "{n}:")]


def test_the_password_of_redis_can_be_in_a_file_and_is_not_shown(tmp_path: Path) -> None:
    (tmp_path / "password").write_text("s3cret\n")
    settings = GatewaySettings.from_env({"FETCHQ_REDIS_PASSWORD_FILE": str(tmp_path / "password")})
    assert settings.redis_url == "redis://:s3cret@localhost:6379"
    assert "s3cret" not in repr(settings)


@pytest.mark.parametrize(
    "listen", ["127.0.0.1:8080", "127.9.9.9:0", "localhost:8080", "[::1]:8080", "unix:/run/x.sock", "/run/x.sock"]
)
def test_loopback_and_unix_sockets_need_no_flag(listen: str) -> None:
    assert GatewaySettings.from_env({}, listen=listen).is_local


def test_hosts_are_checked_on_loopback_and_where_they_are_given() -> None:
    unix, everywhere = "unix:/run/x.sock", "0.0.0.0:80"
    assert GatewaySettings.from_env({}).hosts == ()
    assert GatewaySettings.from_env({}, listen=unix).hosts is None
    assert GatewaySettings.from_env({}, listen=everywhere, metrics_only=True).hosts is None
    assert GatewaySettings.from_env({}, listen=everywhere, metrics_only=True, allow_host=("a",)).hosts == ("a",)


@pytest.mark.parametrize("listen", ["0.0.0.0:8080", ":8080", "[::]:8080", "10.0.0.1:80", "example.org:80"])
def test_other_addresses_need_metrics_only(listen: str) -> None:
    with pytest.raises(InvalidSetting, match="can be reached from other machines: add --metrics-only"):
        GatewaySettings.from_env({}, listen=listen)
    assert not GatewaySettings.from_env({}, listen=listen, metrics_only=True).is_local


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"listen": "8080"}, "--listen: takes HOST:PORT or the absolute path of a unix socket, not '8080'"),
        ({"listen": "unix:relative"}, "--listen: takes HOST:PORT or the absolute path of a unix socket"),
        ({"queue": ","}, "--queue: takes names of 1 to 200 characters, not ','"),
        ({"queue": "x" * 201}, "--queue: takes names of 1 to 200 characters"),
        ({"namespace": "arq:"}, "--namespace: does not begin with arq:"),
        ({"metrics_only": "maybe"}, "--metrics-only: takes true or false, not 'maybe'"),
        ({"log_level": "loud"}, "--log-level: takes debug, info, warning or error, not 'loud'"),
        ({"start_wait_s": "soon"}, "--start-wait: takes a time such as"),
        ({"redis_url": "localhost"}, "--redis: the Redis address begins with one of"),
    ],
)
def test_a_bad_value_is_one_sentence(given: dict[str, str], sentence: str) -> None:
    with pytest.raises(InvalidSetting) as problem:
        GatewaySettings.from_env({}, **given)
    assert str(problem.value).startswith(sentence)
