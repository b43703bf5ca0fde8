"""Events as OpenTelemetry spans while a run goes on, so that it shows up in Jaeger, Tempo and the like."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pyarrow as pa

from flowstat.errors import OutputError
from flowstat.read.closing import Closing
from flowstat.read.own_spans import OWN, own_tags, rows_of, span_name

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.sdk.trace.export import SpanExporter

    from flowstat.read.canonical import TraceWriter

__all__ = ["SPANS", "SpansToo", "otlp_exporter"]

SPANS = 256
"""Spans of a batch: so many events, at most, wait to be seen."""

ADVICE = "pip install 'flowstat[otel]'"


def otlp_exporter(endpoint: str) -> SpanExporter:
    """Return an exporter to a collector, OTLP over HTTP: `http://localhost:4318`.

    Raises
    ------
    OutputError
        If the OpenTelemetry SDK is not installed, or the address is none.
    """
    if not endpoint.startswith(("http://", "https://")):
        raise OutputError(f"{endpoint} is no address of a collector: give one such as http://localhost:4318")
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    except ImportError:
        raise OutputError(f"spans are sent by the OpenTelemetry SDK, which is not installed: {ADVICE}") from None
    address = endpoint.rstrip("/")
    return OTLPSpanExporter(address if address.endswith("/v1/traces") else f"{address}/v1/traces")


class SpansToo(Closing):
    """A trace writer that sends each batch as spans, and hands it on to another writer.

    Each run of the program has trace ids of its own: a random number stands before those of the trace. Spans have the
    attributes that `flowstat convert` writes to OTLP, so what a collector keeps can be read back whole.

    Parameters
    ----------
    exporter
        Of the OpenTelemetry SDK.
    writer
        Where the trace goes besides; None: nowhere.
    run
        The number before trace ids, in [1, 2**64).

    Raises
    ------
    OutputError
        On writing, if the exporter fails, or events have no times.
    """

    def __init__(self, exporter: SpanExporter, writer: TraceWriter | None = None, run: int | None = None) -> None:
        self._exporter = exporter
        self._writer = writer
        self._run = run if run is not None else uuid4().int >> 64 | 1
        from opentelemetry.sdk.resources import Resource

        self._resource = Resource({"service.name": OWN})

    def write(self, batch: pa.RecordBatch) -> None:
        """Write a batch, then send it."""
        from opentelemetry.sdk.trace.export import SpanExportResult

        if self._writer is not None:
            self._writer.write(batch)
        spans = [self._span(row) for row in rows_of(batch)]
        if spans and self._exporter.export(spans) is not SpanExportResult.SUCCESS:
            raise OutputError("the collector does not take spans: is it there, and does it speak OTLP over HTTP?")

    def close(self) -> None:
        """Let the exporter finish."""
        self._exporter.shutdown()
        if self._writer is not None:
            self._writer.close()

    def _span(self, row: Any) -> ReadableSpan:
        from opentelemetry.sdk.trace import ReadableSpan
        from opentelemetry.sdk.util.instrumentation import InstrumentationScope
        from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags

        began = row.started_at if row.started_at is not None else row.sent_at
        if began is None:
            raise OutputError("spans have times: run with a clock (--clock wall, or virtual)")

        def context(span: int) -> SpanContext:
            return SpanContext(self._run << 64 | row.trace_id, span, True, TraceFlags(TraceFlags.SAMPLED))

        return ReadableSpan(
            span_name(row),
            context(row.span_id),
            None if row.parent_id is None else context(row.parent_id),
            self._resource,
            own_tags(row),
            kind=SpanKind.CONSUMER,
            status=Status(StatusCode.ERROR) if row.status == "error" else Status(),
            start_time=began,
            end_time=row.ended_at if row.ended_at is not None else began,
            instrumentation_scope=InstrumentationScope(OWN),
        )
