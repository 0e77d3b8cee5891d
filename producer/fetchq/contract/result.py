"""What came of a fetch."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec

from fetchq.errors import FETCH_ERRORS

from .charset import decode_text
from .status import FetchStatus


class Attempt(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One try: when it began, how it ended and how long it took.

    WORKER_LOST: a run that was cut off with its worker, or by its worker's stop, and left nothing behind.
    """

    started_at: datetime
    """Of one that was lost: when the loss was found."""
    status: FetchStatus
    http_status: int | None = None
    duration_s: float = 0.0
    error: str | None = None


class Redirect(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One hop: the URL that answered and the status code that sent us on."""

    url: str
    http_status: int


class Timing(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Seconds spent in each phase of the last attempt, summed over its redirects. None: there was no such phase."""

    queued_s: float | None = None
    """From when the job was due to when the first attempt began."""
    dns_s: float | None = None
    connect_s: float | None = None
    tls_s: float | None = None
    first_byte_s: float | None = None
    """From the request's being sent to the answer's head."""
    total_s: float | None = None


class FetchResult(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The end of a fetch, good or bad: a fetch that fails is a result, not an exception.

    Lenient: fields that a later version adds are ignored.
    """

    id: str = ""
    """The job's id; empty when the fetch was no job."""
    url: str
    final_url: str | None = None
    """Where the redirects ended; None when nothing answered."""
    status: FetchStatus
    http_status: int | None = None
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    """Decoded: gzip, deflate, br and zstd are undone."""
    body_size: int = 0
    """Of `body`, in bytes."""
    body_sha256: str | None = None
    """Of `body`, in hexadecimal; None when there was no answer."""
    media_type: str | None = None
    """From Content-Type, lower case, without parameters."""
    charset: str | None = None
    """From Content-Type, as sent; where that names no encoding, what was found in a body of text."""
    from_cache: bool = False
    """Whether the answer is a stored one: fresh, found good by the server, or in place of a server that failed."""
    redirects: tuple[Redirect, ...] = ()
    attempts: tuple[Attempt, ...] = ()
    timing: Timing = Timing()
    error: str | None = None
    """A sentence for a person; None when all went well."""
    fetched_at: datetime | None = None

    @property
    def ok(self) -> bool:
        """Whether the fetch ended as wished: OK or NOT_MODIFIED."""
        return self.status not in FETCH_ERRORS

    @property
    def text(self) -> str:
        """The body as text, by its byte order mark, else by `charset`, else as UTF-8; errors are replaced."""
        return decode_text(self.body, self.charset)

    @property
    def data(self) -> Any:
        """The body by its media type: JSON as objects, other text as `str`, all else as `bytes`.

        JSON that does not parse is given as text, and `data_error` says so.
        """
        if self._is_json:
            try:
                return self._parsed()
            except (msgspec.DecodeError, RecursionError):
                return self.text
        return self.text if self.is_text else self.body

    @property
    def data_error(self) -> str | None:
        """Why `data` is not what the media type promises: a sentence for a person; None when it is."""
        if self._is_json:
            try:
                self._parsed()
            except msgspec.DecodeError as problem:
                return f"the body is not JSON: {problem}"
            except RecursionError:
                return "the body is not JSON that can be read: it is nested too deep"
        return None

    @property
    def _is_json(self) -> bool:
        """MIME sniffing standard, "JSON MIME type"; an answer without a body promises nothing."""
        media_type = self.media_type or ""
        return bool(self.body) and (media_type in ("application/json", "text/json") or media_type.endswith("+json"))

    def _parsed(self) -> Any:
        return msgspec.json.decode(self.text)

    @property
    def is_text(self) -> bool:
        """Whether the media type is one of text: JSON, XML, scripts and all of `text/`."""
        media_type = self.media_type or ""
        return media_type.startswith("text/") or media_type.endswith(("+json", "+xml")) or media_type in _TEXT_TYPES

    def raise_for_status(self) -> FetchResult:
        """Itself when `ok`, else raises the `FetchError` that stands for `status`."""
        if self.ok:
            return self
        raise FETCH_ERRORS[self.status](self)


_TEXT_TYPES = frozenset(
    {
        "application/javascript",
        "application/json",
        "application/x-javascript",
        "application/x-ndjson",
        "application/xml",
    }
)
