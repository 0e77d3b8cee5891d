"""Exceptions whose classes make it hard to report them."""

from __future__ import annotations

import sys
from typing import NoReturn


class PanicException(BaseException):
    """As PyO3 raises it for a panic of Rust code."""


class Unprintable(Exception):
    def __str__(self) -> str:
        raise PanicException("in __str__")

    __repr__ = __str__


class TwoArguments(Exception):
    """Can be pickled, and not be read again."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(f"{code} {reason}")


class WithHandle(Exception):
    """Cannot be pickled."""

    def __init__(self) -> None:
        super().__init__("the file is open", sys.stderr)

    def __str__(self) -> str:
        return "the file is open"


class Nameless(type):
    @property
    def __name__(cls) -> str:  # type: ignore[override]  # a class like this one is the point
        raise PanicException("no name")


class WithoutName(Exception, metaclass=Nameless):
    pass


class WithoutCause(Exception):
    @property
    def __cause__(self) -> NoReturn:  # type: ignore[override]  # as above
        raise PanicException("no cause")


class WithoutTraceback(Exception):
    @property
    def __traceback__(self) -> NoReturn:  # type: ignore[override]  # as above
        raise LookupError("no traceback")


class WithoutClass(Exception):
    @property  # type: ignore[misc]  # as above
    def __class__(self) -> NoReturn:  # type: ignore[override]
        raise LookupError("no class")
