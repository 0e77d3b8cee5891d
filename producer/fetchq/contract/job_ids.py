"""Job ids: 20 characters of base32, the first eight of them the producer's own.

The shared beginning names the channel on which results are announced (`Keys.done`), so that a producer hears of its
own jobs only, and of a whole batch in one message. The other twelve hold 60 random bits for each job.
"""

from __future__ import annotations

import hashlib
from base64 import b32encode
from itertools import islice
from os import urandom
from typing import Final

from fetchq.errors import InvalidRequest
from fetchq.store.keys import PUSH_PREFIX_LEN

from .validation import check_unicode

_TAIL_LEN: Final = 12


class JobIds:
    """Makes the ids of one producer. A fork may share them: the tails come from the kernel."""

    def __init__(self) -> None:
        self.prefix: Final = _base32(urandom(5))

    def take(self, count: int) -> list[str]:
        """So many fresh ids."""
        text = _base32(urandom(15 * ((count + 1) // 2)))
        prefix = self.prefix
        starts = range(0, len(text), _TAIL_LEN)
        return [prefix + text[i : i + _TAIL_LEN] for i in islice(starts, count)]


def id_for_key(key: str, queue: str) -> str:
    """The one id that an idempotency key has on a queue."""
    digest = hashlib.sha256(f"{queue}\0{key}".encode("utf-8", "surrogatepass")).digest()
    return _base32(digest[:15])[: PUSH_PREFIX_LEN + _TAIL_LEN]


def check_id(job_id: object) -> None:
    """Any text can be a job's id; raises `InvalidRequest` for what is none."""
    if not isinstance(job_id, str):
        raise InvalidRequest("job_id", f"takes a string, not {type(job_id).__name__}")
    check_unicode("job_id", job_id)


def _base32(data: bytes) -> str:
    return b32encode(data).decode("ascii").rstrip("=").lower()
