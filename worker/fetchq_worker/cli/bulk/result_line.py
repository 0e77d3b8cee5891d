"""A result as one line of JSON."""

from __future__ import annotations

import os
from datetime import datetime
from pathlib import Path
from typing import Final, Literal

import msgspec
from msgspec import UNSET, UnsetType

from fetchq import Attempt, FetchResult, FetchStatus, Redirect, Timing
from fetchq.command.exit_status import CannotWrite, CommandFailed, ExitStatus

MAX_TEXT_BYTES: Final = 64 << 10
"""A text body up to this size is written in the line itself."""


class ResultLine(msgspec.Struct, frozen=True, kw_only=True):
    """A result as written. Fields without a value are null; `text`, `body_file` and `maybe_cut` can be absent."""

    id: str
    """The job's id; empty if the URL was refused before a job was made."""
    url: str
    """As given."""
    final_url: str | None
    status: FetchStatus
    http_status: int | None
    headers: tuple[tuple[str, str], ...]
    media_type: str | None
    body_size: int
    body_sha256: str | None
    text: str | UnsetType = UNSET
    """The body, if it is text of at most `MAX_TEXT_BYTES`."""
    body_file: str | UnsetType = UNSET
    """The path of the file that holds the body."""
    maybe_cut: Literal[True] | UnsetType = UNSET
    """Present if the body may lack its end."""
    from_cache: bool
    redirects: tuple[Redirect, ...]
    attempts: tuple[Attempt, ...]
    timing: Timing
    error: str | None
    fetched_at: datetime | None


_encoder: Final = msgspec.json.Encoder()


def encode_line(url: str, result: FetchResult, bodies: BodyFolder | None = None) -> bytes:
    """The line with its line end; a body that does not fit in it goes to `bodies`."""
    text: str | UnsetType = UNSET
    body_file: str | UnsetType = UNSET
    if len(result.body) <= MAX_TEXT_BYTES and result.is_text:
        text = result.text
    elif result.body and bodies is not None:
        body_file = bodies.write(result)
    line = ResultLine(
        id=result.id,
        url=url,
        final_url=result.final_url,
        status=result.status,
        http_status=result.http_status,
        headers=result.headers,
        media_type=result.media_type,
        body_size=result.body_size,
        body_sha256=result.body_sha256,
        text=text,
        body_file=body_file,
        maybe_cut=True if result.maybe_cut else UNSET,
        from_cache=result.from_cache,
        redirects=result.redirects,
        attempts=result.attempts,
        timing=result.timing,
        error=result.error,
        fetched_at=result.fetched_at,
    )
    return _encoder.encode(line) + b"\n"


class BodyFolder:
    """A folder of bodies, each in a file named by its SHA-256, so that equal bodies share a file.

    A file appears under its name complete or not at all. Methods raise `CommandFailed`.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            path.mkdir(parents=True, exist_ok=True)
            path.joinpath(f".{os.getpid()}.partial").touch()
            path.joinpath(f".{os.getpid()}.partial").unlink()
        except OSError as problem:
            why = "it is a file" if path.is_file() else problem.strerror
            raise CommandFailed(f"cannot write bodies to {path}: {why}", ExitStatus.USAGE) from problem

    def __repr__(self) -> str:
        return f"<BodyFolder {self._path}>"

    def write(self, result: FetchResult) -> str:
        """Writes the body of `result`, unless its file exists; returns the path."""
        if result.body_sha256 is None or not _HEX.issuperset(result.body_sha256):
            raise ValueError(f"result {result.id} has a body without a SHA-256")
        path = self._path / result.body_sha256
        try:
            if not (path.is_file() and path.stat().st_size == len(result.body)):
                partial = path.with_suffix(f".{os.getpid()}.partial")
                try:
                    partial.write_bytes(result.body)
                    partial.replace(path)
                finally:
                    partial.unlink(missing_ok=True)
        except OSError as problem:
            raise CannotWrite(str(path), problem) from problem
        return str(path)


_HEX: Final = frozenset("0123456789abcdef")
