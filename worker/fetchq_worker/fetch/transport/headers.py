"""The header fields of a response."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeVar

Pairs = tuple[tuple[bytes, bytes], ...]
"""Names and values as they came, in their order, without the white space around them."""

_Default = TypeVar("_Default")


class Headers:
    """Fields by name, whatever the case. Values are decoded as Latin-1, byte by byte (RFC 9110, section 5.5)."""

    __slots__ = ("_values", "raw")

    def __init__(self, raw: Pairs = ()) -> None:
        self.raw = raw
        self._values: dict[str, tuple[str, ...]] | None = None

    def __repr__(self) -> str:
        return f"<Headers {[name.decode('latin-1') for name, _ in self.raw]}>"

    def get(self, name: str, default: _Default = None) -> str | _Default:  # type: ignore[assignment] # of no argument
        """The value of the first field of that name."""
        found = self._by_name().get(name.lower())
        return default if found is None else found[0]

    def getall(self, name: str, default: _Default = ()) -> tuple[str, ...] | _Default:  # type: ignore[assignment]
        """The values of all fields of that name, in their order."""
        return self._by_name().get(name.lower(), default)

    def items(self) -> Iterator[tuple[str, str]]:
        """Name, as it was sent, and value of each field, in their order."""
        for name, value in self.raw:
            yield name.decode("latin-1"), value.decode("latin-1")

    def __iter__(self) -> Iterator[str]:
        return (name for name, _ in self.items())

    def __len__(self) -> int:
        return len(self.raw)

    def __contains__(self, name: str) -> bool:
        return name.lower() in self._by_name()

    def _by_name(self) -> dict[str, tuple[str, ...]]:
        if self._values is None:
            values: dict[str, tuple[str, ...]] = {}
            for name, value in self.items():
                lower = name.lower()
                values[lower] = (*values.get(lower, ()), value)
            self._values = values
        return self._values
