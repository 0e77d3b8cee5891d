"""The claims and commits of a run, read from Redis's append-only file.

The file contains every change that Redis made, by scripts too, so no observer has to run: each claim (a lease record
with a new token), each commit (a result that is written), and the holder of the lease at that moment. After a restart
or a power cut it contains exactly what Redis loaded.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import hiredis
import msgspec

from fetchq.store.keys import Keys
from fetchq.store.records import LeaseRecord

READ_BYTES: Final = 1 << 20


class Commit(msgspec.Struct, frozen=True, gc=False):
    """A commit: a result was written."""

    holder: bytes | None
    """The token in the job's lease at that moment."""
    value: bytes


class Hold(msgspec.Struct, gc=False):
    """The lease of a claim, in ms since the epoch by Redis's clock."""

    first_end_ms: int
    """The end of the lease when it was claimed."""
    end_ms: int
    """The end after the last renewal, or when the run was committed, whichever is earlier."""


class History:
    """Claims and commits of every job, by its id."""

    def __init__(self, keys: Keys) -> None:
        self._leases_key: Final = keys.leases.encode()
        self._result_prefix: Final = keys.result.encode()
        self._holders: dict[bytes, bytes] = {}
        self._results: set[bytes] = set()
        self.claims: dict[bytes, list[bytes]] = {}
        """Tokens, in the order of the claims."""
        self.holds: dict[bytes, list[Hold]] = {}
        """One lease for each claim."""
        self.commits: dict[bytes, list[Commit]] = {}
        self.double_commits: list[bytes] = []
        """Ids of jobs whose result was written while another result existed."""
        self.reasons: Counter[str] = Counter()
        """Why jobs were claimed again."""

    def read(self, commands: Iterator[list[bytes]]) -> History:
        for command in commands:
            match command[0].upper():
                case b"HSET" if command[1] == self._leases_key:
                    for job_id, record in zip(command[2::2], command[3::2], strict=True):
                        lease = LeaseRecord.parse(record)
                        if lease is not None:
                            self._note_lease(job_id, lease.token, lease.end_ms)
                case b"HDEL" if command[1] == self._leases_key:
                    for job_id in command[2:]:
                        self._holders.pop(job_id, None)
                case b"SET" if command[1].startswith(self._result_prefix):
                    self._note_commit(command[1].removeprefix(self._result_prefix), command[2])
                case b"DEL" | b"UNLINK":
                    for key in command[1:]:
                        if key.startswith(self._result_prefix):
                            self._results.discard(key.removeprefix(self._result_prefix))
        return self

    def _note_lease(self, job_id: bytes, token: bytes, end_ms: int) -> None:
        holder = self._holders.get(job_id)
        if token == holder:
            self.holds[job_id][-1].end_ms = end_ms
            return
        self.holds.setdefault(job_id, []).append(Hold(end_ms, end_ms))
        self._holders[job_id] = token
        earlier = self.claims.setdefault(job_id, [])
        if earlier:
            self.reasons["lease ended" if holder is not None else "given back"] += 1
        earlier.append(token)

    def _note_commit(self, job_id: bytes, value: bytes) -> None:
        if job_id in self._results:
            self.double_commits.append(job_id)
        self._results.add(job_id)
        if job_id in self._holders:
            hold = self.holds[job_id][-1]
            hold.end_ms = min(hold.end_ms, _finished_at_ms(value) or hold.end_ms)
        self.commits.setdefault(job_id, []).append(Commit(self._holders.get(job_id), value))


def _finished_at_ms(value: bytes) -> int | None:
    """When the run of a result was finished; None for data that is not a result."""
    try:
        at_ms = msgspec.msgpack.decode(value)["ft"]
    except (msgspec.MsgspecError, LookupError, TypeError):
        return None
    return at_ms if isinstance(at_ms, int) else None


def read_append_only_file(folder: Path) -> Iterator[list[bytes]]:
    """The commands in a Redis 7 folder of append-only files, without a transaction that was cut off."""
    reader = hiredis.Reader()
    transaction: list[list[bytes]] | None = None
    for path in _increments(folder):
        with path.open("rb") as file:
            while data := file.read(READ_BYTES):
                reader.feed(data)
                while (command := reader.gets()) is not False:
                    match command[0].upper():
                        case b"MULTI":
                            transaction = []
                        case b"EXEC":
                            yield from transaction or ()
                            transaction = None
                        case _ if transaction is not None:
                            transaction.append(command)
                        case _:
                            yield command


def _increments(folder: Path) -> Iterator[Path]:
    [manifest] = folder.glob("*.manifest")
    for line in manifest.read_text().splitlines():
        _, name, _, _, _, kind = line.split()[:6]
        if kind == "i":
            yield folder / name
