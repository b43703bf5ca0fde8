"""Zipkin v2 JSON: lists of spans, in which one call may be recorded from both of its ends under one id."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

from flowstat.read.documents import read_documents, span_place
from flowstat.read.mapping import Mapping
from flowstat.read.nodes import KINDS, Source, Template, node_of, routing_key, source_of, template_of
from flowstat.read.notices import Notices
from flowstat.read.span_rows import DamagedError, SpanRow, end_of, hex_id, microseconds, span_batches, tag_text, told

__all__ = ["read_zipkin"]

TRACE, SPAN = 32, 16

WORKERS = ("service.instance.id", "host.name", "k8s.pod.name", "spring.instance_id")
ADDRESSES = ("ipv4", "ipv6")


class _Found(NamedTuple):
    """A span as its document has it, and the service that recorded it."""

    row: SpanRow
    service: str
    kind: str
    shared: bool


def read_zipkin(path: Path, origin: str, mapping: Mapping, notices: Notices) -> Iterator[pa.RecordBatch]:
    """Read spans of Zipkin v2 JSON in batches of `flowstat.read.canonical.span_schema`.

    A file is a list of spans, a list of such lists (traces), or one of these, or one span, a line. It is read whole,
    for the two halves of a call may stand anywhere in it:

    - A span that is `shared` is the server's half of a call, and so is a SERVER span whose id a CLIENT span of another
      service has too. It is an event of its own: its id becomes `id/service`.
    - Its parent is the client's half, the span with that id that is not shared. Where the file has none, its parent
      is found from its `parentId` like that of other spans.
    - A span's parent is the server's half with that id which its own service recorded; else, if the client's half is of
      its service, that; else the only server's half there is; else the client's half; else the first server's half by
      service.

    Ids are hex digits, here filled up with zeros to 32 (of a trace) or 16. Times are whole microseconds; 0 is unknown.
    The status is `error` where there is a tag `error`. What is a node, see `flowstat.read.nodes`; the worker is the tag
    `service.instance.id`, `host.name`, `k8s.pod.name` or `spring.instance_id`, else the endpoint's address.

    Raises
    ------
    TraceError
        Naming the file, the line where documents are lines, and the span.
    """
    template = template_of(mapping.node)
    found: list[_Found] = []
    for place, document in read_documents(path, origin, notices, _is_whole):
        for number, span in enumerate(_spans(document), 1):
            try:
                found.append(_read(span, template))
            except DamagedError as error:
                notices.bad(span_place(place, number), str(error))
    yield from span_batches(_apart(found))


def _is_whole(value: Any) -> bool:
    return isinstance(value, list) or (isinstance(value, dict) and "traceId" in value)


def _spans(document: Any) -> Iterator[Any]:
    for item in document if isinstance(document, list) else [document]:
        if isinstance(item, list):
            yield from item
        else:
            yield item


def _read(span: Any, template: Template | None) -> _Found:
    if not isinstance(span, dict):
        raise DamagedError(f"it is {told(span)}, not an object")
    tags = _object(span, "tags")
    texts = {key: tag_text(value) for key, value in tags.items()}
    endpoint = _object(span, "localEndpoint")
    service = _text(endpoint, "serviceName")
    address = next((endpoint[key] for key in ADDRESSES if isinstance(endpoint.get(key), str)), None)
    source = source_of(texts, service, WORKERS)
    source = Source(service, source.worker or address or None, {})
    kind = _text(span, "kind").lower()
    node = node_of(template, source, _text(span, "name"), kind if kind in KINDS else "", "", texts)
    if not node:
        raise DamagedError("it has neither service nor name" if template is None else "its node has no name")
    parent = span.get("parentId")
    started = microseconds(span.get("timestamp"), "timestamp")
    row = SpanRow(
        trace_id=hex_id(span.get("traceId"), "traceId", TRACE),
        span_id=hex_id(span.get("id"), "id", SPAN),
        parent_id=hex_id(parent, "parentId", SPAN) if parent and str(parent).strip("0") else None,
        name=node,
        key=routing_key(texts),
        started_at=started or None,
        ended_at=end_of(started, microseconds(span.get("duration"), "duration")),
        status="error" if "error" in tags else "ok",
        worker=source.worker,
    )
    return _Found(row, service, kind, span.get("shared") is True)


def _object(of: dict[str, Any], key: str) -> dict[str, Any]:
    value = of.get(key)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise DamagedError(f"{key!r} is {told(value)}, not an object")
    return value


def _text(of: dict[str, Any], key: str) -> str:
    value = of.get(key)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise DamagedError(f"{key!r} is {told(value)}, not text")
    return value


def _apart(found: list[_Found]) -> Iterator[SpanRow]:
    """Yield the rows with the two halves of each call told apart, and each span under the half that it belongs to."""
    calls: dict[tuple[str, str], set[str]] = {}
    for row, service, kind, _ in found:
        if kind == "client":
            calls.setdefault((row.trace_id, row.span_id), set()).add(service)
    clients: dict[tuple[str, str], set[str]] = {}
    servers: dict[tuple[str, str], set[str]] = {}
    halves = []
    for row, service, kind, shared in found:
        call = row.trace_id, row.span_id
        half = shared or (kind == "server" and bool(calls.get(call, set()) - {service}))
        halves.append(half)
        (servers if half else clients).setdefault(call, set()).add(service)
    for (row, service, _, _), half in zip(found, halves, strict=True):
        parent = row.parent_id
        if half and (row.trace_id, row.span_id) in clients:
            parent = row.span_id
        elif parent is not None:
            call = row.trace_id, parent
            parent = _half(parent, service, clients.get(call, set()), servers.get(call, set()))
        span_id = f"{row.span_id}/{service}" if half else row.span_id
        yield row._replace(span_id=span_id, parent_id=parent)


def _half(call: str, service: str, clients: set[str], servers: set[str]) -> str:
    """Return the id of the half of a call that a span of this service was caused by; see `read_zipkin`."""
    if service in servers:
        return f"{call}/{service}"
    if not servers or service in clients or (clients and len(servers) > 1):
        return call
    return f"{call}/{min(servers)}"
