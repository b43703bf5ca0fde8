"""Spans of OTLP/JSON made Arrow columns, many at a time; where one of them is wrong, one by one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from msgspec import Raw

from flowstat.read.canonical import STATUSES, span_schema
from flowstat.read.documents import span_place
from flowstat.read.nodes import MESSAGING, Source, node_of, routing_key, source_of, template_of
from flowstat.read.notices import Notices
from flowstat.read.otlp_ids import (
    SPAN,
    TRACE,
    id_column,
    link_column,
    parent_column,
    read_id,
    read_links,
    read_parent,
    read_time,
    time_column,
)
from flowstat.read.otlp_structs import (
    DAMAGES,
    FAILED,
    KIND_WORDS,
    SENDING,
    RawResourceSpans,
    Span,
    decode_tags,
    take_document,
    take_raw_documents,
    take_resource,
    take_span,
)
from flowstat.read.own_spans import OWN, own_row
from flowstat.read.span_rows import BATCH, Codes, DamagedError, SpanRow, span_batches, word_column

__all__ = ["OTHERS", "SpanDecoder"]

OTHERS = "documents that are not about spans, left out"

REMEMBERED = 100_000
MARK = b'"messaging.'

# Fields of a template that need no look at a span's attributes.
SHALLOW = frozenset(("service", "name", "scope"))


class _Group(NamedTuple):
    """Spans of one resource and scope; `place` and `number` (of the first) say where they are, for messages.

    `telling` says that spans of other kinds than producer and consumer may have attributes of messaging.
    """

    source: Source
    scope: str
    spans: Sequence[Span]
    telling: bool
    place: str
    number: int


class SpanDecoder:
    """Decodes documents of spans into batches; keeps what repeats from document to document.

    Parameters
    ----------
    template
        What a node's name is made of, see `flowstat.read.nodes.parse_template`.
    """

    def __init__(self, template: str | None) -> None:
        self.template = template_of(template)
        self.deep = self.template is not None and not SHALLOW.issuperset(self.template.fields)
        self.wanted = None if self.deep else MESSAGING
        self.sources: dict[bytes, Source] = {}
        self.known: dict[tuple[object, ...], tuple[str, str | None]] = {}

    def batches(self, documents: Sequence[tuple[str, bytes]], notices: Notices) -> Iterator[pa.RecordBatch]:
        """Decode documents, each with its place (`file`, or `file:line`), into batches of spans.

        A document that is not about spans (but, say, logs) gives none. What can't be read is a bad record,
        span by span.
        """
        if len(self.sources) + len(self.known) > REMEMBERED:
            self.sources.clear()
            self.known.clear()  # its cases hold what identifies a source
        groups: list[_Group] = []
        spans = 0
        for place, text in documents:
            try:
                found = self._groups(place, text)
            except DAMAGES:
                found = self._salvage(place, text, notices)
            groups += found
            spans += sum(len(group.spans) for group in found)
            if spans >= BATCH:
                yield from self._build(groups, notices)
                groups, spans = [], 0
        yield from self._build(groups, notices)

    def _build(self, groups: list[_Group], notices: Notices) -> Iterator[pa.RecordBatch]:
        if not any(group.spans for group in groups):
            return
        if not any(group.scope == OWN for group in groups):
            try:
                batch = self._columns(groups)
            except (*DAMAGES, pa.ArrowException):
                pass
            else:
                for start in range(0, len(batch), BATCH):
                    yield batch.slice(start, BATCH)
                return
        yield from span_batches(self._rows(groups, notices))

    def _groups(self, place: str, text: bytes) -> list[_Group]:
        document = take_document(text)
        if document.resource_spans is None or document.snake_spans or document.batches:
            raise DamagedError("another spelling")
        found: list[_Group] = []
        number = 1
        for resource in document.resource_spans:
            source = self._source(resource.resource)
            for scopes in (resource.scope_spans, resource.instrumentation_library_spans):
                for scope in scopes or ():
                    spans = scope.spans
                    if spans:
                        library = scope.scope or scope.instrumentation_library
                        name = (library and library.name) or ""
                        found.append(_Group(source, name, spans, False, place, number))
                        number += len(spans)
        # No encoder escapes letters and dots of a key. Where producers and consumers have them all, others have none.
        marks = text.count(MARK)
        if marks and not self.deep:
            for group in found:
                for span in group.spans:
                    if span.kind in SENDING:
                        marks -= bytes(span.attributes).count(MARK)
            if marks:
                return [group._replace(telling=True) for group in found]
        return found

    def _salvage(self, place: str, text: bytes, notices: Notices) -> list[_Group]:
        """Decode a document span by span, in any spelling; report what can't be read."""
        try:
            documents = take_raw_documents(text)
        except DAMAGES as error:
            notices.bad(place, f"not a document of spans: {error}")
            return []
        found = []
        number = 0
        for document in documents:
            if document.resources is None:
                notices.note(OTHERS, place)
                continue
            for resource in document.resources:
                source = self._source_or_none(resource)
                for scope in resource.scopes:
                    for raw in scope.spans or ():
                        number += 1
                        try:
                            span = take_span(raw)
                            if source is None:
                                raise DamagedError("the attributes of its resource can't be read")
                        except DAMAGES as error:
                            notices.bad(span_place(place, number), str(error))
                            continue
                        found.append(_Group(source, scope.scope_name, [span], True, place, number))
        return found

    def _source(self, resource: Raw) -> Source:
        text = bytes(resource)
        source = self.sources.get(text)
        if source is None:
            source = self.sources[text] = source_of(take_resource(text) if text else {})
        return source

    def _source_or_none(self, resource: RawResourceSpans) -> Source | None:
        try:
            return self._source(resource.resource)
        except DAMAGES:
            return None

    def _rows(self, groups: list[_Group], notices: Notices) -> Iterator[SpanRow]:
        for group in groups:
            for number, span in enumerate(group.spans, group.number):
                try:
                    row = self._row(group, span)
                except DAMAGES as error:
                    notices.bad(span_place(group.place, number), str(error))
                else:
                    yield row

    def _row(self, group: _Group, span: Span) -> SpanRow:
        ids = (
            read_id(span.trace_id, TRACE, "traceId"),
            read_id(span.span_id, SPAN, "spanId"),
            read_parent(span.parent_span_id),
        )
        started = read_time(span.start_time_unix_nano, "startTimeUnixNano")
        ended = read_time(span.end_time_unix_nano, "endTimeUnixNano")
        status = "error" if span.status is not None and span.status.code in FAILED else "ok"
        links = read_links(span.links)
        if group.scope == OWN:
            tags = decode_tags(span.attributes)
            worker = group.source.tags.get("service.instance.id")
            row = SpanRow(*ids, None, span.name, None, None, None, started, ended, status, worker, links)
            return own_row(row, tags)
        node, key = self._node(group, span)
        if not node:
            raise DamagedError("it has neither service nor name" if self.template is None else "its node has no name")
        worker = group.source.worker
        return SpanRow(*ids, None, node, key, None, None, started, ended, status, worker, links)

    def _node(self, group: _Group, span: Span) -> tuple[str, str | None]:
        tags = {} if self._is_silent(span) else decode_tags(span.attributes, self.wanted)
        kind = KIND_WORDS.get(span.kind, "")
        if self.deep:
            return node_of(self.template, group.source, span.name or "", kind, group.scope, tags), routing_key(tags)
        case = (id(group.source), group.scope, span.name, kind, *tags.items())
        found = self.known.get(case)
        if found is None:
            node = node_of(self.template, group.source, span.name or "", kind, group.scope, tags)
            found = self.known[case] = node, routing_key(tags)
        return found

    def _is_silent(self, span: Span) -> bool:
        """Whether a span's attributes don't matter: of other kinds than these, those of messaging are named so."""
        return not (self.deep or span.kind in SENDING or MARK in bytes(span.attributes))

    def _columns(self, groups: list[_Group]) -> pa.RecordBatch:
        """Return the spans as one batch, all at once; raise something if one of them is odd."""
        spans = [span for group in groups for span in group.spans]
        names = Codes()
        keys: list[str | None] | None = None
        nodes: list[int] = []
        known: dict[tuple[int, str], _Plain] = {}
        for group in groups:
            plain = known.get((id(group.source), group.scope))
            if plain is None:
                plain = known[id(group.source), group.scope] = _Plain(self, group, names)
            if not (self.deep or group.telling) and SENDING.isdisjoint([span.kind for span in group.spans]):
                nodes += [plain[span.name] for span in group.spans]
                continue
            for span in group.spans:
                plainly = not (group.telling or self.deep or span.kind in SENDING)
                if plainly or self._is_silent(span):
                    nodes.append(plain[span.name])
                    continue
                node, key = self._node(group, span)
                if key is not None:
                    keys = keys if keys is not None else [None] * len(spans)
                    keys[len(nodes)] = key
                nodes.append(names[node])
        if "" in names:
            raise DamagedError("a node without a name")
        workers = Codes()
        sizes = [len(group.spans) for group in groups]
        told = np.repeat([-1 if g.source.worker is None else workers[g.source.worker] for g in groups], sizes)
        failed = [i for i, span in enumerate(spans) if span.status is not None and span.status.code in FAILED]
        status = np.zeros(len(spans), np.int32)
        status[failed] = 1
        n = len(spans)
        word = pa.dictionary(pa.int32(), pa.string())
        columns = {
            "trace_id": id_column([span.trace_id for span in spans], TRACE),
            "span_id": id_column([span.span_id for span in spans], SPAN),
            "parent_id": parent_column([span.parent_span_id for span in spans]),
            "name": word_column(np.array(nodes, np.int32), names),
            "key": pa.nulls(n, word) if keys is None else pa.array(keys, pa.string()).dictionary_encode().cast(word),
            "started_at": time_column([span.start_time_unix_nano for span in spans]),
            "ended_at": time_column([span.end_time_unix_nano for span in spans]),
            "status": pa.DictionaryArray.from_arrays(pa.array(status), pa.array(STATUSES[:2])),
            "worker": word_column(told.astype(np.int32), workers),
            "links": link_column([span.links for span in spans]),
        }
        want = span_schema()
        arrays = [columns[f.name] if f.name in columns else pa.nulls(n, f.type) for f in want]
        return pa.RecordBatch.from_arrays(arrays, schema=want)


class _Plain(dict[str | None, int]):
    """The nodes of spans whose attributes don't matter, by the spans' names."""

    def __init__(self, decoder: SpanDecoder, group: _Group, codes: Codes) -> None:
        super().__init__()
        self.decoder, self.group, self.codes = decoder, group, codes

    def __missing__(self, name: str | None) -> int:
        node = node_of(self.decoder.template, self.group.source, name or "", "", self.group.scope, {})
        self[name] = code = self.codes[node]
        return code
