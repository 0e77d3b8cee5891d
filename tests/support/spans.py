"""OpenTelemetry's SDK for a test: finished spans are kept in memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_ON, ParentBased, Sampler
from opentelemetry.trace import SpanContext
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator


class Spans:
    """The spans of one provider."""

    def __init__(self, provider: TracerProvider) -> None:
        self.provider = provider
        self._exporter = InMemorySpanExporter()
        provider.add_span_processor(SimpleSpanProcessor(self._exporter))

    @property
    def tracer(self) -> trace.Tracer:
        """That of the code under observation."""
        return self.provider.get_tracer("test")

    def all(self) -> list[ReadableSpan]:
        """In the order of their ends."""
        return list(self._exporter.get_finished_spans())

    def named(self, prefix: str) -> list[ReadableSpan]:
        return [span for span in self.all() if span.name.startswith(prefix)]

    def one(self, prefix: str) -> ReadableSpan:
        [span] = self.named(prefix)
        return span


@contextmanager
def recorded_spans(sampler: Sampler | None = None, *processors: SpanProcessor) -> Iterator[Spans]:
    """Sets up a provider for the time of the test: the API allows that once in a process."""
    provider = TracerProvider(sampler=sampler or ParentBased(ALWAYS_ON), shutdown_on_exit=False)
    for processor in processors:
        provider.add_span_processor(processor)
    with patch.object(trace, "_TRACER_PROVIDER", provider):
        yield Spans(provider)
    provider.shutdown()


def context_of(span: ReadableSpan) -> SpanContext:
    context: SpanContext | None = span.context
    assert context is not None
    return context


def traceparent_of(context: SpanContext | ReadableSpan) -> str:
    """As OpenTelemetry's own propagator writes it."""
    carrier: dict[str, str] = {}
    found = context if isinstance(context, SpanContext) else context_of(context)
    TraceContextTextMapPropagator().inject(carrier, trace.set_span_in_context(trace.NonRecordingSpan(found)))
    return carrier["traceparent"]


def attributes_of(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})
