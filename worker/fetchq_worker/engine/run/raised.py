"""What the user's code raised: whose exception it is, and what is reported of it.

A job's exception, of whatever class, ends its own run and is its result. Two kinds are not the job's: the
`KeyboardInterrupt` of a SIGINT that arrived while the job had control, and the `GeneratorExit` of a coroutine that the
interpreter closes after its event loop has ended.
"""

from __future__ import annotations

import asyncio
import dis
import pickle
from types import TracebackType
from typing import Any, Final

from arq.worker import JobExecutionFailed

from fetchq.contract.wire import as_failure
from fetchq.logs.text import NOT_SHOWN, trace_of

_RAISING: Final = frozenset({dis.opmap["RAISE_VARARGS"], dis.opmap["RERAISE"]})


def is_the_jobs(problem: BaseException, task: asyncio.Task[None] | None) -> bool:
    """Whether an exception that left the user's code, run by `task`, was raised by that code."""
    if isinstance(problem, KeyboardInterrupt):
        return _is_raised_by_a_statement(problem.__traceback__)
    if isinstance(problem, GeneratorExit):
        try:
            return task is None or asyncio.current_task() is task
        except RuntimeError:  # no event loop runs
            return False
    return True


def _is_raised_by_a_statement(trace: TracebackType | None) -> bool:
    """Whether a `raise` raised it. A signal interrupts any other instruction."""
    if trace is None:
        return False
    while trace.tb_next is not None:
        trace = trace.tb_next
    return trace.tb_frame.f_code.co_code[trace.tb_lasti] in _RAISING


def examinable(problem: BaseException) -> BaseException:
    """The exception; or one in its place, with its type and message, if its class does not let it be examined."""
    try:
        isinstance(problem, asyncio.CancelledError)  # may call a property `__class__`
        problem.__cause__, problem.__context__, problem.__suppress_context__, problem.__traceback__  # noqa: B018
    except BaseException as failure:  # noqa: BLE001 - the user's class may raise anything
        instead = RuntimeError(f"{told(problem)} (its class does not let it be examined: {told(failure)})")
        return instead.with_traceback(_traceback_of(problem))
    return problem


_traceback_of: Final = vars(BaseException)["__traceback__"].__get__


def own_cancellation(problem: asyncio.CancelledError, of: str = "the job") -> RuntimeError:
    """The failure of a job (or a hook) that raised `CancelledError` and was not cancelled.

    Not a `CancelledError`: that would say that a client cancelled the job, and `Job.result()` would raise it into the
    caller's task.
    """
    message = as_failure(problem)["message"]
    failure = RuntimeError(f"{of} raised CancelledError, but was not cancelled{f': {message}' if message else ''}")
    return failure.with_traceback(problem.__traceback__)


def tries_exceeded(max_tries: int, last: BaseException | None = None, *, is_lost: bool = False) -> JobExecutionFailed:
    """The failure of a job whose last try ended in `last`, a request to retry; or was lost with its worker."""
    message = f"max {max_tries} retries exceeded"
    if is_lost:
        return JobExecutionFailed(f"{message}: the last run has no outcome, its worker was lost")
    cause = None
    if last is not None:
        cause = last.__cause__ or (None if last.__suppress_context__ else last.__context__)
    return JobExecutionFailed(message if cause is None else f"{message}: {told(cause)}")


def told(problem: BaseException) -> str:
    """Type and message on one line."""
    failure = as_failure(problem)
    return f"{failure['type']}: {failure['message']}" if failure["message"] else failure["type"]


def escaped_trace(problem: BaseException) -> str | None:
    """The traceback as text, if `logging` cannot show it or a log file could not encode it as it is; else None."""
    text = trace_of(problem, problem.__traceback__)
    escaped = text.encode("utf-8", "backslashreplace").decode()
    return None if escaped == text and NOT_SHOWN not in text else escaped


def readable(value: Any, *, pickled: bool) -> Any:
    """A failure in a form that every stock `Job.result()` can read and raise; `pickled`: from a pickle."""
    if not isinstance(value, BaseException):
        return value
    if isinstance(value, Exception | asyncio.CancelledError) and not (pickled and not _survives_pickle(value)):
        return value
    return RuntimeError(told(value))


def _survives_pickle(problem: BaseException) -> bool:
    """Many classes take other arguments than they pass on: those are pickled, and cannot be read."""
    try:
        return isinstance(pickle.loads(pickle.dumps(problem)), BaseException)  # noqa: S301 - what was just pickled
    except BaseException:  # noqa: BLE001 - the user's class may raise anything
        return False
