"""A dead letter as JSON: a line in a list, or a sheet with everything on it. Secrets are left out unless asked for."""

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
"""Headers whose value lets whoever has it in."""
MAX_EXCERPT_BYTES: Final = 4096
"""Of a payload or a request's body; `--payload` prints all of it."""


class ListLine(msgspec.Struct, frozen=True, kw_only=True):
    """What a list says of a letter. Fields without a value are null."""

    id: str
    died_at: datetime
    status: FetchStatus
    http_status: int | None
    function: str
    url: str | None
    host: str | None
    tags: tuple[str, ...]
    tries: int
    """How often a worker had started the job."""
    error: str | None


class Excerpt(msgspec.Struct, frozen=True, kw_only=True):
    """Bytes as a person may see them: text where they are text, else base64; cut at `MAX_EXCERPT_BYTES`."""

    size: int
    text: str | UnsetType = UNSET
    base64: str | UnsetType = UNSET
    hidden: str | UnsetType = UNSET
    cut: bool = False


class Sheet(ListLine, frozen=True, kw_only=True):
    """All that is kept of a job."""

    final_url: str | None
    attempts: tuple[Attempt, ...]
    retriable: bool
    """Whether its payload is whole, so that the job can be run again."""
    job: dict[str, Any] | None
    """As it was enqueued; null where that was no job of the contract."""
    payload: Excerpt | UnsetType = UNSET
    """What stood there in place of a job."""
    payload_kind: str | UnsetType = UNSET


def line_of(letter: DeadLetter) -> ListLine:
    return ListLine(**_line_fields(letter))


def sheet_of(letter: DeadLetter, *, secrets: bool) -> Sheet:
    """With `secrets`, the values of `SECRET_HEADERS` too."""
    no_job = letter.job is None
    return Sheet(
        **_line_fields(letter),
        final_url=letter.result.final_url,
        attempts=letter.result.attempts,
        retriable=letter.whole,
        job=None if letter.job is None else _plain(letter.job, secrets),
        payload=_excerpt(letter.payload, secrets, size=letter.payload_bytes) if no_job else UNSET,
        payload_kind=letter.kind if no_job else UNSET,
    )


def _line_fields(letter: DeadLetter) -> dict[str, Any]:
    return {
        "id": letter.id,
        "died_at": letter.died_at,
        "status": letter.status,
        "http_status": letter.result.http_status,
        "function": letter.function,
        "url": letter.url,
        "host": letter.host,
        "tags": letter.tags,
        "tries": letter.tries,
        "error": letter.error,
    }


def _plain(value: Any, secrets: bool) -> Any:
    """What came off the wire, as JSON can hold it, a secret header's value wherever it stands in it hidden."""
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
    """Bytes that name a secret header, in whatever form, are hidden as a whole: nobody knows where its value ends."""
    if not secrets and any(name.encode() in data.lower() for name in SECRET_HEADERS):
        return Excerpt(size=size, hidden=HIDDEN)
    shown = data[:MAX_EXCERPT_BYTES]
    try:
        text = shown.decode("utf-8")
    except UnicodeDecodeError:
        return Excerpt(size=size, base64=base64.b64encode(shown).decode(), cut=len(shown) < size)
    return Excerpt(size=size, text=text, cut=len(shown) < size)
