"""Job ids: 20 characters of base32. The first 8 are the same for all jobs of one producer; 12 (60 bits) are random.

The shared prefix names the channel on which results are announced (`Keys.done`), so a producer receives messages about
its own jobs only, and one message for a whole batch.
"""

from __future__ import annotations

import hashlib
from base64 import b32encode
from itertools import islice
from os import getpid, urandom
from typing import Final

from fetchq.errors import InvalidRequest

from .validation import check_unicode

PUSH_PREFIX_LEN: Final = 8
"""How many leading characters of a job id name its push channel."""
_TAIL_LEN: Final = 12


_AHEAD: Final = 32


class JobIds:
    """Generates the ids of one producer. Safe across fork: the random part comes from the kernel."""

    def __init__(self) -> None:
        self.prefix: Final = _base32(urandom(5))
        self._ahead: list[str] = []
        """Ids for `new_id`, made by the process `_pid`: one by one they take ten times as long."""
        self._pid = 0

    def new_id(self) -> str:
        """A new id."""
        pid = getpid()
        if not self._ahead or self._pid != pid:
            self._ahead, self._pid = self.new_ids(_AHEAD), pid
        return self._ahead.pop()

    def new_ids(self, count: int) -> list[str]:
        """`count` new ids."""
        text = _base32(urandom(15 * ((count + 1) // 2)))
        prefix = self.prefix
        starts = range(0, len(text), _TAIL_LEN)
        return [prefix + text[i : i + _TAIL_LEN] for i in islice(starts, count)]


def id_for_key(key: str, queue: str) -> str:
    """The job id that belongs to an idempotency key on a queue."""
    digest = hashlib.sha256(f"{queue}\0{key}".encode("utf-8", "surrogatepass")).digest()
    return _base32(digest[:15])[: PUSH_PREFIX_LEN + _TAIL_LEN]


def check_id(job_id: object) -> None:
    """Any string that UTF-8 can encode is a valid id; anything else raises `InvalidRequest`."""
    if not isinstance(job_id, str):
        raise InvalidRequest("job_id", f"takes a string, not {type(job_id).__name__}")
    check_unicode("job_id", job_id)


def _base32(data: bytes) -> str:
    return b32encode(data).decode("ascii").rstrip("=").lower()
