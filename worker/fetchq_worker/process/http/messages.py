"""Requests and replies of the listener."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Final, NamedTuple

TEXT: Final = "text/plain; charset=utf-8"


class Request(NamedTuple):
    """What a handler knows of a request."""

    timeout_s: float | None = None
    """The time that the caller waits, where the query says it: `?timeout_s=0.9`."""
    accept: str = ""
    """The header of that name."""


class Reply(NamedTuple):
    """The answer to a request."""

    status: HTTPStatus
    text: str
    """Without the end of its last line."""
    content_type: str = TEXT


Handler = Callable[[Request], Awaitable[Reply]]
"""Answers one path."""


def unavailable(why: str) -> Reply:
    """`why`: one sentence."""
    return Reply(HTTPStatus.SERVICE_UNAVAILABLE, why)
