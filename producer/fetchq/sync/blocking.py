"""Blocking forms of async methods, with the same parameters for type checkers and for `help()`."""

from __future__ import annotations

import functools
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator
from typing import Any, Concatenate, Generic, ParamSpec, Protocol, Self, TypeVar, cast, overload

from .loop_thread import LoopThread

P = ParamSpec("P")
T = TypeVar("T")


class Mirror(Protocol):
    """An object whose methods call those of an async object in a `LoopThread`."""

    def _mirrored(self) -> tuple[LoopThread, Any]:
        """The thread, and the async object in it."""


class BlockingMethod(Generic[P, T]):
    """What type checkers see of a blocking method. At run time it is a function."""

    @overload
    def __get__(self, instance: None, owner: type) -> Self: ...
    @overload
    def __get__(self, instance: object, owner: type) -> Callable[P, T]: ...
    def __get__(self, instance: object | None, owner: type) -> Any:
        raise NotImplementedError


def blocking(method: Callable[Concatenate[Any, P], Coroutine[Any, Any, T]]) -> BlockingMethod[P, T]:
    """The blocking form of an async method: it returns when the coroutine has ended."""

    @functools.wraps(method)
    def call(self: Mirror, *args: P.args, **kwargs: P.kwargs) -> T:
        thread, target = self._mirrored()
        return thread.call(method(target, *args, **kwargs))

    return cast("BlockingMethod[P, T]", call)


def iterating(method: Callable[Concatenate[Any, P], AsyncGenerator[T, None]]) -> BlockingMethod[P, Iterator[T]]:
    """The blocking form of an async generator method: it returns an iterator."""

    @functools.wraps(method)
    def call(self: Mirror, *args: P.args, **kwargs: P.kwargs) -> Iterator[T]:
        thread, target = self._mirrored()
        return thread.iterate(method(target, *args, **kwargs))

    return cast("BlockingMethod[P, Iterator[T]]", call)
