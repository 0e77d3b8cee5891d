"""The scripts under `lua/dead_letters/`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain
from typing import Any, Final, NamedTuple

from fetchq.contract.dead_letter import RetryOutcome
from fetchq.store.keys import Keys
from fetchq.store.registry import key_names
from fetchq.store.runner import Argument, ScriptRunner

_OUTCOMES: Final = (RetryOutcome.NOT_FOUND, RetryOutcome.RETRIED, RetryOutcome.ACTIVE, RetryOutcome.INCOMPLETE)


class StoredDeadLetter(NamedTuple):
    """A dead letter as stored."""

    ended_ms: int
    """When its job ended, in ms since the epoch; 0: no such dead letter."""
    data: bytes | None
    """None: it has expired, or is not a string."""


class RetryJob(NamedTuple):
    """A dead letter to retry."""

    id: bytes
    ended_ms: int
    payload: bytes
    """Empty: the payload that the dead letter holds."""
    limit_key: str
    lane: str
    """`h` high, `l` low, empty for the default."""


class DeadLetterCommands:
    """The scripts of dead letters, for one queue."""

    def __init__(self, keys: Keys) -> None:
        self._dead: Final = key_names("dead_letters/read", keys)
        self._dead_letter: Final = keys.dead_letter
        self._retry_keys: Final = key_names("dead_letters/retry", keys)
        self._retry_prefixes: Final = (
            keys.job, keys.result, keys.retry, keys.attempts, keys.dead_letter, keys.waiting, keys.metrics,
            keys.minute,
        )  # fmt: skip

    async def read(self, runner: ScriptRunner, ids: Sequence[bytes], *, max_bytes: int) -> list[StoredDeadLetter]:
        """Reads the first dead letters of `ids`, at least one, until they exceed `max_bytes`."""
        reply = await runner.run("dead_letters/read", self._dead, (self._dead_letter, max_bytes, *ids))
        return [
            StoredDeadLetter(0 if ended is None else round(float(ended)), data)
            for ended, data in zip(reply[::2], reply[1::2], strict=True)
        ]

    async def retry(
        self, runner: ScriptRunner, jobs: Iterable[RetryJob], *, now_ms: int | None = None
    ) -> list[RetryOutcome]:
        """Puts the jobs of dead letters on the queue again, under their old ids and due now, and removes the former."""
        args: list[Any] = ["" if now_ms is None else now_ms, *self._retry_prefixes, *chain.from_iterable(jobs)]
        return [_OUTCOMES[code] for code in await runner.run("dead_letters/retry", self._retry_keys, args)]

    async def purge(self, runner: ScriptRunner, dead_letters: Iterable[tuple[bytes | str, int | None]]) -> list[bool]:
        """Deletes dead letters, each given by id and the ms at which its job ended (None: any).

        Returns for each whether it existed.
        """
        args: list[Argument] = [self._dead_letter]
        for job_id, ended_ms in dead_letters:
            args += (job_id, "" if ended_ms is None else ended_ms)
        return [code == 1 for code in await runner.run("dead_letters/purge", self._dead, args)]

    async def trim(
        self, runner: ScriptRunner, *, ttl_ms: int, max_count: int, count: int, now_ms: int | None = None
    ) -> int:
        """Deletes dead letters older than `ttl_ms`, and the oldest beyond `max_count`; at most `count` in one call.

        Returns how many it deleted.
        """
        args = ("" if now_ms is None else now_ms, self._dead_letter, ttl_ms, max_count, count)
        trimmed: int = await runner.run("dead_letters/trim", self._dead, args)
        return trimmed
