"""The registry of scripts matches the Lua files."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from importlib.resources import files
from typing import Any

import pytest
from tests.support.redis_server import RedisServer
from tests.support.scripted_queue import Queue

from fetchq.inspect.acl import commands_of, key_pattern
from fetchq.store.commands import CacheCommands, DeadLetterCommands, QueueCommands, Report, RetryJob, WorkerCommands
from fetchq.store.connection import connect
from fetchq.store.registry import SCRIPTS
from fetchq.store.runner import PackedRunner
from fetchq.store.scripts import script_names, script_source

_KEYS_INDEX = re.compile(r"KEYS\[(?:\d+\.\.)?(\d+)\]")


def test_every_script_is_registered_and_every_registered_script_exists() -> None:
    assert sorted(SCRIPTS) == script_names()


@pytest.mark.parametrize("name", SCRIPTS)
def test_the_flags_of_a_script_are_those_of_the_registry(name: str) -> None:
    first_line = script_source(name).partition("\n")[0]
    spec = SCRIPTS[name]
    assert (first_line == "#!lua flags=allow-oom") == spec.allow_oom
    assert (first_line == "#!lua flags=no-writes") == spec.read_only
    assert first_line.startswith("#!") == (spec.allow_oom or spec.read_only)


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_takes_as_many_keys_as_the_registry_names(name: str) -> None:
    folder, file = name.split("/")
    text = files("fetchq.store").joinpath("lua", folder, f"{file}.lua").read_text(encoding="utf-8")
    assert max(map(int, _KEYS_INDEX.findall(text))) == len(SCRIPTS[name].keys)


Call = Callable[[Queue], Awaitable[Any]]
HOST = "a.example"


async def _read(queue: Queue) -> Any:
    return await DeadLetterCommands(queue.keys).read(queue.runner, [b"dead"], max_bytes=1000)


async def _retry(queue: Queue) -> Any:
    [dead_letter] = await _read(queue)
    job = RetryJob(b"dead", dead_letter.ended_ms, b"payload", HOST, "")
    return await DeadLetterCommands(queue.keys).retry(queue.runner, [job], now_ms=queue.now_ms)


async def _trim(queue: Queue) -> Any:
    queue.max_dead_letters = 0
    return await queue.trim_dead_letters()


CALLS: dict[str, Call] = {
    "jobs/enqueue": lambda queue: queue.enqueue(
        ("new", "", HOST, ""), ("a", "", HOST, ""), ("later", "+9000", HOST, "h")
    ),
    "jobs/cancel": lambda queue: queue.cancel("parked", HOST),
    "jobs/claim": lambda queue: queue.claim(token="w.2"),
    "jobs/admit": lambda queue: queue.admit(("a", "w.1", HOST), ("b", "w.1", HOST)),
    "jobs/return_claims": lambda queue: queue.return_claims("w.1"),
    "jobs/commit": lambda queue: queue.commit(
        ("a", "w.1", "finish", 1000, 1000, "done", "+OK"), ("b", "w.1", "retry", "", "", "", "-CONNECT_ERROR")
    ),
    "jobs/renew": lambda queue: queue.renew(("a", "w.1")),
    "jobs/find_aborts": lambda queue: queue.find_aborts(),
    "jobs/maintain": lambda queue: queue.maintain(),
    "dead_letters/read": _read,
    "dead_letters/purge": lambda queue: DeadLetterCommands(queue.keys).purge(queue.runner, [(b"dead", None)]),
    "dead_letters/retry": _retry,
    "dead_letters/trim": _trim,
    "queue/state": lambda queue: QueueCommands(queue.keys).state(queue.runner, now_ms=queue.now_ms),
    "workers/heartbeat": lambda queue: WorkerCommands(queue.keys).heartbeat(
        queue.runner, worker_id="w", record=b"{}", ttl_ms=1000, report=Report(1, ["body_bytes", 1])
    ),
    "workers/pass_wake": lambda queue: WorkerCommands(queue.keys).pass_wake(queue.runner, now_ms=queue.now_ms),
    "cache/put": lambda queue: CacheCommands(queue.keys).put(
        queue.runner, key=queue.keys.cache + "x", value=b"x", ttl_ms=1000, max_bytes=100
    ),
    "hosts/cooldown": lambda queue: queue.start_cooldown(HOST),
    "hosts/set_limits": lambda queue: queue.set_limits(HOST, "set", "c=9", HOST),
}


@pytest.mark.asyncio
@pytest.mark.parametrize("name", SCRIPTS)
async def test_a_script_needs_no_more_rights_than_the_registry_gives_it(redis_server: RedisServer, name: str) -> None:
    async with connect(redis_server.url) as client:
        prepared = Queue(client)
        await _prepare(prepared)
        spec = SCRIPTS[name]
        keys = [key_pattern(prepared.keys, key, access) for key, access in spec.access.items()]
        channels = [f"&{getattr(prepared.keys, channel)}*" for channel in spec.channels]
        commands = [f"+{command}" for command in {"evalsha", "eval", "select", *commands_of(name)}]
        await client.execute_command("ACL", "SETUSER", "script", "reset", "on", ">pw", *keys, *channels, *commands)
        url = f"unix://script:pw@{redis_server.socket}"
        try:
            async with connect(url) as limited:
                prepared.runner = PackedRunner(limited, timeout_s=10)
                await CALLS[name](prepared)
            log: Any = await client.acl_log()
            assert [entry for entry in log if entry["username"] == "script"] == []
        finally:
            await client.acl_log_reset()
            await client.execute_command("ACL", "DELUSER", "script")


async def _prepare(queue: Queue) -> None:
    """Jobs of one host with a single slot: claimed, admitted, parked and dead, and one to be aborted."""
    await queue.set_limits(HOST, "set", "c=1")
    await queue.enqueue(("dead", "", "", ""))
    await queue.claim(token="w.0")
    await queue.finish_with_dead_letter("dead", "w.0")
    await queue.enqueue(("a", "", HOST, ""), ("b", "", "", ""), ("parked", "", HOST, ""), ("parked2", "", HOST, ""))
    claimed = await queue.claim(token="w.1")
    assert claimed.ids == ["a", "b"]
    assert await queue.admit(("a", "w.1", HOST)) == []
    await queue.redis.zadd(queue.keys.abort, {"a": queue.now_ms, "gone": 1})
    queue.now_ms += 10_000
