"""The worker's settings: their names outside, their values as text, and what is said of a bad one."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from fetchq.command.settings import Given, InvalidSetting, flag_of, given_by, variable_of
from fetchq_worker.settings import Settings, unknown_variables

TEXTS = {field.name for field in msgspec.structs.fields(Settings) if isinstance(field.default, str)} - {
    "dead_letters",
    "limit_by",
}


@pytest.mark.parametrize(
    ("name", "variable", "flag"),
    [
        ("redis_url", "FETCHQ_REDIS_URL", "--redis"),
        ("grace_s", "FETCHQ_GRACE", "--grace"),
        ("max_cooldown_s", "FETCHQ_MAX_COOLDOWN", "--max-cooldown"),
        ("cache_max_bytes", "FETCHQ_CACHE_MAX_BYTES", "--cache-max-bytes"),
        ("processes", "FETCHQ_PROCESSES", "--processes"),
    ],
)
def test_variables_and_flags_name_no_unit_of_time(name: str, variable: str, flag: str) -> None:
    assert (variable_of(name), flag_of(name)) == (variable, flag)


def test_the_environment_is_read_with_units() -> None:
    settings = Settings.from_env(
        {
            "FETCHQ_GRACE": "1m30s",
            "FETCHQ_LEASE": "2500ms",
            "FETCHQ_DEAD_LETTER_TTL": "2d",
            "FETCHQ_CACHE_MAX_BYTES": "1GB",
            "FETCHQ_CIRCUIT_BREAKER": "off",
            "FETCHQ_ALLOW_PORT": "81, 82",
            "FETCHQ_CONCURRENCY": " 7 ",
            "FETCHQ_QUEUE": "",
        }
    )
    assert (settings.grace_s, settings.lease_s, settings.dead_letter_ttl_s) == (90.0, 2.5, 172_800.0)
    assert (settings.cache_max_bytes, settings.circuit_breaker) == (10**9, False)
    assert (settings.allow_port, settings.concurrency, settings.queue) == ((81, 82), 7, "arq:queue")


def test_a_bare_number_has_the_unit_of_the_field() -> None:
    settings = Settings.from_env({"FETCHQ_GRACE": "5", "FETCHQ_CACHE_MAX_BYTES": "5"})
    assert (settings.grace_s, settings.cache_max_bytes) == (5.0, 5)


@pytest.mark.parametrize("name", sorted(set(Settings.__struct_fields__) - TEXTS))
def test_a_bad_value_is_named_with_its_origin_and_with_what_is_taken(name: str) -> None:
    with pytest.raises(InvalidSetting) as problem:
        Settings.of({name: Given("neither fish nor fowl", "the origin")})
    sentence = str(problem.value)
    assert sentence.startswith("the origin: ")
    assert "neither" in sentence


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"grace_s": -1}, "--grace: takes a time from 0s to 1h, not '-1'"),
        ({"lease_s": "100ms"}, "--lease: takes a time from 0.5s to 1h, not '100ms'"),
        ({"concurrency": 0}, "--concurrency: takes a whole number from 1 to 100000, not '0'"),
        ({"queue": ""}, "--queue: takes 1 to 200 characters, not ''"),
        ({"user_agent": "größe"}, "--user-agent: takes printable ASCII characters"),
    ],
)
def test_a_value_out_of_range_is_one_sentence(given: dict[str, object], sentence: str) -> None:
    with pytest.raises(InvalidSetting) as problem:
        Settings.from_env({}, **given)
    assert str(problem.value) == sentence


@pytest.mark.parametrize("name", ["allow_net", "allow_port", "queue", "grace_s", "redis_url"])
def test_bytes_that_are_not_utf_8_are_refused(name: str) -> None:
    with pytest.raises(InvalidSetting, match=r"^here: is not UTF-8$"):
        Settings.of({name: Given("\udc80", "here")})


def test_an_argument_of_the_struct_is_named_by_its_flag_and_variable() -> None:
    with pytest.raises(InvalidSetting, match=r"^--allow-net \(FETCHQ_ALLOW_NET\): "):
        Settings(allow_net=("everything",))


def test_only_the_settings_that_are_asked_for_are_read() -> None:
    environ = {"FETCHQ_QUEUE": "a", "FETCHQ_CONCURRENCY": "many"}
    assert given_by(environ, ["queue"]) == {"queue": Given("a", "FETCHQ_QUEUE")}


def test_unknown_variables_are_found_with_the_most_similar_known_one() -> None:
    assert unknown_variables({"FETCHQ_QUEUE": "", "PATH": "", "FETCHQ_SUPERVISED": "1"}) == {}
    assert unknown_variables({"FETCHQ_QUEU": "", "FETCHQ_XYZZY": ""}) == {
        "FETCHQ_QUEU": "FETCHQ_QUEUE",
        "FETCHQ_XYZZY": None,
    }


def test_a_file_has_the_address_or_the_password_of_redis(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("p@ss\n", encoding="utf-8")
    environ = {"FETCHQ_REDIS_URL": "redis://h", "FETCHQ_REDIS_PASSWORD_FILE": str(secret)}
    assert unknown_variables(environ) == {}
    settings = Settings.from_env(environ)
    assert settings.redis_url == "redis://:p%40ss@h"
    assert "p%40ss" not in repr(settings)
    assert Settings.from_env(environ, redis_url="redis://other").redis_url == "redis://other"


@pytest.mark.parametrize(
    "environ",
    [
        {"FETCHQ_REDIS_URL_FILE": "/none"},
        {"FETCHQ_REDIS_PASSWORD_FILE": "/none"},
        {"FETCHQ_REDIS_PASSWORD_FILE": "/none", "FETCHQ_REDIS_URL": "redis://h"},
    ],
)
def test_a_missing_file_is_named_with_its_variable(environ: dict[str, str]) -> None:
    with pytest.raises(InvalidSetting) as problem:
        Settings.from_env(environ)
    assert str(problem.value) == f"{next(iter(environ))}: /none cannot be read: No such file or directory"
