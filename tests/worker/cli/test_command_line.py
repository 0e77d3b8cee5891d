"""What all commands share: help, options, and what they do without a usable Redis."""

from __future__ import annotations

import subprocess
import sys
import time

import click
import msgspec
import pytest
from redis import Redis as RedisClient
from tests.support.redis_server import RedisServer

from fetchq import FetchRequest
from fetchq.command.option_types import SettingOption
from fetchq.command.settings import Given, flag_of, variable_of
from fetchq.units import parse_bytes, parse_duration_s
from fetchq_worker.cli.app import app
from fetchq_worker.settings import Settings

from .conftest import NO_REDIS, Fetchq, at


@pytest.mark.parametrize(
    "arguments",
    [
        ("worker",),
        ("enqueue", "http://127.0.0.1/"),
        ("result", "some-id"),
        ("cancel", "some-id"),
        ("status",),
        ("metrics",),
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
    [("fetch", "[URL]..."), ("enqueue", "[URL]..."), ("result", "[ID]..."), ("cancel", "[ID]...")],
)
def test_the_help_names_the_arguments_and_shows_no_types(fetchq: Fetchq, command: str, usage: str) -> None:
    shown = fetchq.run(command, "--help").stdout
    assert shown.startswith(f"Usage: fetchq {command} [OPTIONS] {usage}\n")
    assert "<str>" not in shown
    assert "<list" not in shown
    assert "(none)" not in shown


def imported_by(*arguments: str, among: set[str]) -> str:
    """The modules of `among` that a command has imported at its end, as the last line of its output."""
    script = (
        f"import sys; from fetchq_worker.cli import main; sys.argv[1:] = {list(arguments)}\n"
        f"try: main()\nexcept SystemExit: print(sorted({among} & sys.modules.keys()))"
    )
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout


def test_the_version_and_the_help_import_no_heavy_module(fetchq: Fetchq) -> None:
    assert fetchq.run("--version").stdout == "fetchq 0.1.0\n"
    shown = imported_by("fetch", "--help", among={"arq", "asyncio", "fakeredis", "msgspec", "redis", "uvloop"})
    assert "--allow-net" in shown
    assert shown.endswith("[]\n")


@pytest.mark.parametrize("arguments", [("--help",), ("top", "--help"), ("--version",)])
def test_only_the_live_view_itself_imports_rich(arguments: tuple[str, ...]) -> None:
    assert imported_by(*arguments, among={"rich", "asyncio", "redis"}).endswith("[]\n")


def test_a_light_command_imports_neither_the_engine_nor_what_redis_py_does_not_need(redis_server: RedisServer) -> None:
    heavy = {"rich", "arq", "cryptography.x509", "fetchq.sync", "fetchq_worker.engine", "fetchq_worker.fetch", "uvloop"}
    assert imported_by("status", "--redis", redis_server.url, among=heavy).endswith("\n[]\n")
    assert imported_by("enqueue", "http://a/", "--redis", redis_server.url, among=heavy).endswith("\n[]\n")


def test_the_defaults_in_the_help_are_those_of_the_contract() -> None:
    request = FetchRequest(url="http://a/")
    expected = {
        "timeout_s": request.timeout_s,
        "max_bytes": request.max_bytes,
        "max_tries": request.retry.max_tries,
        "max_redirects": request.max_redirects,
        "delay_s": request.delay_s,
        "result_ttl_s": request.result_ttl_s,
    }
    parse = {"timeout_s": parse_duration_s, "result_ttl_s": parse_duration_s, "max_bytes": parse_bytes}
    seen = set()
    for name in ("enqueue", "fetch"):
        for parameter in app.commands[name].params:
            if parameter.name in expected:
                assert parameter.default == expected[parameter.name], (name, parameter.name)
                assert isinstance(parameter, click.Option)
                if isinstance(parameter.show_default, str):
                    assert parse[parameter.name](parameter.show_default) == expected[parameter.name]
                seen.add(parameter.name)
    assert seen == expected.keys()


def test_every_setting_has_a_flag_of_its_name_with_its_variable_and_its_default() -> None:
    options = {one.name: one for one in app.commands["worker"].params if isinstance(one, SettingOption)}
    assert options.keys() == set(Settings.__struct_fields__)
    for name, default in msgspec.structs.asdict(Settings()).items():
        option = options[name]
        assert option.envvar == variable_of(name)
        assert flag_of(name) in option.opts
        if isinstance(option.show_default, str) and name != "user_agent":
            shown = Settings.of({name: Given(option.show_default, "the help")})
            assert getattr(shown, name) == default
        else:
            assert name == "user_agent" or not default, f"the help does not show the default of {name}"


@pytest.mark.parametrize(
    ("environ", "arguments", "sentence"),
    [
        ({}, ("worker", "-c", "0"), "--concurrency (-c): takes a whole number from 1 to 100000, not '0'"),
        (
            {"FETCHQ_CONCURRENCY": "0"},
            ("worker",),
            "FETCHQ_CONCURRENCY: takes a whole number from 1 to",
        ),
        ({"FETCHQ_CONCURRENCY": "0"}, ("fetch", "http://a/"), "FETCHQ_CONCURRENCY: takes a whole number"),
        ({"FETCHQ_REDIS_URL": "localhost:6379"}, ("status",), "FETCHQ_REDIS_URL: the Redis address begins with one of"),
        ({}, ("worker", "--limit-by", "ip"), "--limit-by: takes queue, host, domain or address, not 'ip'"),
        ({"FETCHQ_LIMIT_BY": "ip"}, ("worker",), "FETCHQ_LIMIT_BY: takes queue, host, domain or address, not 'ip'"),
        ({"FETCHQ_GRACE": "2h"}, ("worker",), "FETCHQ_GRACE: takes a time from 0s to 1h, not '2h'"),
        (
            {"FETCHQ_GRACE": "soon"},
            ("worker",),
            "FETCHQ_GRACE: takes a time such as 30s, 500ms",
        ),
        ({"FETCHQ_VERBOSE": "maybe"}, ("worker",), "FETCHQ_VERBOSE: takes true or false, not 'maybe'"),
        ({}, ("worker", "--cache-max-bytes", "big"), "--cache-max-bytes: takes a size such as 65536, 64k, 4MiB or 1GB"),
        ({}, ("worker", "--allow-port", "99999"), "--allow-port: takes port numbers from 1 to 65535, not '99999'"),
        ({}, ("enqueue", "http://a/", "--priority", "top"), "--priority: takes high, default or low, not 'top'"),
        ({}, ("enqueue", "http://a/", "--timeout", "2h"), "--timeout: 7200.0 is not between 0.001 and 300 seconds"),
        ({}, ("enqueue", "http://a/", "--max-tries", "0"), "--max-tries: 0 is not between 1 and 100"),
        ({}, ("enqueue", "http://a/", "--max-tries", "few"), "--max-tries: takes a whole number, not 'few'"),
        ({}, ("enqueue", "http://a/", "--max-memory", "all"), "--max-memory: takes a number, not 'all'"),
        (
            {},
            ("enqueue", "http://a/", "--max-memory", "3"),
            "--max-memory: takes a share above 0 and at most 1, not 3.0",
        ),
        (
            {},
            ("enqueue", "http://a/", "--result-ttl", "9999d"),
            "--result-ttl: 863913600.0 is not between 0 and 31622400",
        ),
        ({}, ("limits", "set", "a", "--rate", "5"), "--rate: takes a number per time, such as 2/s"),
        ({}, ("status", "--hosts", "--top", "0"), "--top: takes a whole number of at least 1, not '0'"),
        ({}, ("completion", "csh"), "shell: takes bash, zsh or fish, not 'csh'"),
        ({}, ("acl", "admin"), "roles: takes producer, worker or operator, not 'admin'"),
    ],
)
def test_a_bad_value_is_one_sentence_that_names_its_flag_or_its_variable_and_what_it_takes(
    fetchq: Fetchq, environ: dict[str, str], arguments: tuple[str, ...], sentence: str
) -> None:
    done = fetchq.run(*arguments, environ={"FETCHQ_REDIS_URL": NO_REDIS, **environ})
    assert done.returncode == 2
    assert done.stderr.startswith(f"fetchq: {sentence}")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (
            ("worker", "--grace-s", "3"),
            "fetchq worker: no such option --grace-s, did you mean --grace?; see fetchq worker --help",
        ),
        (("worker", "--zzz"), "fetchq worker: no such option --zzz; see fetchq worker --help"),
        (("stat",), "fetchq: no such command stat, did you mean status?; see fetchq --help"),
        (("xyzzy",), "fetchq: no such command xyzzy; see fetchq --help"),
        (("help",), "fetchq: no such command help, did you mean fetchq --help?; see fetchq --help"),
        (
            ("https://a/",),
            "fetchq: no such command https://a/, did you mean fetchq fetch https://a/?; see fetchq --help",
        ),
        (("dead", "lst"), "fetchq dead: no such command lst, did you mean list?; see fetchq dead --help"),
        (("limits", "set"), "fetchq limits set: Missing argument 'HOST'; see fetchq limits set --help"),
        (("completion",), "fetchq completion: Missing argument 'bash|zsh|fish'; see fetchq completion --help"),
        (("worker", "--timeout", "5s"), "fetchq worker: --timeout needs --check; see fetchq worker --help"),
        (
            ("worker", "-v", "--log-jobs", "none"),
            "fetchq worker: --verbose (-v) is --log-jobs all: give one of them; see fetchq worker --help",
        ),
        (
            ("worker", "--check", "--http", "x"),
            "fetchq: --http: takes HOST:PORT or the absolute path of a unix socket, not 'x'",
        ),
        (("cancel", "--tag", ""), "fetchq: --tag takes a tag, not ''"),
        (("cancel", "--host", ""), "fetchq: --host takes a host, not ''"),
        (("result", "a", "--out", ""), "fetchq: --out: takes a name, not ''"),
        (("fetch", "http://a/", "--bodies", ""), "fetchq: --bodies: takes a name, not ''"),
        (("enqueue", "http://a/", "--max-tries", "\u0663"), "fetchq: --max-tries: takes a whole number, not '\u0663'"),
        (
            ("enqueue", "http://u:p@a/"),
            "fetchq: the URL has a user name or password; send an Authorization header instead",
        ),
        (("status", "--top", "5"), "fetchq: --top needs --hosts"),
        (("result",), "fetchq: give job ids, or a file of them with --from (- is stdin)"),
        (("result", "a", "b", "--body"), "fetchq: --body takes one id, and neither --from, --out nor --bodies"),
        (("result", "a", "--timeout", "-1"), "fetchq: --timeout takes a time from 0"),
        (
            ("enqueue", "--from", "-", "--body-file", "-"),
            "fetchq: --from - and --body-file - would both read stdin: give one of them a file",
        ),
        (("enqueue", "http://a/", "--body", "a", "--body-file", "b"), "fetchq: give --body or --body-file, not both"),
        (("enqueue", "http://a/", "--replicas", "2"), "fetchq: --replicas needs --durability replicated"),
        (
            ("enqueue", "http://a/", "--durable-timeout", "2s"),
            "fetchq: --durable-timeout needs --durability fsync or replicated",
        ),
        (("enqueue", "http://a/", "--full-timeout", "2s"), "fetchq: --full-timeout needs --when-full wait"),
    ],
)
def test_wrong_usage_is_one_sentence(fetchq: Fetchq, arguments: tuple[str, ...], sentence: str) -> None:
    done = fetchq.run(*arguments, environ={"FETCHQ_REDIS_URL": NO_REDIS})
    assert (done.returncode, done.stderr) == (2, f"{sentence}\n")


def test_a_check_names_the_variable_that_is_wrong(fetchq: Fetchq) -> None:
    done = fetchq.run("worker", "--check", environ={"FETCHQ_HTTP": "x"})
    assert done.returncode == 2
    assert done.stderr == "fetchq: FETCHQ_HTTP: takes HOST:PORT or the absolute path of a unix socket, not 'x'\n"


def test_a_bad_variable_stops_no_command_that_does_not_use_it(fetchq: Fetchq, redis_server: RedisServer) -> None:
    environ = {**at(redis_server), "FETCHQ_CONCURRENCY": "0", "FETCHQ_VERBOSE": "maybe", "FETCHQ_LIMIT_BY": "ip"}
    assert fetchq.run("status", environ=environ).returncode == 0
    assert fetchq.run("enqueue", "http://127.0.0.1/", environ=environ).returncode == 0
    done = fetchq.run("worker", "--check", environ=environ)
    assert (done.returncode, "FETCHQ_" in done.stderr) == (1, False)


def test_an_unknown_variable_is_named_with_the_most_similar_one(fetchq: Fetchq, redis_server: RedisServer) -> None:
    environ = {**at(redis_server), "FETCHQ_CONCURENCY": "5", "FETCHQ_GRACE_S": "5", "FETCHQ_XYZZY": "1"}
    done = fetchq.run("status", environ=environ)
    assert done.returncode == 0
    assert sorted(done.stderr.splitlines()) == [
        "fetchq: FETCHQ_CONCURENCY is not a variable of fetchq; did you mean FETCHQ_CONCURRENCY?",
        "fetchq: FETCHQ_GRACE_S is not a variable of fetchq; did you mean FETCHQ_GRACE?",
        "fetchq: FETCHQ_XYZZY is not a variable of fetchq",
    ]


def test_times_and_sizes_have_units_in_flags_and_variables(fetchq: Fetchq, redis_server: RedisServer) -> None:
    environ = {**at(redis_server), "FETCHQ_GRACE": "1m30s", "FETCHQ_CACHE_MAX_BYTES": "64k"}
    assert Settings.from_env(environ).grace_s == 90
    assert Settings.from_env(environ).cache_max_bytes == 65_536
    flags = ("--timeout", "2min", "--max-bytes", "1MiB", "--delay", "1h30m", "--result-ttl", "2d")
    job_id = fetchq.run("enqueue", "http://127.0.0.1/", *flags, environ=environ).stdout.strip()
    with RedisClient.from_url(redis_server.url) as client:
        stored = msgspec.msgpack.decode(client.get(f"arq:job:{job_id}"))["a"][0]
        assert client.zscore("arq:queue", job_id) == pytest.approx(1000 * (time.time() + 5400), abs=60_000)
    assert (stored["timeout_s"], stored["max_bytes"], stored["result_ttl_s"]) == (120.0, 1_048_576, 172_800.0)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_completion_script_is_printed_for_each_shell(fetchq: Fetchq, shell: str) -> None:
    done = fetchq.run("completion", shell)
    assert done.returncode == 0
    assert "_FETCHQ_COMPLETE" in done.stdout


def test_the_shell_completes_commands_options_and_choices(fetchq: Fetchq) -> None:
    def completed(words: str) -> set[str]:
        environ = {"_FETCHQ_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": str(len(words.split()) - 1)}
        shown = fetchq.run_process(environ=environ).stdout
        return {line.partition(",")[2] for line in shown.splitlines()}

    assert completed("fetchq sta") == {"status"}
    assert completed("fetchq worker --grac") == {"--grace"}
    assert completed("fetchq enqueue --durability f") == {"fsync"}
