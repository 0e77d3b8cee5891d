"""A dead letter as JSON: a line of a list, or all of it. Secrets are shown only on request."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

import msgspec
from msgspec import UNSET, UnsetType

from fetchq import Attempt, DeadLetter, FetchStatus

HIDDEN: Final = "[hidden: --secrets shows it]"
SECRET_HEADERS: Final = frozenset(
    {"authorization", "cookie", "proxy-authorization", "set-cookie", "x-api-key", "x-auth-token", "x-csrf-token"}
)
"""Headers whose value gives access."""
MAX_EXCERPT_BYTES: Final = 4096
"""Largest part shown of a payload or a request's body; `--payload` prints all of it."""


class ListLine(msgspec.Struct, frozen=True, kw_only=True):
    """What a list shows of a dead letter. Fields without a value are null."""

    id: str
    died_at: datetime
    status: FetchStatus
    http_status: int | None
    function: str
    url: str | None
    host: str | None
    tags: tuple[str, ...]
    tries: int
    """How often a worker started the job."""
    error: str | None


class Excerpt(msgspec.Struct, frozen=True, kw_only=True):
    """Bytes as text if they are UTF-8, else as base64; cut at `MAX_EXCERPT_BYTES`."""

    size: int
    text: str | UnsetType = UNSET
    base64: str | UnsetType = UNSET
    hidden: str | UnsetType = UNSET
    cut: bool = False


class FullView(ListLine, frozen=True, kw_only=True):
    """A whole dead letter."""

    final_url: str | None
    attempts: tuple[Attempt, ...]
    retriable: bool
    """Whether the payload is complete, so that the job can be retried."""
    job: dict[str, Any] | None
    """The job as enqueued; null if the payload is not a job of the contract."""
    payload: Excerpt | UnsetType = UNSET
    """The bytes that are not a job."""
    payload_kind: str | UnsetType = UNSET


def line_of(dead_letter: DeadLetter) -> ListLine:
    return ListLine(**_line_fields(dead_letter))


def full_view_of(dead_letter: DeadLetter, *, secrets: bool) -> FullView:
    """`secrets`: show the values of `SECRET_HEADERS`."""
    no_job = dead_letter.job is None
    return FullView(
        **_line_fields(dead_letter),
        final_url=dead_letter.result.final_url,
        attempts=dead_letter.result.attempts,
        retriable=dead_letter.whole,
        job=None if dead_letter.job is None else _plain(dead_letter.job, secrets),
        payload=_excerpt(dead_letter.payload, secrets, size=dead_letter.payload_bytes) if no_job else UNSET,
        payload_kind=dead_letter.kind if no_job else UNSET,
    )


def _line_fields(dead_letter: DeadLetter) -> dict[str, Any]:
    return {
        "id": dead_letter.id,
        "died_at": dead_letter.died_at,
        "status": dead_letter.status,
        "http_status": dead_letter.result.http_status,
        "function": dead_letter.function,
        "url": dead_letter.url,
        "host": dead_letter.host,
        "tags": dead_letter.tags,
        "tries": dead_letter.tries,
        "error": dead_letter.error,
    }


def _plain(value: Any, secrets: bool) -> Any:
    """A decoded payload in types that JSON has; the values of secret headers are hidden wherever they occur."""
    match value:
        case Mapping():
            return {
                str(name): HIDDEN if _is_secret(name) and not secrets else _plain(item, secrets)
                for name, item in value.items()
            }
        case [str(name), str() | bytes()] if _is_secret(name) and not secrets:
            return [name, HIDDEN]
        case list() | tuple():
            return [_plain(item, secrets) for item in value]
        case bytes():
            return _excerpt(value, secrets, size=len(value))
        case str() | int() | float() | datetime() | None:
            return value
        case _:
            return repr(value)


def _is_secret(name: object) -> bool:
    return isinstance(name, str) and name.lower() in SECRET_HEADERS


def _excerpt(data: bytes, secrets: bool, *, size: int) -> Excerpt:
    """Bytes that contain the name of a secret header are hidden as a whole, since the end of its value is unknown."""
    if not secrets and any(name.encode() in data.lower() for name in SECRET_HEADERS):
        return Excerpt(size=size, hidden=HIDDEN)
    shown = data[:MAX_EXCERPT_BYTES]
    try:
        text = shown.decode("utf-8")
    except UnicodeDecodeError:
        return Excerpt(size=size, base64=base64.b64encode(shown).decode(), cut=len(shown) < size)
    return Excerpt(size=size, text=text, cut=len(shown) < size)
