"""Canonical traces as OTLP/JSON: one document a line, as OpenTelemetry's collector writes files."""

from __future__ import annotations

from typing import Any

import orjson

from flowstat.read.own_spans import OWN, own_tags, span_name
from flowstat.read.span_rows import SpanRow
from flowstat.read.span_writer import SpanWriter

__all__ = ["OtlpWriter"]

SPANS = 8192
"""How many spans a line has at most: what the collector's batches have."""

CONSUMER = 5
FAILED = 2


class OtlpWriter(SpanWriter):
    """Writes canonical batches as OTLP/JSON.

    The spans are of kind consumer, of the service `flowstat`, and of one resource a worker. How the rest is kept, see
    `flowstat.read.own_spans`. A time of 0 or before 1970 is an attribute, as OTLP has none such.
    """

    def __init__(self, path: Any) -> None:
        super().__init__(path)
        self.written = False

    def take(self, rows: list[SpanRow]) -> None:
        """Write rows as lines."""
        for start in range(0, len(rows), SPANS):
            workers: dict[str, list[SpanRow]] = {}
            for row in rows[start : start + SPANS]:
                workers.setdefault(row.worker or "", []).append(row)
            self._line([_resource(worker, found) for worker, found in workers.items()])

    def finish(self) -> None:
        """Write a document without spans if there are none."""
        if not self.written:
            self._line([])

    def _line(self, resources: list[dict[str, Any]]) -> None:
        self.file.write(orjson.dumps({"resourceSpans": resources}) + b"\n")
        self.written = True


def _resource(worker: str, rows: list[SpanRow]) -> dict[str, Any]:
    tags = {"service.name": OWN} | ({"service.instance.id": worker} if worker else {})
    scope = {"scope": {"name": OWN}, "spans": [_span(row) for row in rows]}
    return {"resource": {"attributes": _attributes(tags)}, "scopeSpans": [scope]}


def _span(row: SpanRow) -> dict[str, Any]:
    span: dict[str, Any] = {"traceId": row.trace_id, "spanId": row.span_id, "name": span_name(row), "kind": CONSUMER}
    tags = own_tags(row)
    if row.parent_id is not None:
        span["parentSpanId"] = row.parent_id
    for time, field, column in (
        (row.started_at, "startTimeUnixNano", "started_at"),
        (row.ended_at, "endTimeUnixNano", "ended_at"),
    ):
        if time is None:
            continue
        if time > 0:
            span[field] = str(time)
        else:
            tags[f"{OWN}.{column}"] = str(time)
    if row.status == "error":
        span["status"] = {"code": FAILED}
    if row.links:
        span["links"] = [{"traceId": link["trace_id"], "spanId": link["span_id"]} for link in row.links]
    span["attributes"] = _attributes(tags)
    return span


def _attributes(tags: dict[str, str]) -> list[dict[str, Any]]:
    return [{"key": key, "value": {"stringValue": value}} for key, value in tags.items()]
