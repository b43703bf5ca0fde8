"""Zipkin v2 JSON: lists of spans, in which one call may be recorded from both of its ends under one id."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from flowstat.read.canonical import span_schema
from flowstat.read.database import database, load
from flowstat.read.documents import read_documents, span_place
from flowstat.read.mapping import Mapping
from flowstat.read.nodes import KINDS, Source, Template, node_of, routing_key, source_of, template_of
from flowstat.read.notices import Notices
from flowstat.read.span_rows import (
    BATCH,
    DamagedError,
    SpanRow,
    end_of,
    hex_id,
    microseconds,
    span_batches,
    tag_text,
    told,
)

__all__ = ["read_zipkin"]

TRACE, SPAN = 32, 16

WORKERS = ("service.instance.id", "host.name", "k8s.pod.name", "spring.instance_id")
ADDRESSES = ("ipv4", "ipv6")

MEMORY = 256 << 20

ABSENT = ("parent", "sent", "sent_at", "links")
"""Columns of spans of which Zipkin knows nothing."""

# A span is a half of a call by its own row and the call's clients. `call` has, of calls with a server's half, the
# services that recorded each half.
_HALVES = (
    """create view client as select trace_id, span_id, min(service) as low, max(service) as high
    from recorded where client group by all""",
    """create view span as
    select r.*, r.rowid as at, shared or (server and coalesce(low <> service or high <> service, false)) as half
    from recorded r left join client using (trace_id, span_id)""",
    """create table call as select trace_id, span_id,
        coalesce(list(distinct service) filter (not half), []) as clients,
        list_sort(list(distinct service) filter (half)) as servers
    from span group by trace_id, span_id having bool_or(half)""",
)
_APART = """select s.* replace (
    case when half then s.span_id || '/' || service else s.span_id end as span_id,
    case when half and len(own.clients) > 0 then s.span_id
        when up.servers is null then s.parent_id
        when list_contains(up.servers, service) then s.parent_id || '/' || service
        when list_contains(up.clients, service) or (len(up.clients) > 0 and len(up.servers) > 1) then s.parent_id
        else s.parent_id || '/' || up.servers[1]
    end as parent_id)
from span s
left join call own on s.trace_id = own.trace_id and s.span_id = own.span_id
left join call up on s.trace_id = up.trace_id and s.parent_id = up.span_id
order by s.at"""


class _Found(NamedTuple):
    """A span as its document has it, and the service that recorded it."""

    row: SpanRow
    service: str
    kind: str
    shared: bool


def read_zipkin(files: Sequence[tuple[Path, str]], mapping: Mapping, notices: Notices) -> Iterator[pa.RecordBatch]:
    """Read spans of Zipkin v2 JSON in batches of `flowstat.read.canonical.span_schema`.

    A file is a list of spans, a list of such lists (traces), or one of these, or one span, a line. The files, each a
    path with its name for messages, are read together, for the two halves of a call may stand anywhere in them:

    - A span that is `shared` is the server's half of a call, and so is a SERVER span whose id a CLIENT span of another
      service has too. It is an event of its own: its id becomes `id/service`.
    - Its parent is the client's half, the span with that id that is not shared. Where no file has one, its parent
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
        Naming the file, the line where documents are lines, and the span; if memory and disk do not suffice.

    Notes
    -----
    One document at a time is in memory, and spans, as soon as they are more than a batch or some may be halves, in a
    database of at most 256 MB in memory, and on disk beyond.
    """
    yield from _apart(_batches(_spans(files, mapping, notices)))


def _spans(files: Sequence[tuple[Path, str]], mapping: Mapping, notices: Notices) -> Iterator[_Found]:
    template = template_of(mapping.node)
    for path, origin in files:
        for place, document in read_documents(path, origin, notices, _is_whole):
            for number, span in enumerate(_items(document), 1):
                try:
                    found = _read(span, template)
                except DamagedError as error:
                    notices.bad(span_place(place, number), str(error))
                else:
                    yield found


def _is_whole(value: Any) -> bool:
    return isinstance(value, list) or (isinstance(value, dict) and "traceId" in value)


def _items(document: Any) -> Iterator[Any]:
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


def _batches(found: Iterator[_Found]) -> Iterator[pa.RecordBatch]:
    """Yield spans as batches that say too who recorded them, and whether as client, as server or as a shared one."""
    while some := list(islice(found, BATCH)):
        (batch,) = span_batches(each.row for each in some)
        more = {
            "service": pa.array([each.service for each in some], pa.string()),
            "client": pa.array([each.kind == "client" for each in some]),
            "server": pa.array([each.kind == "server" for each in some]),
            "shared": pa.array([each.shared for each in some]),
        }
        yield pa.RecordBatch.from_arrays([*batch.columns, *more.values()], names=[*batch.schema.names, *more])


def _apart(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Tell the two halves of each call apart, and put each span under the half that it belongs to."""
    first = next(batches, None)
    if first is None:
        return
    second = next(batches, None)
    if second is None and not pc.any(pc.or_(first["server"], first["shared"])).as_py():
        yield first.select(span_schema().names).cast(span_schema())
        return
    shape = pa.schema([field for field in map(_stored, first.schema) if field.name not in ABSENT])
    with database(MEMORY) as connection:
        rest = batches if second is None else chain([second], batches)
        load(connection, "recorded", chain([first], rest), shape, lambda batch: batch.select(shape.names).cast(shape))
        for statement in _HALVES:
            connection.execute(statement)
        for found in connection.sql(_APART).to_arrow_reader(BATCH):
            yield _spoken(found)


def _stored(field: pa.Field) -> pa.Field:
    """Return a column as the database has it: texts without codes, and times, for it has no nanoseconds, as numbers."""
    if pa.types.is_dictionary(field.type):
        return field.with_type(pa.string())
    return field.with_type(pa.int64()) if pa.types.is_timestamp(field.type) else field


def _spoken(batch: pa.RecordBatch) -> pa.RecordBatch:
    columns = []
    for field in span_schema():
        if field.name in ABSENT:
            columns.append(pa.nulls(len(batch), field.type))
        elif pa.types.is_dictionary(field.type):
            columns.append(batch[field.name].cast(pa.string()).dictionary_encode().cast(field.type))
        else:
            columns.append(batch[field.name].cast(field.type))
    return pa.RecordBatch.from_arrays(columns, schema=span_schema())
