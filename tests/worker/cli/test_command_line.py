"""What all commands share: help, options, and what they do without a usable Redis."""

from __future__ import annotations

import subprocess
import sys

import msgspec
import pytest
import typer.main
from tests.support.redis_server import RedisServer

from fetchq import FetchRequest
from fetchq.store.keys import DEFAULT_QUEUE
from fetchq_worker.cli.app import app
from fetchq_worker.settings import Settings

from .conftest import NO_REDIS, Fetchq


@pytest.mark.parametrize(
    "arguments",
    [
        ("worker",),
        ("enqueue", "http://127.0.0.1/"),
        ("result", "some-id"),
        ("cancel", "some-id"),
        ("status",),
    ],
)
def test_without_redis_every_command_fails_with_one_sentence(fetchq: Fetchq, arguments: tuple[str, ...]) -> None:
    done = fetchq.run(*arguments, "--redis", NO_REDIS)
    assert done.returncode == 3
    assert done.stderr.count("\n") == 1
    assert "start Redis, or give its address with --redis or FETCHQ_REDIS_URL" in done.stderr


@pytest.mark.parametrize("command", [("worker",), ("enqueue", "http://127.0.0.1/"), ("fetch", "http://127.0.0.1/")])
def test_a_redis_without_that_database_is_exit_status_3(
    fetchq: Fetchq, redis_server: RedisServer, command: tuple[str, ...]
) -> None:
    done = fetchq.run(*command, "--redis", f"{redis_server.url}?db=99")
    assert done.returncode == 3
    assert "DB index is out of range" in done.stderr
    assert "start Redis" not in done.stderr


@pytest.mark.parametrize("command", [("worker",), ("fetch", "http://127.0.0.1/")])
def test_a_redis_with_an_eviction_policy_is_exit_status_3(fetchq: Fetchq, command: tuple[str, ...]) -> None:
    server = RedisServer("--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru")
    try:
        done = fetchq.run(*command, "--redis", server.url)
    finally:
        server.remove()
    assert done.returncode == 3
    assert "set it to noeviction" in done.stderr


def test_a_full_redis_is_exit_status_3_with_advice(fetchq: Fetchq) -> None:
    server = RedisServer("--maxmemory", "500kb")
    try:
        done = fetchq.run("enqueue", "http://127.0.0.1/", "--redis", server.url)
    finally:
        server.remove()
    assert done.returncode == 3
    assert "is full" in done.stderr
    assert "let workers drain it" in done.stderr


@pytest.mark.parametrize("login", ["", ":wrong@"])
def test_the_error_of_a_missing_or_wrong_password_names_the_password(fetchq: Fetchq, login: str) -> None:
    server = RedisServer("--requirepass", "s3cret", password="s3cret")
    try:
        done = fetchq.run("enqueue", "http://127.0.0.1/", "--redis", server.url.replace("unix://", f"unix://{login}"))
    finally:
        server.remove()
    assert done.returncode == 3
    assert "give its user name and password" in done.stderr
    assert "start Redis" not in done.stderr


@pytest.mark.parametrize(
    ("command", "usage"),
    [("fetch", "[URL]..."), ("enqueue", "[URL]..."), ("result", "{ID}"), ("cancel", "[ID]...")],
)
def test_the_help_names_the_arguments_and_shows_no_types(fetchq: Fetchq, command: str, usage: str) -> None:
    shown = fetchq.run(command, "--help").stdout
    assert shown.startswith(f"Usage: fetchq {command} [OPTIONS] {usage}\n")
    assert "<str>" not in shown
    assert "<list" not in shown
    assert "(none)" not in shown


def test_the_version_and_the_help_import_no_heavy_module(fetchq: Fetchq) -> None:
    assert fetchq.run("--version").stdout == "fetchq 0.1.0\n"
    script = (
        "import sys; from fetchq_worker.cli import main; sys.argv[1:] = ['fetch', '--help']\n"
        "try: main()\n"
        "except SystemExit: print(sorted({'aiohttp', 'arq', 'fakeredis', 'redis', 'rich'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert "--allow-net" in done.stdout
    assert done.stdout.endswith("[]\n")


def test_the_defaults_in_the_help_are_those_of_the_contract_and_the_settings() -> None:
    request = FetchRequest(url="http://a/")
    settings = Settings()
    expected = {
        "timeout": request.timeout_s,
        "max_bytes": request.max_bytes,
        "max_tries": request.retry.max_tries,
        "max_redirects": request.max_redirects,
        "delay_s": request.delay_s,
        "result_ttl_s": request.result_ttl_s,
        "queue": DEFAULT_QUEUE,
        "concurrency": settings.concurrency,
        "grace_s": settings.grace_s,
        "redis_url": settings.redis_url,
    }
    seen = set()
    for name, command in typer.main.get_command(app).commands.items():  # type: ignore[attr-defined]  # it is a group
        for parameter in command.params:
            if parameter.name in expected and not (name in ("fetch", "result") and parameter.default is None):
                assert parameter.default == expected[parameter.name], (name, parameter.name)
                seen.add(parameter.name)
    assert seen == expected.keys()


def test_every_setting_has_a_flag_with_its_variable() -> None:
    [worker] = [c for n, c in typer.main.get_command(app).commands.items() if n == "worker"]  # type: ignore[attr-defined]  # it is a group
    variables = {parameter.envvar for parameter in worker.params}
    assert {f"FETCHQ_{field.name.upper()}" for field in msgspec.structs.fields(Settings)} <= variables
