"""A dead letter: what is kept of a job that failed for good (docs/job-contract.md, "A dead letter")."""

from __future__ import annotations

from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Final

import ada_url
import msgspec

from fetchq.contract import wire
from fetchq.errors import FetchqError, WireError

from .request import FetchRequest
from .result import FetchResult
from .status import FetchStatus

STRING: Final = "string"
"""What Redis calls the type of a key that can hold a job."""


class RetryOutcome(StrEnum):
    """What came of asking for a dead letter's job to be run again."""

    RETRIED = "retried"
    """It is on the queue, under its old id, and the letter is gone."""
    ACTIVE = "active"
    """There is such a job on the queue again already, or it has died anew since the letter was read."""
    INCOMPLETE = "incomplete"
    """The letter does not hold all of the payload: it was too long, of another type than a string, or gone."""
    NOT_FOUND = "not_found"


class DeadLetter(msgspec.Struct, frozen=True, kw_only=True):
    """A job that failed for good, with its request, its attempts and its error."""

    id: str
    """The job's. A job that is retried keeps it."""
    died_at: datetime
    """By Redis's clock."""
    function: str
    """The coroutine's name; `<unknown>` where the payload does not say."""
    tries: int
    """How often a worker had started the job."""
    result: FetchResult
    """How it ended, without the headers, the body and the redirects of an answer; of a job that was no fetch, the error
    alone."""
    job: dict[str, Any] | None
    """The job as it was enqueued (`f`, `a`, `k`, ...); None: the payload is none that this version reads."""
    payload: bytes
    """The job's key as it stood in Redis: its value, or what DUMP gives for a `kind` that is no string; cut where it is
    shorter than `payload_bytes`."""
    payload_bytes: int
    kind: str
    """The type of that key: `string` for a job, `none` if it was gone."""

    def __repr__(self) -> str:  # a request's headers are not to stand in a log
        return f"<DeadLetter {self.id} {self.status} {self.died_at:%Y-%m-%dT%H:%M:%SZ}>"

    @property
    def status(self) -> FetchStatus:
        return self.result.status

    @property
    def error(self) -> str | None:
        return self.result.error

    @property
    def whole(self) -> bool:
        """Whether the payload is all there, so that the job can be run again."""
        return self.kind == STRING and len(self.payload) == self.payload_bytes

    @property
    def request(self) -> FetchRequest | None:
        """The fetch that was asked for; None: it was none, or one that breaks the contract."""
        try:
            return None if self._request is None else wire.decode_request(self._request)
        except FetchqError:
            return None

    @property
    def url(self) -> str | None:
        """The URL that was asked for, as it stands in the request, good or not."""
        url = (self._request or {}).get("url")
        return url if isinstance(url, str) else None

    @property
    def host(self) -> str | None:
        """The host of the URL, as browsers write it."""
        return None if self.url is None else host_of(self.url)

    @property
    def tags(self) -> tuple[str, ...]:
        tags = (self._request or {}).get("tags", ())
        return tuple(tag for tag in tags if isinstance(tag, str)) if isinstance(tags, list) else ()

    @property
    def _request(self) -> dict[str, Any] | None:
        """The request as it was sent, whether it keeps the contract or not."""
        if self.job is None or self.job["f"] != wire.FETCH_FUNCTION or not self.job["a"]:
            return None
        request = self.job["a"][0]
        return request if isinstance(request, dict) else None


class _Letter(msgspec.Struct, array_like=True):
    payload: bytes
    kind: str
    payload_bytes: int
    said: msgspec.Raw


class _Said(msgspec.Struct, rename={"function": "f", "tries": "t", "success": "s", "value": "r"}):
    function: str
    tries: int
    success: bool
    value: msgspec.Raw


_letter_decoder: Final = msgspec.msgpack.Decoder(_Letter)
_said_decoder: Final = msgspec.msgpack.Decoder(_Said)


def decode_letter(job_id: str, ended_ms: int, data: bytes | None) -> DeadLetter:
    """The letter in `data`. One that cannot be read is a letter that says so: it can still be purged."""
    died_at = datetime.fromtimestamp(ended_ms / 1000, UTC)
    try:
        letter = _letter_decoder.decode(data or b"")
        said = _said_decoder.decode(letter.said)
        job = _job_in(letter)
        result = _result_of(job_id, said, job)
    except (WireError, msgspec.DecodeError) as problem:
        error = f"the letter cannot be read: {problem}"
        result = FetchResult(id=job_id, url="", status=FetchStatus.INTERNAL_ERROR, error=error)
        return DeadLetter(
            id=job_id, died_at=died_at, function="<unknown>", tries=0, result=result, job=None, payload=data or b"",
            payload_bytes=0, kind="none",
        )  # fmt: skip
    return DeadLetter(
        id=job_id,
        died_at=died_at,
        function=said.function,
        tries=said.tries,
        result=result,
        job=job,
        payload=letter.payload,
        payload_bytes=letter.payload_bytes,
        kind=letter.kind,
    )


def payload_for_retry(letter: DeadLetter) -> bytes:
    """The payload to put on the queue in place of the letter's own; empty: that will do.

    Tries that a client claimed for its job are forgotten, and so is a deadline: it has passed or soon will have, and a
    job that expired because of it would be lost without another letter.
    """
    job = letter.job
    if job is None or not letter.whole:
        return b""
    request = letter._request
    limited = request is not None and request.get("deadline") is not None
    if not limited and job["t"] is None:
        return b""
    if request is not None and limited:
        rest = {name: value for name, value in request.items() if name != "deadline"}
        job = {**job, "a": [rest, *job["a"][1:]]}
    return wire.serialize({**job, "t": None})


def host_of(url: str) -> str | None:
    """The host in a URL; None: it is no URL, or has none."""
    try:
        return ada_url.URL(url).hostname or None
    except ValueError:
        return None


def _job_in(letter: _Letter) -> dict[str, Any] | None:
    if letter.kind != STRING or len(letter.payload) != letter.payload_bytes:
        return None
    try:
        job = wire.deserialize(letter.payload)
    except WireError:
        return None
    return None if "s" in job else job


def _result_of(job_id: str, said: _Said, job: dict[str, Any] | None) -> FetchResult:
    if said.success and said.function != wire.FETCH_FUNCTION:
        value = msgspec.msgpack.decode(said.value)
        error = value if isinstance(value, str) else msgspec.json.encode(value).decode()
        return FetchResult(id=job_id, url="", status=FetchStatus.INTERNAL_ERROR, error=error)
    args = msgspec.Raw(b"\x90") if job is None else msgspec.Raw(msgspec.msgpack.encode(job["a"]))
    stored = wire.StoredResult(function=said.function, success=said.success, value=said.value, args=args)
    return wire.decode_result(stored, job_id)
