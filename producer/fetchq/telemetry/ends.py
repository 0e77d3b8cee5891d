"""Under which field the end of a job is counted (`figures`)."""

from __future__ import annotations

import asyncio
from functools import lru_cache
from typing import Final

from fetchq.contract.result import FetchResult
from fetchq.contract.status import FetchStatus
from fetchq.contract.wire import FETCH_FUNCTION, status_of_failure

from .figures import FETCH, FUNCTION, OTHER

MAX_NAME_CHARS: Final = 200
"""A function with a longer name, which only a payload can have, counts as one of the others."""
UNKNOWN_FUNCTION: Final = "<unknown>"
FETCH_FIELDS: Final = {status: f"{FETCH}{status}" for status in FetchStatus}


def end_field(function: str | None, *, success: bool, value: object) -> str:
    """The field of a job's end. `value` is what its coroutine returned, or, without `success`, the exception.

    `function` is a name that a worker has registered, so that no name from a payload becomes a field. None: the job
    cannot be decoded, or names another function. It counts as a fetch, with the status that `decode_result` gives it.
    """
    if function is None or function == FETCH_FUNCTION:
        return FETCH_FIELDS[_status_of(value)]
    if success:
        return function_field("ok", function)
    return function_field("cancelled" if isinstance(value, asyncio.CancelledError) else "failed", function)


def cancelled_field(function: object) -> str:
    """The field of a job that is cancelled while it waits. `function` is what its payload names, if it can be read."""
    if not isinstance(function, str) or function in (FETCH_FUNCTION, UNKNOWN_FUNCTION):
        return FETCH_FIELDS[FetchStatus.CANCELLED]
    return f"{FUNCTION}cancelled:{function if 0 < len(function) <= MAX_NAME_CHARS else OTHER}"


@lru_cache(maxsize=512)
def function_field(end: str, function: str) -> str:
    """The field of a user's own function; `end` is `ok`, `failed` or `cancelled`."""
    return f"{FUNCTION}{end}:{function}"


def _status_of(value: object) -> FetchStatus:
    if isinstance(value, FetchResult):
        return value.status
    return status_of_failure(value) if isinstance(value, BaseException) else FetchStatus.INTERNAL_ERROR
