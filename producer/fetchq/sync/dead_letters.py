"""Dead letters for code without an event loop."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Unpack

from fetchq.client.dead_letters import DeadFilter
from fetchq.contract.dead_letter import DeadLetter, RetryOutcome

if TYPE_CHECKING:
    from .producer import SyncProducer


class SyncDeadLetters:
    """`DeadLetters` for a `SyncProducer`, with the same methods."""

    def __init__(self, owner: SyncProducer) -> None:
        self._owner = owner

    def count(self) -> int:
        """As `DeadLetters.count`."""
        engine = self._owner._started()
        return engine.call(engine.producer.dead.count())

    def get(self, job_id: str) -> DeadLetter:
        """As `DeadLetters.get`."""
        engine = self._owner._started()
        return engine.call(engine.producer.dead.get(job_id))

    def letters(self, *, newest_first: bool = False, **wanted: Unpack[DeadFilter]) -> Iterator[DeadLetter]:
        """As `DeadLetters.letters`."""
        engine = self._owner._started()
        return engine.each(engine.producer.dead.letters(newest_first=newest_first, **wanted))

    def retry_many(self, job_ids: Sequence[str]) -> list[RetryOutcome]:
        """As `DeadLetters.retry_many`."""
        engine = self._owner._started()
        return engine.call(engine.producer.dead.retry_many(job_ids))

    def retry_all(self, **wanted: Unpack[DeadFilter]) -> Iterator[dict[RetryOutcome, int]]:
        """As `DeadLetters.retry_all`."""
        engine = self._owner._started()
        return engine.each(engine.producer.dead.retry_all(**wanted))

    def purge_many(self, job_ids: Sequence[str]) -> list[bool]:
        """As `DeadLetters.purge_many`."""
        engine = self._owner._started()
        return engine.call(engine.producer.dead.purge_many(job_ids))

    def purge_all(self, **wanted: Unpack[DeadFilter]) -> Iterator[int]:
        """As `DeadLetters.purge_all`."""
        engine = self._owner._started()
        return engine.each(engine.producer.dead.purge_all(**wanted))
