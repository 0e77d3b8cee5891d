"""What `fetchq worker --settings` names is read as the `arq` command reads it."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import types
from pathlib import Path
from typing import Any, ClassVar

import pytest
from arq.connections import ArqRedis, RedisSettings
from redis.asyncio import Redis, SSLConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import BusyLoadingError
from tests.support.ports import free_port
from tests.support.redis_server import RedisServer

from fetchq import RedisUnavailable
from fetchq.command.settings import InvalidSetting
from fetchq.store.address import RedisAddress
from fetchq_worker import worker_settings
from fetchq_worker.process.settings_object import SettingsObject
from fetchq_worker.settings import Settings

NOWHERE = RedisAddress.parse("redis://127.0.0.1:1")

COMMON = """
import os
from arq import cron
from arq.connections import RedisSettings, create_pool
from arq.worker import Retry, func

REDIS = RedisSettings(unix_socket_path=os.environ["SOCKET"], database=3)

def note(event):
    with open("events", "a") as file:
        print(event, file=file)

async def on_startup(ctx):
    ctx["started"] = True
    note(f"startup {type(ctx['redis']).__name__} {ctx.get('own')}")

async def on_shutdown(ctx):
    note("shutdown")

async def on_job_end(ctx):
    note(f"end {ctx['job_id']} {ctx['job_try']} {ctx['started']}")

async def add(ctx, a, b=2):
    return a + b

async def again(ctx):
    if ctx["job_try"] == 1:
        raise Retry(0.05)
    await ctx["redis"].enqueue_job("add", 40, _job_id="child")
    return ctx["job_try"]

async def broken(ctx):
    raise KeyError("broken")
"""

SHAPES = {
    "class": """
class Found:
    functions = [add, func(again, name="again"), broken]
    redis_settings = REDIS
    on_startup, on_shutdown, on_job_end = on_startup, on_shutdown, on_job_end
    burst, max_jobs, keep_result, ctx, unknown_to_arq = True, 1, 60, {"own": 1}, object()
""",
    "hooks_in_the_body": """
from typing import Any, ClassVar

class Found:
    functions: ClassVar[list[Any]] = [add, again, broken]
    redis_settings: RedisSettings | None = REDIS
    burst = True
    max_jobs: int = 1
    queue_name = "arq:queue"
    handle_signals = False

    async def on_startup(ctx):
        await on_startup(ctx)

    on_shutdown = staticmethod(on_shutdown)
    on_job_end = on_job_end
""",
    "dict": """
Found = {"functions": [add, again, broken], "redis_settings": REDIS, "burst": True, "max_jobs": 1, "unknown_to_arq": 1,
         "on_startup": on_startup, "on_job_end": on_job_end}
""",
    "instance": """
class Described:
    def __init__(self):
        self.functions, self.redis_settings, self.burst, self.max_jobs = [add, again, broken], REDIS, True, 1
        self.on_startup, self.on_job_end = on_startup, on_job_end

Found = Described()
""",
    "a_pool_made_at_import": """
import asyncio
import pickle

class Found:
    functions = [add, again, broken]
    redis_pool = asyncio.get_event_loop().run_until_complete(create_pool(REDIS))
    burst, max_jobs = True, 1
    on_startup, on_shutdown, on_job_end = on_startup, on_shutdown, on_job_end
    job_serializer, job_deserializer = pickle.dumps, pickle.loads
""",
}
RAISES = """
async def raises(ctx):
    {raised}
class Found:
    functions, redis_settings, burst = [add], REDIS, True
    {where} = raises
"""
EVENTS = ["end one 1 True", "end two 1 True", "end two 2 True", "end three 1 True", "end child 1 True"]


ARQ = ("-m", "arq")
FETCHQ = ("-c", "from fetchq_worker.cli import main; main()", "worker", "--settings")


def _run(command: tuple[str, ...], folder: Path, server: RedisServer) -> subprocess.CompletedProcess[str]:
    environ = {**os.environ, "SOCKET": str(server.socket), "FETCHQ_REDIS_URL": "redis://127.0.0.1:1"}
    return subprocess.run(
        [sys.executable, "-W", "ignore", *command, "my_settings.Found"],
        cwd=folder, env=environ, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


@pytest.mark.asyncio
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("command", [ARQ, FETCHQ], ids=["arq", "fetchq"])
async def test_both_commands_do_the_same_with_settings_of_any_shape(
    tmp_path: Path, redis_server: RedisServer, shape: str, command: tuple[str, ...]
) -> None:
    (tmp_path / "my_settings.py").write_text(COMMON + SHAPES[shape])
    async with ArqRedis(unix_socket_path=str(redis_server.socket), db=3) as redis:
        for name, job_id in (("add", "one"), ("again", "two"), ("broken", "three")):
            await redis.enqueue_job(name, *([1] if name == "add" else []), _job_id=job_id)
        done = await asyncio.to_thread(_run, command, tmp_path, redis_server)
        assert done.returncode == 0, done.stderr
        results = {it.job_id: (it.success, it.result) for it in await redis.all_job_results()}
        assert {key: value for key, value in results.items() if key != "three"} == {
            "one": (True, 3),
            "two": (True, 2),
            "child": (True, 42),
        }
        assert repr(results["three"]) == "(False, KeyError('broken'))"
        assert 0 < await redis.ttl("arq:result:one") <= (60 if shape == "class" else 3600)
    first, *events = (tmp_path / "events").read_text().splitlines()
    assert first == f"startup ArqRedis {1 if shape == 'class' else None}"
    if events[-1] == "shutdown":
        events.pop()
    assert sorted(events) == sorted(EVENTS)


ERRORS = {
    "open('missing.toml')": "FileNotFoundError: [Errno 2] No such file or directory: 'missing.toml'",
    "import redis; raise redis.ConnectionError('not there')": "ConnectionError: not there",
    "raise KeyError('DSN')": "KeyError: 'DSN'",
}
LEAVES = {
    "raise SystemExit(0)": "SystemExit: 0",
    "import asyncio; raise asyncio.CancelledError": "RuntimeError: {} raised CancelledError, but was not cancelled",
    "raise KeyboardInterrupt": "KeyboardInterrupt",
}


@pytest.mark.parametrize(
    ("raised", "told", "where"),
    [
        ("raise SystemExit('no DSN')", "SystemExit: no DSN", "import"),
        *((raised, told, "import") for raised, told in ERRORS.items()),
        *((raised, told, hook) for raised, told in (ERRORS | LEAVES).items() for hook in ("on_startup", "on_shutdown")),
    ],
)
def test_an_error_of_the_settings_own_code_is_told_as_theirs(
    tmp_path: Path, redis_server: RedisServer, raised: str, told: str, where: str
) -> None:
    code, whose = raised, "--settings: my_settings.Found"
    if where != "import":
        code, whose = RAISES.format(raised=raised, where=where), where
    (tmp_path / "my_settings.py").write_text(f"{COMMON}\n{code}")
    done = _run(FETCHQ, tmp_path, redis_server)
    assert done.returncode == 1
    *trace, sentence = done.stderr.splitlines()
    assert sentence == f"fetchq: {whose} raised {told.format(where)}"
    assert any("my_settings.py" in line for line in trace)


def test_settings_without_a_function_of_their_own_are_refused_in_one_sentence() -> None:
    class Base:
        functions: ClassVar[list[Any]] = [asyncio.sleep]

    class Derived(Base):
        """arq reads a class's own attributes."""

    with pytest.raises(InvalidSetting, match=r"no worker can be made from m\.Derived: at least one function"):
        SettingsObject("m.Derived", Derived).make_worker(None)


def test_an_object_that_holds_no_settings_is_named_without_its_text() -> None:
    settings = ("redis://:s3cret@host",)
    with pytest.raises(
        InvalidSetting, match=r"^--settings: m\.s is of type tuple; it must be a class, a dict, or "
    ) as caught:
        SettingsObject("m.s", settings)
    assert "s3cret" not in str(caught.value)


def _module(monkeypatch: pytest.MonkeyPatch, **attributes: Any) -> None:
    module = types.ModuleType("settings_of_test")
    vars(module).update(attributes)
    monkeypatch.setitem(sys.modules, "settings_of_test", module)


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("settings_of_test.Found", 1),
        ("settings_of_test:Found", 1),
        (" settings_of_test.Found ", 1),
        ("settings_of_test:Outer.Inner", 2),
    ],
)
def test_a_name_has_a_dot_or_a_colon_before_its_attribute(
    monkeypatch: pytest.MonkeyPatch, name: str, found: int
) -> None:
    _module(monkeypatch, Found={"max_jobs": 1}, Outer=types.SimpleNamespace(Inner={"max_jobs": 2}))
    monkeypatch.setattr(sys, "path", list(sys.path))
    assert SettingsObject.load(name).found == {"max_jobs": found}


async def _work(ctx: Any) -> None: ...


@pytest.mark.asyncio
async def test_settings_without_an_address_are_run_on_that_of_the_command() -> None:
    redis = await SettingsObject("m", {"functions": [_work]}).open_redis(NOWHERE)
    assert redis is not None
    assert redis.connection_pool.connection_kwargs["port"] == 1


@pytest.mark.asyncio
async def test_each_field_of_the_redis_settings_counts(redis_server: RedisServer) -> None:
    retry = Retry(NoBackoff(), 2)
    settings = RedisSettings(
        unix_socket_path=str(redis_server.socket), database=3, max_connections=7, conn_timeout=4,
        retry=retry, retry_on_timeout=True, retry_on_error=[BusyLoadingError],
    )  # fmt: skip
    redis = await SettingsObject("m", {"redis_settings": settings}).open_redis(NOWHERE)
    assert redis is not None
    await redis.set("key", "value")
    async with Redis(unix_socket_path=str(redis_server.socket), db=3) as other:
        assert await other.get("key") == b"value"
    await redis.aclose()
    pool = redis.connection_pool
    assert pool.max_connections == 7
    made: Any = pool.make_connection()  # type: ignore[no-untyped-call]  # redis-py's
    assert (made.retry_on_timeout, BusyLoadingError in made.retry_on_error, made.retry._retries) == (True, True, 2)


@pytest.mark.asyncio
async def test_the_fields_of_tls_reach_the_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = RedisSettings(
        host="redis.example", ssl=True, ssl_cert_reqs="none", ssl_ca_data="a certificate", ssl_check_hostname=False,
        ssl_ca_certs="ca.pem", ssl_certfile="c.pem", ssl_keyfile="k.pem", username="me", password="secret",
        conn_timeout=4,
    )  # fmt: skip

    async def ping(redis: ArqRedis) -> bool:
        return True

    monkeypatch.setattr(ArqRedis, "ping", ping)
    redis = await SettingsObject("m", {"redis_settings": settings}).open_redis(NOWHERE)
    assert redis is not None
    made: Any = redis.connection_pool.make_connection()  # type: ignore[no-untyped-call]  # redis-py's
    assert isinstance(made, SSLConnection)
    tls = made.ssl_context
    assert (tls.cert_reqs.name, tls.ca_data, tls.check_hostname) == ("CERT_NONE", "a certificate", False)
    assert (tls.ca_certs, tls.certfile, tls.keyfile) == ("ca.pem", "c.pem", "k.pem")
    assert (made.host, made.username, made.password, made.socket_connect_timeout) == (
        "redis.example",
        "me",
        "secret",
        4,
    )
    assert made.socket_timeout, "arq has no field for it, and a connection without one can hang for ever"


@pytest.mark.asyncio
async def test_an_address_that_cannot_be_reached_is_tried_as_often_as_the_settings_say(
    caplog: pytest.LogCaptureFixture,
) -> None:
    port = free_port()
    settings = RedisSettings(host="127.0.0.1", port=port, conn_retries=2, conn_retry_delay=0)
    with pytest.raises(RedisUnavailable, match=f"127.0.0.1:{port} cannot be reached"):
        await SettingsObject("m", {"redis_settings": settings}).open_redis(NOWHERE)
    assert [record.getMessage().rpartition(" ")[0].rsplit(" ", 2)[1] for record in caplog.records] == ["2", "1"]


@pytest.mark.asyncio
async def test_a_class_by_worker_settings_keeps_what_arq_cannot_express_of_its_address() -> None:
    found = worker_settings(settings=Settings(redis_url="redis://:secret@127.0.0.1:2/5"))
    redis = await SettingsObject("m", found).open_redis(NOWHERE)
    assert redis is not None
    given = redis.connection_pool.connection_kwargs
    assert (given["port"], given["db"], given["password"]) == (2, 5, "secret")
    assert "secret" not in repr(vars(found)["redis_settings"])


@pytest.mark.asyncio
async def test_a_pool_of_the_settings_is_used_as_it_is(embedded: Any) -> None:
    pool = embedded.client()
    pool.default_queue_name = "theirs"
    described = SettingsObject("m", {"functions": [_work], "redis_pool": pool})
    assert await described.open_redis(NOWHERE) is None
    worker = described.make_worker(None, handle_signals=False)
    assert (worker.pool, pool.default_queue_name, pool.job_serializer) == (pool, "theirs", None)
    await pool.aclose()


@pytest.mark.asyncio
async def test_a_stop_signal_ends_a_worker_whose_settings_leave_signals_to_another_framework(
    tmp_path: Path, redis_server: RedisServer
) -> None:
    (tmp_path / "my_settings.py").write_text(
        COMMON + "\nimport asyncio\nasync def stay(ctx):\n    note('running')\n    await asyncio.sleep(60)\n"
        "class Found:\n    functions, redis_settings, handle_signals = [stay], REDIS, False\n"
        "    on_shutdown = on_shutdown\n"
    )
    os.mkfifo(tmp_path / "events")
    async with ArqRedis(unix_socket_path=str(redis_server.socket), db=3) as redis:
        await redis.enqueue_job("stay", _job_id="j")
        worker = subprocess.Popen(
            [sys.executable, *FETCHQ, "my_settings.Found"],
            cwd=tmp_path, env={**os.environ, "SOCKET": str(redis_server.socket)}, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert await asyncio.to_thread((tmp_path / "events").read_text) == "running\n"
        worker.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread((tmp_path / "events").read_text) == "shutdown\n"
        _, logged = await asyncio.to_thread(worker.communicate, timeout=30)
        assert worker.returncode == 0, logged
        assert await redis.zcard("arq:queue") == 1
        assert not await redis.exists("arq:retry:j", "arq:in-progress:j")


@pytest.mark.asyncio
async def test_flags_that_are_given_win_over_the_settings(tmp_path: Path, redis_server: RedisServer) -> None:
    (tmp_path / "my_settings.py").write_text(
        COMMON + "\nclass Found:\n    functions, queue_name, burst, on_job_end = [add], 'theirs', True, on_job_end\n"
        "    redis_settings = RedisSettings(port=1)\n    on_startup = on_startup\n"
    )
    os.mkfifo(tmp_path / "events")
    flags = ("--no-burst", "--queue", "given", "--redis", redis_server.url)
    async with ArqRedis(unix_socket_path=str(redis_server.socket), default_queue_name="given") as redis:
        worker = subprocess.Popen(
            [sys.executable, *FETCHQ, "my_settings.Found", *flags],
            cwd=tmp_path, env={**os.environ, "SOCKET": "unused"}, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert (await asyncio.to_thread((tmp_path / "events").read_text)).startswith("startup")
        for job_id in ("one", "two"):  # a burst would end before the first
            await redis.enqueue_job("add", 1, _job_id=job_id)
            assert await asyncio.to_thread((tmp_path / "events").read_text) == f"end {job_id} 1 True\n"
        worker.send_signal(signal.SIGTERM)
        _, logged = await asyncio.to_thread(worker.communicate, timeout=30)
        assert worker.returncode == 0, logged
