"""The header fields of a response."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple, TypeVar

_Default = TypeVar("_Default")


class Field(NamedTuple):
    """One header field."""

    key: str
    """The name in lower case."""
    pair: tuple[str, str]
    """Name, as it was sent, and value without the white space around it."""
    is_framing: bool = False
    """Whether the field says where the message or the connection ends, other than HTTP/1.1 does without it."""
    length: int | None = None
    """Of a Content-Length field whose value is a plain number."""


class Headers:
    """Fields by name, whatever the case. Values are decoded as Latin-1, byte by byte (RFC 9110, section 5.5)."""

    __slots__ = ("_fields", "_values")

    def __init__(self, fields: Sequence[Field] = ()) -> None:
        self._fields = fields
        self._values: dict[str, tuple[str, ...]] | None = None

    @classmethod
    def of(cls, pairs: Iterable[tuple[str, str]]) -> Headers:
        """Headers with these names and values."""
        return cls([Field(pair[0].lower(), pair) for pair in pairs])

    def __repr__(self) -> str:
        return f"<Headers {list(self)}>"

    def get(self, name: str, default: _Default = None) -> str | _Default:  # type: ignore[assignment] # of no argument
        """The value of the first field of that name."""
        found = self._by_name().get(name.lower())
        return default if found is None else found[0]

    def getall(self, name: str, default: _Default = ()) -> tuple[str, ...] | _Default:  # type: ignore[assignment]
        """The values of all fields of that name, in their order."""
        return self._by_name().get(name.lower(), default)

    def items(self) -> list[tuple[str, str]]:
        """Name, as it was sent, and value of each field, in their order."""
        return [field[1] for field in self._fields]

    def __iter__(self) -> Iterator[str]:
        return (field.pair[0] for field in self._fields)

    def __len__(self) -> int:
        return len(self._fields)

    def __contains__(self, name: str) -> bool:
        return name.lower() in self._by_name()

    def _by_name(self) -> dict[str, tuple[str, ...]]:
        values = self._values
        if values is None:
            values = self._values = {}
            for key, (_, value), _, _ in self._fields:
                if key in values:
                    values[key] += (value,)
                else:
                    values[key] = (value,)
        return values
