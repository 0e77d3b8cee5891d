"""A worker's spans: `process` for each attempt of a job, and `GET` for the request of a fetch.

Source: OpenTelemetry's conventions for messaging and HTTP client spans (https://opentelemetry.io/docs/specs/semconv/).
As in `fetchq.telemetry.traces`, OpenTelemetry is used only where the process has set it up, and what it raises is
logged: no job fails by it. A job whose sender is not sampled has no spans.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from contextvars import ContextVar
from enum import IntEnum
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Protocol
from urllib.parse import urlsplit

from arq.worker import Retry, RetryJob

from fetchq import FetchResult, FetchStatus
from fetchq.contract.wire import FETCH_FUNCTION, as_failure
from fetchq.telemetry.trace_context import TraceContext, is_unsampled, parse_context
from fetchq.telemetry.traces import FailuresLogged, find_api, find_tracer, messaging_attributes, server_attributes
from fetchq_worker.settings import TraceParent

from .events import AttemptEnded

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.trace import Span, Tracer

Call = Callable[..., Coroutine[Any, Any, Any]]

KNOWN_METHODS: Final = frozenset({"DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "QUERY"})
"""Of the methods that the conventions know, those that a fetch can have."""
MAX_MESSAGE_CHARS: Final = 1000
_SUCCESSES: Final = frozenset({FetchStatus.OK, FetchStatus.NOT_MODIFIED})
_DEFAULT_PORTS: Final = {"https": 443, "http": 80}


class TracedLease(Protocol):
    @property
    def id(self) -> str: ...
    @property
    def cancel_reason(self) -> IntEnum | None: ...


class TracedJob(Protocol):
    """A leased job (`engine.run.job.Job`)."""

    @property
    def lease(self) -> TracedLease: ...
    @property
    def name(self) -> str: ...
    @property
    def tries(self) -> int: ...
    @property
    def start_ms(self) -> int: ...
    @property
    def wait_s(self) -> float: ...
    @property
    def traceparent(self) -> object: ...
    @property
    def tracestate(self) -> object: ...


_process: ContextVar[Span | None] = ContextVar("fetchq_process_span", default=None)
"""The `process` span of the job that runs in this context."""


class JobTraces:
    """Makes the spans of one worker."""

    def __init__(self, tracer: Tracer, *, queue: str, redis: str, parent: TraceParent) -> None:
        """`redis` is its address as `address_of` gives it."""
        self._tracer: Final = tracer
        self._name: Final = f"process {queue}"
        self._attributes: Final = messaging_attributes(queue, "process") | server_attributes(redis)
        self._parent: Final = parent

    @classmethod
    def find(cls, *, queue: str, redis: str, parent: TraceParent) -> JobTraces | None:
        """None if the process has not set up OpenTelemetry."""
        with FailuresLogged("process"):
            tracer = find_tracer()
            return None if tracer is None else cls(tracer, queue=queue, redis=redis, parent=parent)
        return None

    def around(self, call: Call, job: TracedJob) -> Call:
        """`call`, the coroutine function of the job, within the span of this attempt if that is sampled.

        The span is current while the coroutine runs, so that spans of the user's are its children. If it is not
        sampled, theirs are not either.
        """
        is_fetch = job.name == FETCH_FUNCTION
        unsampled = is_unsampled(job.traceparent)
        if unsampled and is_fetch:
            return call
        with FailuresLogged("process"):
            span = _remote_span(parse_context(job.traceparent)) if unsampled else self._start(job)
            if span is not None and span.is_recording():
                return partial(_run_traced, call, job, span)
            if span is not None and not is_fetch:
                return partial(_run_within, call, span)
        return call

    def _start(self, job: TracedJob) -> Span:
        api = find_api()
        links, context = [], _empty_context()
        sender = _remote_span(parse_context(job.traceparent, job.tracestate))
        if sender is not None and self._parent is TraceParent.CHILD:
            context = api.set_span_in_context(sender, context)
        elif sender is not None:
            links.append(api.Link(sender.get_span_context()))
        return self._tracer.start_span(
            self._name,
            context,
            kind=api.SpanKind.CONSUMER,
            attributes={
                **self._attributes,
                "messaging.message.id": job.lease.id,
                "fetchq.function": job.name,
                "fetchq.try": job.tries,
                "fetchq.wait_s": job.wait_s,
            },
            links=links,
            start_time=job.start_ms * 1_000_000,
        )

    def wants_attempt(self) -> bool:
        """Whether the current span is sampled: then `add_attempt` makes the span of an attempt that ended."""
        return bool(find_api().get_current_span().is_recording())

    def add_attempt(self, event: AttemptEnded) -> None:
        """The span of an attempt's request, from its timing; and what the attempt means for the span of its job."""
        with FailuresLogged(event.method):
            self._add_request(event)
            process = _process.get()
            if process is not None and event.job_id:
                process.set_attribute("fetchq.attempt", event.number)
                if event.attempt.status not in _SUCCESSES:
                    _set_error(process, event.attempt.status, event.attempt.error or "")

    def _add_request(self, event: AttemptEnded) -> None:
        attempt, timing = event.attempt, event.timing
        method = event.method if event.method in KNOWN_METHODS else "_OTHER"
        url = urlsplit(event.url)
        attributes: dict[str, Any] = {
            "http.request.method": method,
            "server.address": event.host,
            "server.port": url.port or _DEFAULT_PORTS.get(url.scheme, 0),
            "url.full": event.url,
            **{
                name: value
                for name, value in (
                    ("http.request.method_original", None if method == event.method else event.method),
                    ("http.request.resend_count", event.number - 1 or None),
                    ("http.response.status_code", attempt.http_status),
                    ("fetchq.redirects", event.redirects or None),
                    ("fetchq.from_cache", event.from_cache or None),
                    ("fetchq.dns_s", timing.dns_s),
                    ("fetchq.connect_s", timing.connect_s),
                    ("fetchq.tls_s", timing.tls_s),
                    ("fetchq.first_byte_s", timing.first_byte_s),
                )
                if value is not None
            },
        }
        start_ns = round(attempt.started_at.timestamp() * 1_000_000) * 1000
        span = self._tracer.start_span(
            "HTTP" if method == "_OTHER" else method,
            kind=find_api().SpanKind.CLIENT,
            attributes=attributes,
            start_time=start_ns,
        )
        if attempt.status not in _SUCCESSES:
            # The reason is told by the status code, if there is one.
            _set_error(span, attempt.status, "" if attempt.http_status else attempt.error or "")
        span.end(start_ns + round((attempt.duration_s or 0) * 1e9))


async def _run_traced(call: Call, job: TracedJob, span: Span, /, *args: Any, **kwargs: Any) -> Any:
    api, context = find_api(), _context_api()
    token = context.attach(api.set_span_in_context(span))
    process = _process.set(span)
    try:
        value = await call(*args, **kwargs)
    except BaseException as problem:
        _tell_exception(span, job, problem)
        raise
    else:
        if job.name == FETCH_FUNCTION and isinstance(value, FetchResult) and not value.ok:
            _set_error(span, value.status, value.error or "")
        return value
    finally:
        _process.reset(process)
        context.detach(token)
        with FailuresLogged("process"):
            span.end()


async def _run_within(call: Call, span: Span, /, *args: Any, **kwargs: Any) -> Any:
    """Runs `call` with a span that is not sampled as the current one."""
    context = _context_api()
    token = context.attach(find_api().set_span_in_context(span))
    try:
        return await call(*args, **kwargs)
    finally:
        context.detach(token)


def _tell_exception(span: Span, job: TracedJob, problem: BaseException) -> None:
    if isinstance(problem, Retry | RetryJob):  # another attempt follows: that is no failure of this one
        span.set_attribute("fetchq.retry_in_s", (getattr(problem, "defer_score", None) or 0) / 1000)
        return
    told = as_failure(problem)
    kind, reason = told["type"], job.lease.cancel_reason
    if kind == "CancelledError" and reason is not None and reason.name == "TIMEOUT":
        kind = "TimeoutError"
    with FailuresLogged("process"):  # the class is the user's
        span.record_exception(problem)
    _set_error(span, kind, told["message"])


def _set_error(span: Span, kind: str, message: str) -> None:
    span.set_attribute("error.type", str(kind))
    span.set_status(find_api().StatusCode.ERROR, message[:MAX_MESSAGE_CHARS] or None)


def _remote_span(context: TraceContext | None) -> Span | None:
    """The sender's span, as the API represents one of another process."""
    if context is None:
        return None
    api = find_api()
    state = api.TraceState.from_header([context.state]) if context.state else None
    found = api.SpanContext(context.trace_id, context.span_id, True, api.TraceFlags(context.flags), state)
    span: Span = api.NonRecordingSpan(found)
    return span


def _context_api() -> Any:
    from opentelemetry import context  # noqa: PLC0415 - the process has imported it already

    return context


def _empty_context() -> Context:
    empty: Context = _context_api().Context()
    return empty
