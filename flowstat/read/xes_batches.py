"""Events of XES as batches: of a log, or of the spans that `flowstat.read.xes_writer` wrote as one."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from flowstat.read.canonical import STATUSES, span_schema
from flowstat.read.cells import combine
from flowstat.read.nodes import Template
from flowstat.read.notices import Notices
from flowstat.read.times import READABLE, Times
from flowstat.read.words import shown
from flowstat.read.xes_blocks import Events
from flowstat.read.xes_writer import LINKS, NAME, PREFIX, decode

__all__ = ["SPAN_KEYS", "Converter", "LogConverter", "SpanConverter"]

SPAN_KEYS: Final = (
    NAME,
    *(PREFIX + field.name for field in span_schema() if field.name not in ("trace_id", "name", "links")),
    LINKS,
)
"""The attributes of an event that is a span."""


class Converter:
    """Makes batches of events, and numbers them."""

    def __init__(self, origin: str, notices: Notices) -> None:
        self.origin = origin
        self.notices = notices
        self.traces = 0
        self.events = 0

    def batch(self, found: list[Events]) -> pa.RecordBatch:
        """Return events in one batch."""
        raise NotImplementedError

    def _joined(self, found: list[Events]) -> tuple[pa.DictionaryArray, dict[str, pa.Array]]:
        """Return the case of each event, and its values."""
        starts = np.cumsum([0, *(len(events.cases) for events in found)])
        case_of = np.concatenate([e.case_of + at for e, at in zip(found, starts.tolist(), strict=False)])
        cases = pa.concat_arrays([events.cases for events in found])
        values = {key: pa.concat_arrays([events.values[key] for events in found]) for key in found[0].values}
        # Several traces may have one name.
        words = self._named(cases).dictionary_encode()
        self._without_events(len(cases), case_of)
        self.traces += len(cases)
        codes = words.indices.take(pa.array(case_of))
        return pa.DictionaryArray.from_arrays(codes, words.dictionary), values

    def _named(self, cases: pa.Array) -> pa.Array:
        nothing = np.array(pc.equal(cases, "").fill_null(True))
        if not nothing.any():
            return cases
        names = cases.to_pylist()
        for at in np.flatnonzero(nothing).tolist():
            names[at] = f"(trace {self.traces + at + 1})"
        example = f"{self.origin}: {names[int(nothing.argmax())]}"
        self.notices.note("traces without a name, called by their number", example, int(nothing.sum()))
        return pa.array(names, pa.string())

    def _without_events(self, traces: int, case_of: np.ndarray) -> None:
        empty = np.bincount(case_of, minlength=traces) == 0
        if empty.any():
            example = f"{self.origin}: trace {self.traces + int(empty.argmax()) + 1}"
            self.notices.note("traces without any event, left out", example, int(empty.sum()))

    def _right(self, batch: pa.RecordBatch, wrong: list[tuple[np.ndarray, Any]]) -> pa.RecordBatch:
        """Report events that are wrong, each with what for the first reason; return the others."""
        first = self.events + 1
        self.events += len(batch)
        bad = np.logical_or.reduce([rows for rows, _ in wrong])
        if not bad.any():
            return batch
        for row in np.flatnonzero(bad).tolist():
            what = next(what for rows, what in wrong if rows[row])
            self.notices.bad(f"{self.origin}: event {first + row}", what(row))
        return batch.filter(pa.array(~bad))


class LogConverter(Converter):
    """Makes batches of a log."""

    def __init__(self, origin: str, notices: Notices, template: Template, time: str) -> None:
        super().__init__(origin, notices)
        self._key = time
        self._template = template
        self._times = Times()

    def batch(self, found: list[Events]) -> pa.RecordBatch:
        """Return events in one batch."""
        cases, values = self._joined(found)
        text = values[self._key]
        parts = [values[key].dictionary_encode() for key in self._template.fields]
        name = combine(parts, self._node)
        times, unreadable = self._times.read(text)
        fields = " or ".join(self._template.fields)
        wrong: list[tuple[np.ndarray, Any]] = [(np.array(pc.is_null(name)), lambda row: f"it has no name ({fields})")]
        if unreadable is not None:
            what = "the time {} ({}) can't be read: {}"
            wrong.append((unreadable, lambda row: what.format(shown(repr(text[row].as_py())), self._key, READABLE)))
        batch = pa.RecordBatch.from_arrays([cases, name, times], names=["trace_id", "name", "started_at"])
        return self._right(batch, wrong)

    def _node(self, values: tuple[str | None, ...]) -> str | None:
        fields = zip(self._template.fields, values, strict=True)
        return self._template.name({field: value or "" for field, value in fields}) or None


class SpanConverter(Converter):
    """Makes batches of spans from the attributes that `XesWriter` gives them."""

    def batch(self, found: list[Events]) -> pa.RecordBatch:
        """Return spans in one batch."""
        cases, values = self._joined(found)
        texts = {key: _decoded(value) for key, value in values.items()}
        wrong: list[tuple[np.ndarray, Any]] = []
        status = texts[PREFIX + "status"]
        strange = np.array(pc.invert(pc.is_in(status, pa.array(STATUSES))))
        wrong.append((strange, lambda row: f"its {PREFIX}status is {shown(repr(status[row].as_py()))}"))
        names, ids = texts[NAME], texts[PREFIX + "span_id"]
        wrong.append((np.array(pc.equal(ids, "").fill_null(True)), lambda row: f"it has no {PREFIX}span_id"))
        names = pc.if_else(pc.equal(status, "dropped").fill_null(False), pa.scalar(None, pa.string()), names)
        unnamed = pc.and_(pc.equal(names, "").fill_null(True), pc.not_equal(status, "dropped").fill_null(True))
        wrong.append((np.array(unnamed), lambda row: f"it has no name ({NAME})"))
        made = {"trace_id": _decoded(cases.cast(pa.string())), "name": names}
        for field in span_schema():
            if pa.types.is_timestamp(field.type):
                clock = Times()
                clock.unit = 1
                made[field.name], unreadable = clock.read(texts[PREFIX + field.name])
                if unreadable is not None:
                    wrong.append((unreadable, lambda row, key=PREFIX + field.name: f"its {key} is no time"))
            elif field.name == "links":
                made[field.name] = self._links(texts[LINKS], field.type, wrong)
            else:
                column = made.get(field.name, texts.get(PREFIX + field.name))
                assert column is not None
                made[field.name] = column.dictionary_encode() if pa.types.is_dictionary(field.type) else column
        # Wrong rows may hold a null where none is allowed.
        names_of = span_schema().names
        batch = pa.RecordBatch.from_arrays([made[name] for name in names_of], names=names_of)
        right = self._right(batch, wrong)
        return pa.RecordBatch.from_arrays(right.columns, schema=span_schema())

    def _links(self, column: pa.Array, kind: pa.DataType, wrong: list[tuple[np.ndarray, Any]]) -> pa.Array:
        links: list[Any] = []
        bad = np.zeros(len(column), bool)
        for row, text in enumerate(column.to_pylist()):
            try:
                pairs = None if text is None else orjson.loads(text)
                made = pairs and [dict(zip(("trace_id", "span_id"), pair, strict=True)) for pair in pairs]
                pa.array([made], kind)
            except (ValueError, TypeError, pa.ArrowException):
                made, bad[row] = None, True
            links.append(made)
        wrong.append((bad, lambda row: f"its {LINKS} are no list of links"))
        return pa.array(links, kind)


def _decoded(column: pa.Array) -> pa.Array:
    """Return texts as they were before `encode`."""
    if not pc.any(pc.match_substring(column, "_x")).as_py():
        return column
    return pa.array([text if text is None else decode(text) for text in column.to_pylist()], pa.string())
