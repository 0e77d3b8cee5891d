"""A blocked result reveals the rule, and nothing else about the private network."""

from __future__ import annotations

import socket
from typing import Any

import msgspec
import pytest
from harness.egress.arena import NAME, Arena

from fetchq import FetchResult, FetchStatus, Timing

pytestmark = pytest.mark.asyncio


def _fields(result: FetchResult) -> Any:
    """All fields of a result but its times and the requested URL."""
    fields = msgspec.to_builtins(result)
    for field in ("url", "fetched_at"):
        del fields[field]
    assert fields["timing"].keys() <= {"total_s"}, "there is no phase of a connection, since there was none"
    fields.pop("timing")
    for attempt in fields["attempts"]:
        del attempt["started_at"], attempt["duration_s"]
    return fields


def _closed_port() -> int:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port: int = closed.getsockname()[1]
        return port


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", NAME])
async def test_an_open_and_a_closed_port_inside_look_the_same(arena: Arena, host: str) -> None:
    arena.dns.names[NAME] = [("127.0.0.1",)]

    opened, closed = [await arena.fetch(f"http://{host}:{port}/") for port in (arena.inside.port, _closed_port())]

    assert opened.status is FetchStatus.BLOCKED
    assert _fields(opened) == _fields(closed)
    assert arena.inside.connections == 0


async def test_a_redirect_to_an_open_and_to_a_closed_port_inside_looks_the_same(arena: Arena) -> None:
    results = [
        await arena.fetch_redirected(f"http://127.0.0.1:{port}/") for port in (arena.inside.port, _closed_port())
    ]

    opened, closed = [_fields(msgspec.structs.replace(result, timing=Timing())) for result in results]
    assert opened.pop("final_url") != closed.pop("final_url")  # the Location that the public server sent
    assert opened == closed


async def test_no_address_of_a_name_is_revealed(arena: Arena) -> None:
    results: list[FetchResult] = []
    for address in ("10.0.0.1", "10.255.7.9", "192.168.3.4", "172.16.5.6"):
        arena.dns.names[f"h{len(results)}.example"] = [(address,)]
        results.append(await arena.fetch(f"http://h{len(results)}.example/"))
        assert address not in str(msgspec.to_builtins(results[-1]))

    fields = [_fields(result) for result in results]
    assert fields == [fields[0]] * 4
    assert results[0].error == "the egress policy forbids private addresses"


async def test_no_header_and_no_byte_of_a_forbidden_response_is_revealed(arena: Arena) -> None:
    result = await arena.fetch(arena.inside.url)

    assert (result.http_status, result.headers, result.body, result.media_type) == (None, (), b"", None)
    assert b"secret" not in msgspec.msgpack.encode(result)


async def test_names_that_do_not_resolve_all_fail_alike(arena: Arena) -> None:
    arena.dns.default = None
    arena.dns.names["empty.example"] = [()]

    results = [await arena.fetch(f"http://{name}/") for name in ("no.example", "empty.example", "db.internal")]

    assert {result.status for result in results} == {FetchStatus.DNS_ERROR}
    assert len({result.error for result in results}) == 1


async def test_a_blocked_fetch_is_not_retried(arena: Arena) -> None:
    result = await arena.fetch(arena.inside.url)

    assert not result.status.retryable
    assert len(result.attempts) == 1
