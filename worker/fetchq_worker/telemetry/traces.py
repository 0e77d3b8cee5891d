"""A worker's spans: `process` for each attempt of a job, and `GET` for the request of a fetch.

Source: OpenTelemetry's conventions for messaging and HTTP client spans (https://opentelemetry.io/docs/specs/semconv/).
As in `fetchq.telemetry.traces`, OpenTelemetry is used only where the process has set it up, and what it raises is
logged: no job fails by it. A job whose sender is not sampled has no spans.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from contextvars import ContextVar
from enum import IntEnum
from functools import cache, partial
from threading import Thread
from typing import TYPE_CHECKING, Any, Final, Protocol
from urllib.parse import urlsplit

from arq.worker import Retry, RetryJob

from fetchq import FetchResult, FetchStatus
from fetchq.contract.wire import FETCH_FUNCTION, as_failure
from fetchq.telemetry.trace_context import TraceContext, is_unsampled, parse_context
from fetchq.telemetry.traces import FailuresLogged, find_api, find_tracer, messaging_attributes, server_attributes

from .events import AttemptEnded

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.trace import Span, SpanContext, Tracer

Call = Callable[..., Coroutine[Any, Any, Any]]

KNOWN_METHODS: Final = frozenset({"DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "QUERY"})
"""Of the methods that the conventions know, those that a fetch can have."""
DROPS_ROOTS: Final = ("AlwaysOffSampler", "ParentBased{root:AlwaysOffSampler,")
"""How descriptions of samplers that sample no root span begin."""
FLUSH_S: Final = 3.0
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

    def __init__(self, tracer: Tracer, *, queue: str, redis: str, as_child: bool) -> None:
        """`redis` is its address as `address_of` gives it; `as_child`: spans are children of their senders'."""
        self._tracer: Final = tracer
        self._name: Final = f"process {queue}"
        self._attributes: Final = messaging_attributes(queue, "process") | server_attributes(redis)
        self._as_child: Final = as_child
        self._api: Final = find_api()
        self._context: Final = _context_api()
        self._no_context: Final = self._context.Context()
        self._current_span: Final = self._api.get_current_span
        sampler = getattr(tracer, "sampler", None)  # the SDK's tracers have one
        self._drops_roots: Final = sampler is not None and sampler.get_description().startswith(DROPS_ROOTS)
        """Whether no job without a sender is sampled, nor any span that its coroutine makes."""
        self._sender_class: Final = _sender_class()
        self._unsampled: tuple[object, Context] = (None, self._no_context)
        """The last sender that is not sampled, and a context with its span."""

    @classmethod
    def find(cls, *, queue: str, redis: str, as_child: bool) -> JobTraces | None:
        """None if the process has not set up OpenTelemetry."""
        with FailuresLogged("process"):
            tracer = find_tracer()
            return None if tracer is None else cls(tracer, queue=queue, redis=redis, as_child=as_child)
        return None

    def around(self, call: Call, job: TracedJob) -> Call:
        """`call`, the coroutine function of the job, within the span of this attempt if that is sampled.

        The span is current while the coroutine runs, so that spans of the user's are its children. If it is not
        sampled, theirs are not either.
        """
        if job.traceparent is None and self._drops_roots:
            return call
        if is_unsampled(job.traceparent):
            if job.name != FETCH_FUNCTION:  # a fetch makes no calls that could be traced
                self._continue_unsampled(job)
            return call
        with FailuresLogged("process"):
            span = self._start(job)
            if span.is_recording():
                return partial(_run_traced, call, job, span)
            if job.name != FETCH_FUNCTION:
                self._context.attach(self._api.set_span_in_context(span))
        return call

    async def flush(self) -> None:
        """Waits until the SDK has exported what it holds, at most `FLUSH_S`: a stopped process has to exit at once."""
        flush = getattr(self._api.get_tracer_provider(), "force_flush", None)
        if flush is None:  # the provider is not the SDK's
            return
        loop, done = asyncio.get_running_loop(), asyncio.Event()

        def flush_and_tell() -> None:
            with FailuresLogged("process"):
                flush()
            with suppress(RuntimeError):  # the loop was closed meanwhile
                loop.call_soon_threadsafe(done.set)

        # A daemon, since an exporter can wait for long where its collector does not answer.
        Thread(target=flush_and_tell, name="fetchq-flush-spans", daemon=True).start()
        with suppress(TimeoutError):
            async with asyncio.timeout(FLUSH_S):
                await done.wait()

    def _continue_unsampled(self, job: TracedJob) -> None:
        """Makes the sender's span the current one for the rest of the run, which has a context of its own."""
        if job.traceparent != self._unsampled[0]:  # the jobs of a batch have the same
            sender = self._sender_class(job.traceparent, job.tracestate)
            self._unsampled = (job.traceparent, self._api.set_span_in_context(sender, self._no_context))
        self._context.attach(self._unsampled[1])

    def _start(self, job: TracedJob) -> Span:
        api, context, linked = self._api, None, []
        sender = parse_context(job.traceparent, job.tracestate)
        if sender is not None and self._as_child:
            linked.append(self._current_span().get_span_context())  # of a tool of the user's, around the run
            context = api.set_span_in_context(api.NonRecordingSpan(_span_context(sender)))
        elif sender is not None:
            linked.append(_span_context(sender))
        span = self._tracer.start_span(
            self._name,
            context,
            kind=api.SpanKind.CONSUMER,
            attributes=self._attributes,
            links=[api.Link(each) for each in linked if each.is_valid],
            start_time=job.start_ms * 1_000_000,
        )
        if span.is_recording():
            span.set_attribute("messaging.message.id", job.lease.id)
            span.set_attribute("fetchq.function", job.name)
            span.set_attribute("fetchq.try", job.tries)
            span.set_attribute("fetchq.wait_s", job.wait_s)
        return span

    def wants_attempt(self) -> bool:
        """Whether the current span is sampled: then `add_attempt` makes the span of an attempt that ended."""
        return bool(self._current_span().is_recording())

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


def _tell_exception(span: Span, job: TracedJob, problem: BaseException) -> None:
    if isinstance(problem, Retry | RetryJob):  # another attempt follows: that is no failure of this one
        span.set_attribute("fetchq.retry_in_s", (getattr(problem, "defer_score", None) or 0) / 1000)
        return
    told = as_failure(problem)
    kind, reason = told["type"], job.lease.cancel_reason
    if kind == "CancelledError" and reason is not None and reason.name == "TIMEOUT":
        kind = "TimeoutError"
    elif kind == "CancelledError" and reason is not None and reason.name == "ABORT" and job.name == FETCH_FUNCTION:
        kind = FetchStatus.CANCELLED
    with FailuresLogged("process"):  # the class is the user's
        span.record_exception(problem)
    _set_error(span, kind, told["message"])


def _set_error(span: Span, kind: str, message: str) -> None:
    span.set_attribute("error.type", str(kind))
    span.set_status(find_api().StatusCode.ERROR, message[:MAX_MESSAGE_CHARS] or None)


@cache
def _sender_class() -> Callable[[object, object], Span]:
    """The API's class of a span of another process, except that its context is parsed when it is asked for.

    Spans that are not sampled are seldom asked.
    """
    from opentelemetry.trace import INVALID_SPAN_CONTEXT, NonRecordingSpan  # noqa: PLC0415

    class SenderSpan(NonRecordingSpan):
        def __init__(self, traceparent: object, tracestate: object) -> None:
            super().__init__(INVALID_SPAN_CONTEXT)
            self._carried: tuple[object, object] | None = (traceparent, tracestate)

        def get_span_context(self) -> SpanContext:
            if self._carried is not None:
                found = parse_context(*self._carried)
                self._context = INVALID_SPAN_CONTEXT if found is None else _span_context(found)
                self._carried = None
            return self._context

    return SenderSpan


def _span_context(context: TraceContext) -> SpanContext:
    api = find_api()
    state = api.TraceState.from_header([context.state]) if context.state else None
    flags = api.TraceFlags(context.flags)
    found: SpanContext = api.SpanContext(context.trace_id, context.span_id, True, flags, state)
    return found


def _context_api() -> Any:
    from opentelemetry import context  # noqa: PLC0415 - the process has imported it already

    return context
