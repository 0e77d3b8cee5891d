"""The `send` span of an enqueue, by OpenTelemetry's conventions for messaging.

Source: https://opentelemetry.io/docs/specs/semconv/messaging/messaging-spans/. OpenTelemetry is not imported here: a
process that has set up its SDK has imported it already, and in any other process there is nothing to do. A failure of
the SDK, or of a span processor of the user's, is logged and never raised.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Mapping
from importlib.metadata import version
from time import monotonic
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

from .trace_context import carried

if TYPE_CHECKING:
    from contextvars import Token

    from opentelemetry.context import Context
    from opentelemetry.trace import Span, SpanContext, Tracer

SCOPE: Final = "fetchq"
"""The instrumentation scope of all spans, of producers and workers."""
SYSTEM: Final = "fetchq"
"""`messaging.system`."""
SCHEMA_URL: Final = "https://opentelemetry.io/schemas/1.44.0"
QUIET_S: Final = 60.0
BATCH_COUNT: Final = "messaging.batch.message_count"
NO_FIELDS: Final[Mapping[str, str]] = {}

logger = logging.getLogger("fetchq.traces")

_IS_NAMED: Final = "OTEL_PYTHON_TRACER_PROVIDER" in os.environ
"""The first `get_tracer_provider` makes a provider of this name."""
_found: tuple[object, Tracer | None] = (None, None)
"""The provider that was used last, and its tracer."""


class FailuresLogged:
    """`with FailuresLogged("send"):` logs and drops an exception, which the SDK or a processor of the user's raises.

    At most one in `QUIET_S` is logged: it may be the same for each job.
    """

    __slots__ = ("_span",)
    _last_at = float("-inf")

    def __init__(self, span: str) -> None:
        self._span = span

    def __enter__(self) -> None:
        """Nothing to set up."""

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> bool:
        if not isinstance(problem, Exception):
            return False
        now = monotonic()
        if now - FailuresLogged._last_at >= QUIET_S:
            FailuresLogged._last_at = now
            logger.error("traces.failed span=%s", self._span, exc_info=problem)
        return True


def find_api() -> Any:
    """The module `opentelemetry.trace`, if this process has imported it."""
    return sys.modules.get("opentelemetry.trace")


def find_tracer() -> Tracer | None:
    """The tracer of the provider that this process has set up; None: there is none."""
    global _found  # noqa: PLW0603 - a cache
    api = find_api()
    if api is None:
        return None
    if getattr(api, "_TRACER_PROVIDER", api) is None and not _IS_NAMED:
        return None  # what `get_tracer_provider` finds too, but reading the environment takes it a microsecond
    provider = api.get_tracer_provider()
    if provider is not _found[0]:
        tracer = None
        if not isinstance(provider, api.ProxyTracerProvider | api.NoOpTracerProvider):
            tracer = provider.get_tracer(SCOPE, version("fetchq"), schema_url=SCHEMA_URL)
        _found = (provider, None if isinstance(tracer, api.NoOpTracer) else tracer)  # as with OTEL_SDK_DISABLED
    return _found[1]


def fields_of(context: SpanContext) -> Mapping[str, str]:
    """What a job carries of the span that enqueues it."""
    if not context.is_valid:
        return NO_FIELDS
    state = context.trace_state.to_header() if context.trace_state else ""
    return carried(context.trace_id, context.span_id, context.trace_flags, state)


def messaging_attributes(queue: str, operation: str) -> dict[str, Any]:
    return {
        "messaging.system": SYSTEM,
        "messaging.destination.name": queue,
        "messaging.operation.name": operation,
        "messaging.operation.type": operation,
    }


def server_attributes(redis: str) -> dict[str, Any]:
    """The address of Redis, where it is known: not behind a sentinel."""
    host, _, port = redis.rpartition(":")
    if host and port.isdecimal():
        return {"server.address": host, "server.port": int(port)}
    return {"server.address": redis} if redis.startswith("/") else {}


class SendSpans:
    """Makes the `send` spans of one producer."""

    def __init__(self, *, queue: str, redis: str) -> None:
        """`redis` is its address, as `store.errors.address_of` gives it."""
        self._name: Final = f"send {queue}"
        self._attributes: Final = messaging_attributes(queue, "send") | server_attributes(redis)
        self._unsampled: tuple[SpanContext | None, Mapping[str, str]] = (None, NO_FIELDS)
        """The caller's span that was not sampled last, and its fields."""

    def start(self, count: int | None = None) -> SendSpan | None:
        """The span of one call to Redis; `count` is the number of jobs of a batch. None: nothing is traced.

        An unsampled span of the caller's is passed on to the jobs, and no span is made.
        """
        with FailuresLogged("send"):
            tracer = find_tracer()
            if tracer is None:
                return None
            api = find_api()
            current = api.get_current_span().get_span_context()
            if current.is_valid and not current.trace_flags.sampled:
                if current is not self._unsampled[0]:
                    self._unsampled = (current, fields_of(current))
                return SendSpan(None, self._unsampled[1])
            attributes = self._attributes if count is None else self._attributes | {BATCH_COUNT: count}
            span = tracer.start_span(self._name, kind=api.SpanKind.PRODUCER, attributes=attributes)
            return SendSpan(span if span.is_recording() else None, fields_of(span.get_span_context()))
        return None


class SendSpan:
    """One `send` span, current within `with`; or the context of an unsampled one."""

    __slots__ = ("_span", "_token", "fields")

    def __init__(self, span: Span | None, fields: Mapping[str, str]) -> None:
        self._span = span
        self._token: Token[Context] | None = None
        self.fields: Final = fields
        """What each of the jobs carries."""

    def __enter__(self) -> Self:
        if self._span is not None:
            from opentelemetry import context  # noqa: PLC0415 - imported by the process already

            self._token = context.attach(find_api().set_span_in_context(self._span))
        return self

    def set_job(self, job_id: str) -> None:
        """The id of the only job."""
        if self._span is not None:
            self._span.set_attribute("messaging.message.id", job_id)

    def set_problem(self, problem: BaseException | None) -> None:
        """Why some of the jobs are not on the queue."""
        if self._span is not None and problem is not None:
            self._span.set_attribute("error.type", type(problem).__qualname__)
            self._span.set_status(find_api().StatusCode.ERROR, str(problem))

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._span is None:
            return
        from opentelemetry import context  # noqa: PLC0415

        if self._token is not None:
            context.detach(self._token)
        self.set_problem(problem)
        with FailuresLogged("send"):
            self._span.end()
