"""Jaeger's JSON: traces as its API gives them and as its pages export them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from flowstat.read.documents import read_documents, span_place
from flowstat.read.jaeger_writer import stored_times
from flowstat.read.mapping import Mapping
from flowstat.read.nodes import KINDS, Source, Template, node_of, routing_key, source_of, template_of
from flowstat.read.notices import Notices
from flowstat.read.own_spans import OWN, own_row
from flowstat.read.span_rows import DamagedError, SpanRow, end_of, hex_id, microseconds, span_batches, tag_text, told

__all__ = ["read_jaeger"]

TRACE, SPAN = 32, 16

WORKERS = ("service.instance.id", "host.name", "k8s.pod.name", "hostname", "ip")
SCOPES = ("otel.scope.name", "otel.library.name")


def read_jaeger(path: Path, origin: str, mapping: Mapping, notices: Notices) -> Iterator[pa.RecordBatch]:
    """Read spans of Jaeger's JSON in batches of `flowstat.read.canonical.span_schema`.

    A file is `{"data": [trace, ...]}`, one trace, a list of traces, or one of these a line. The parent of a span is its
    first CHILD_OF reference into the same trace, else the first FOLLOWS_FROM into it, else `parentSpanID`; every other
    reference is a link. Ids are hex digits, here filled up with zeros to 32 (of a trace) or 16. Times are whole
    microseconds; a start of 0 is unknown. The status is `error` where the tag `error` is true, or `otel.status_code` is
    ERROR. What is a node, see `flowstat.read.nodes`; the worker is the process's tag `service.instance.id`,
    `host.name`, `k8s.pod.name`, `hostname` or `ip`. Spans of the scope (`otel.scope.name`) `flowstat` are canonical
    rows that `flowstat convert` wrote, and come back as they were.

    Raises
    ------
    TraceError
        Naming the file, the line where documents are lines, and the span.
    """
    yield from span_batches(_rows(path, origin, mapping, notices))


def _is_whole(value: Any) -> bool:
    return isinstance(value, dict) and ("data" in value or "spans" in value)


def _rows(path: Path, origin: str, mapping: Mapping, notices: Notices) -> Iterator[SpanRow]:
    template = template_of(mapping.node)
    for place, document in read_documents(path, origin, notices, _is_whole):
        number = 0
        for trace in _traces(document, place, notices):
            spans = (trace["spans"] or []) if "spans" in trace else None
            if not isinstance(spans, list):
                notices.bad(place, f"'spans' is {told(spans)}: it is the list of a trace's spans")
                continue
            sources: dict[Any, Source] = {}
            for span in spans:
                number += 1
                try:
                    row = _row(span, trace, sources, template)
                except DamagedError as error:
                    notices.bad(span_place(place, number), str(error))
                else:
                    yield row


def _traces(document: Any, place: str, notices: Notices) -> Iterator[dict[str, Any]]:
    """Yield the traces of a document; what is none is a bad record."""
    traces = document.get("data", document) if isinstance(document, dict) else document
    for trace in traces if isinstance(traces, list) else [traces]:
        if isinstance(trace, dict):
            yield trace
        else:
            notices.bad(place, f"{told(trace)} is no trace: it is an object with its spans and processes")


def _row(span: Any, trace: dict[str, Any], sources: dict[Any, Source], template: Template | None) -> SpanRow:
    if not isinstance(span, dict):
        raise DamagedError(f"it is {told(span)}, not an object")
    trace_id = hex_id(span.get("traceID") or trace.get("traceID"), "traceID", TRACE)
    span_id = hex_id(span.get("spanID"), "spanID", SPAN)
    tags = _tags(span.get("tags"), "tags")
    source = _source(span, trace, sources)
    name = span.get("operationName") or ""
    if not isinstance(name, str):
        raise DamagedError(f"'operationName' is {told(name)}, not text")
    scope = next((tags[key] for key in SCOPES if key in tags), "")
    parent_id, links = _references(span, trace_id, scope == OWN)
    started = microseconds(span.get("startTime"), "startTime")
    took = microseconds(span.get("duration"), "duration")
    failed = tags.get("error") == "true" or tags.get("otel.status_code", "").upper() == "ERROR"
    row = SpanRow(trace_id, span_id, parent_id, status="error" if failed else "ok", links=links or None)
    if scope == OWN:
        start, end = stored_times(started, took)
        worker = source.tags.get("service.instance.id")
        return own_row(row._replace(name=name, started_at=start, ended_at=end, worker=worker), tags)
    kind = tags.get("span.kind", "").lower()
    node = node_of(template, source, name, kind if kind in KINDS else "", scope, tags)
    if not node:
        raise DamagedError("it has neither service nor operation" if template is None else "its node has no name")
    return row._replace(
        name=node,
        key=routing_key(tags),
        started_at=started or None,
        ended_at=end_of(started, took),
        worker=source.worker,
    )


def _source(span: dict[str, Any], trace: dict[str, Any], sources: dict[Any, Source]) -> Source:
    process = span.get("process")
    key = span.get("processID")
    if process is None:
        if not isinstance(key, str | None):
            raise DamagedError(f"'processID' is {told(key)}, not text")
        if key in sources:
            return sources[key]
        processes = trace.get("processes") or {}
        if not isinstance(processes, dict):
            raise DamagedError(f"the trace's 'processes' are {told(processes)}, not an object")
        process = processes.get(key) or {}
    if not isinstance(process, dict):
        raise DamagedError(f"its process is {told(process)}, not an object")
    service = process.get("serviceName") or ""
    if not isinstance(service, str):
        raise DamagedError(f"'serviceName' is {told(service)}, not text")
    source = source_of(_tags(process.get("tags"), "tags of its process"), service, WORKERS)
    if span.get("process") is None:
        sources[key] = source
    return source


def _tags(tags: Any, what: str) -> dict[str, str]:
    if not tags:
        return {}
    found = {}
    for tag in tags if isinstance(tags, list) else [tags]:
        if not isinstance(tag, dict) or not isinstance(key := tag.get("key"), str):
            raise DamagedError(f"'{what}' has {told(tag)}: it is a list of key, type and value")
        found[key] = tag_text(tag.get("value"))
    return found


def _references(span: dict[str, Any], trace_id: str, own: bool) -> tuple[str | None, tuple[dict[str, str], ...]]:
    """Return the id of a span's parent, and its links; of a span of flowstat only a CHILD_OF is the parent."""
    references = span.get("references") or []
    if not isinstance(references, list):
        raise DamagedError(f"'references' is {told(references)}, not a list")
    found = []
    for reference in references:
        if not isinstance(reference, dict):
            raise DamagedError(f"'references' has {told(reference)}, not an object")
        where = hex_id(reference.get("traceID") or trace_id, "traceID of a reference", TRACE)
        found.append((reference.get("refType"), where, hex_id(reference.get("spanID"), "spanID of a reference", SPAN)))
    parent = None
    for kind in ("CHILD_OF",) if own else ("CHILD_OF", "FOLLOWS_FROM"):
        inside = [r for r in found if r[0] == kind and r[1] == trace_id]
        if inside:
            parent = inside[0]
            found.remove(parent)
            break
    links = tuple({"trace_id": where, "span_id": span_id} for _, where, span_id in found)
    if parent is not None:
        return parent[2], links
    old = span.get("parentSpanID")
    if not old or (isinstance(old, str) and not old.strip("0")):
        return None, links
    return hex_id(old, "parentSpanID", SPAN), links
