"""Canonical traces as Jaeger's JSON: one document, as its API gives and its pages load."""

from __future__ import annotations

from typing import Any

import orjson

from flowstat.read.own_spans import OWN, own_tags, span_name
from flowstat.read.span_rows import SpanRow, end_of
from flowstat.read.span_writer import SpanWriter

__all__ = ["JaegerWriter", "stored_times"]


class JaegerWriter(SpanWriter):
    """Writes canonical batches as one Jaeger document.

    A run's rows need not come together, so their text is held in memory and written on closing. The spans are of kind
    consumer, of the service `flowstat`, and of one process a worker. Jaeger's times are whole microseconds, and none is
    missing: what that would change is a tag, `flowstat.started_at` or `flowstat.ended_at`, in nanoseconds. How the rest
    is kept, see `flowstat.read.own_spans`.
    """

    def __init__(self, path: Any) -> None:
        super().__init__(path)
        self.runs: dict[str, list[bytes]] = {}
        self.workers: dict[str, dict[str, str]] = {}

    def take(self, rows: list[SpanRow]) -> None:
        """Keep rows until the end."""
        for row in rows:
            processes = self.workers.setdefault(row.trace_id, {})
            process = processes.setdefault(row.worker or "", f"p{len(processes) + 1}")
            self.runs.setdefault(row.trace_id, []).append(orjson.dumps(_span(row, process)))

    def finish(self) -> None:
        """Write the document, trace by trace."""
        self.file.write(b'{"data":[')
        for number, (trace, spans) in enumerate(self.runs.items()):
            processes = {process: _process(worker) for worker, process in self.workers[trace].items()}
            head = orjson.dumps({"traceID": trace, "processes": processes})[:-1]
            self.file.write((b",\n" if number else b"\n") + head + b',"spans":[' + b",\n".join(spans) + b"]}")
        self.file.write(b"]}\n")


def stored_times(start: int | None, took: int | None) -> tuple[int | None, int | None]:
    """Return the times in nanoseconds that a span's start and duration tell, also in nanoseconds: 0 tells none."""
    return start or None, end_of(start, took or None)


def _process(worker: str) -> dict[str, Any]:
    return {"serviceName": OWN, "tags": _tags({"service.instance.id": worker} if worker else {})}


def _span(row: SpanRow, process: str) -> dict[str, Any]:
    tags = {"otel.scope.name": OWN, "span.kind": "consumer", **own_tags(row)}
    start = max(row.started_at or 0, 0) // 1000
    took = max((row.ended_at or 0) - (row.started_at or 0), 0) // 1000 if start else 0
    for column, time, told in zip(
        ("started_at", "ended_at"), (row.started_at, row.ended_at), stored_times(start * 1000, took * 1000), strict=True
    ):
        if time != told and time is not None:
            tags[f"{OWN}.{column}"] = str(time)
    references = [] if row.parent_id is None else [_reference("CHILD_OF", row.trace_id, row.parent_id)]
    references += [_reference("FOLLOWS_FROM", link["trace_id"], link["span_id"]) for link in row.links or ()]
    failed = [{"key": "error", "type": "bool", "value": True}] if row.status == "error" else []
    return {
        "traceID": row.trace_id,
        "spanID": row.span_id,
        "operationName": span_name(row),
        "references": references,
        "startTime": start,
        "duration": took,
        "tags": _tags(tags) + failed,
        "logs": [],
        "processID": process,
    }


def _reference(kind: str, trace: str, span: str) -> dict[str, str]:
    return {"refType": kind, "traceID": trace, "spanID": span}


def _tags(tags: dict[str, str]) -> list[dict[str, Any]]:
    return [{"key": key, "type": "string", "value": value} for key, value in tags.items()]
