"""The object that `fetchq worker --settings` names, read as the `arq` command reads it."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any, Self

from arq.connections import ArqRedis, RedisSettings, create_pool

from fetchq.command.settings import InvalidSetting
from fetchq.store.address import RedisAddress
from fetchq.store.connection import connect, use_own_connections
from fetchq.store.errors import REDIS_ERRORS, translation
from fetchq_worker.engine import Worker, create_worker

from .arq_settings import SettingsOfAddress
from .make_worker import make_worker


class SettingsObject:
    """A settings class, an object, a dict or a module that holds the arguments of a worker."""

    def __init__(self, name: str, found: Any) -> None:
        """`name` is for messages. Raises `InvalidSetting`."""
        self.name = name
        self.found = found
        if not isinstance(found, dict) and not hasattr(found, "__dict__"):
            kind = type(found).__name__  # not its text, which can hold a password
            raise InvalidSetting(
                f"--settings: {name} is of type {kind}; it must be a class, a dict, or have a __dict__"
            )
        self._arguments = found if isinstance(found, dict) else vars(found)  # as arq's get_kwargs

    @classmethod
    def load(cls, name: str) -> Self:
        """Imports `module.Class` or `module:Class`. Raises `InvalidSetting`, and what the module raises.

        As under arq, no event loop runs, since a module may run one, and the working directory is searched last.
        """
        module_name, _, attributes = name.strip().partition(":") if ":" in name else name.strip().rpartition(".")
        if not module_name or not attributes:
            raise InvalidSetting(f"--settings takes module.Class or module:Class, not {name!r}")
        if str(Path.cwd()) not in sys.path:
            sys.path.append(str(Path.cwd()))
        try:
            found: Any = importlib.import_module(module_name)
        except ModuleNotFoundError as problem:
            if not f"{module_name}.".startswith(f"{problem.name}."):
                raise  # the module exists; one that it imports does not
            raise InvalidSetting(f"--settings: there is no module {module_name!r} here") from problem
        try:
            for attribute in attributes.split("."):
                found = getattr(found, attribute)
        except AttributeError as problem:
            raise InvalidSetting(f"--settings: {module_name} has no {attributes!r}") from problem
        return cls(name, found)

    async def open_redis(self, otherwise: RedisAddress) -> ArqRedis | None:
        """The client that these settings describe, on `otherwise` if they do not. None: they bring a `redis_pool`.

        Raises `RedisUnavailable` or `RedisRefused`.
        """
        if self._arguments.get("redis_pool") is not None:
            return None
        theirs: RedisSettings | None = self._arguments.get("redis_settings")
        if theirs is None or isinstance(theirs, SettingsOfAddress):
            return connect(otherwise if theirs is None else theirs.address, redis_class=ArqRedis)
        try:
            redis = await create_pool(theirs)
        except REDIS_ERRORS as problem:
            raise translation(_unconnected(theirs), problem) from problem
        await use_own_connections(redis)
        return redis

    def make_worker(self, redis: ArqRedis | None, **options: Any) -> Worker:
        """The worker, on `redis`, or on the settings' own pool. `options` take precedence. Raises `InvalidSetting`."""
        try:
            return create_worker(self.found, **options) if redis is None else make_worker(self.found, redis, **options)
        except (ImportError, RuntimeError, TypeError, ValueError) as problem:  # as arq's constructor refuses arguments
            raise InvalidSetting(f"--settings: no worker can be made from {self.name}: {problem}") from problem


def _unconnected(settings: RedisSettings) -> ArqRedis:
    """A client that is never used, for its address in a message."""
    host, port = settings.host[0] if isinstance(settings.host, list) else (settings.host, settings.port)
    return ArqRedis(host=host, port=port, unix_socket_path=settings.unix_socket_path)
