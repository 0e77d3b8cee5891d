"""A set of URLs as 8-byte digests: 16 to 32 bytes a URL, where a Python set takes a hundred."""

from __future__ import annotations

import os
from array import array
from hashlib import blake2b
from typing import Final

_START_SLOTS: Final = 1 << 12


class UrlSet:
    """An open-addressed table of keyed BLAKE2b digests (RFC 7693). URLs are never removed.

    With n URLs in it, a new URL counts as known with a probability of n / 2**64. Each set has a random key, so that no
    list of URLs can be made to collide.
    """

    def __init__(self) -> None:
        self._key = os.urandom(16)
        self._slots = array("Q", bytes(8 * _START_SLOTS))
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def __repr__(self) -> str:
        return f"<UrlSet {self._count}>"

    def __contains__(self, url: str) -> bool:
        return bool(self._slots[self._find(self._digest(url))])

    def add(self, url: str) -> bool:
        """Adds `url`; returns whether it was new."""
        digest = self._digest(url)
        slot = self._find(digest)
        if self._slots[slot]:
            return False
        self._slots[slot] = digest
        self._count += 1
        if 2 * self._count > len(self._slots):
            self._grow()
        return True

    def _digest(self, url: str) -> int:
        data = url.encode("utf-8", "surrogatepass")
        return (
            int.from_bytes(blake2b(data, digest_size=8, key=self._key).digest(), "little") or 1
        )  # 0 marks a free slot

    def _find(self, digest: int) -> int:
        """The slot that holds `digest`, or the free slot where it would go."""
        slots = self._slots
        mask = len(slots) - 1
        slot = digest & mask
        while (found := slots[slot]) and found != digest:
            slot = (slot + 1) & mask
        return slot

    def _grow(self) -> None:
        old = self._slots
        self._slots = array("Q", bytes(16 * len(old)))
        for digest in old:
            if digest:
                self._slots[self._find(digest)] = digest
