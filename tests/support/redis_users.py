"""Redis users with the permissions that `fetchq acl` prints, and a record of the commands that each sends."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final, cast
from unittest import mock

import hiredis
import redis
from redis.asyncio.connection import AbstractConnection

from fetchq.inspect.acl import acl_rule
from fetchq.store.exchange import Exchanges
from fetchq.store.keys import Keys
from fetchq.store.registry import Role

from .redis_server import RedisServer

PASSWORD: Final = "open-sesame"


def user_url(server: RedisServer, role: Role, database: int = 0) -> str:
    return f"unix://{role}:{PASSWORD}@{server.socket}?db={database}"


def create_users(admin: redis.Redis, keys: Keys | None = None) -> None:
    """Creates a user for each role, and clears the log of refusals."""
    for role in Role:
        admin.execute_command(*acl_rule(role, [role], keys or Keys()).split())  # type: ignore[no-untyped-call]
        admin.execute_command("ACL", "SETUSER", role, f">{PASSWORD}")  # type: ignore[no-untyped-call]
    admin.acl_log_reset()


def refusals(admin: redis.Redis) -> list[str]:
    """All that Redis refused to these users, whether or not the code handled the error."""
    return [f"{entry['username']}: {entry['reason']} {entry['object']}" for entry in cast(list[Any], admin.acl_log())]


@contextmanager
def sent_commands() -> Iterator[dict[str, set[str]]]:
    """Records the commands that this process sends in the meantime, by user."""
    sent: dict[str, set[str]] = defaultdict(set)
    send, exchange = AbstractConnection.send_packed_command, Exchanges.run

    def record(connection: Any, command: Any) -> None:
        reader = hiredis.Reader()
        for piece in [command] if isinstance(command, bytes | str) else command:
            reader.feed(piece.encode() if isinstance(piece, str) else piece)
        while (words := reader.gets()) is not False:
            name = words[0].decode().lower()
            is_container = name in ("script", "client", "acl", "config")
            sent[connection.username or ""].add(f"{name}|{words[1].decode().lower()}" if is_container else name)

    async def spy_on_redis_py(connection: Any, command: Any, check_health: bool = True) -> None:
        record(connection, command)
        await send(connection, command, check_health)

    async def spy_on_scripts(exchanges: Any, connection: Any, command: bytes, *rest: Any) -> Any:
        record(connection, command)
        return await exchange(exchanges, connection, command, *rest)

    with (
        mock.patch.object(AbstractConnection, "send_packed_command", spy_on_redis_py),
        mock.patch.object(Exchanges, "run", spy_on_scripts),
    ):
        yield sent
