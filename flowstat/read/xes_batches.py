"""Events of XES as batches: of a log, or of the spans that `flowstat.read.xes_writer` wrote as one."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from flowstat.read.bad_rows import BadRows
from flowstat.read.canonical import STATUSES, span_schema
from flowstat.read.cells import combine
from flowstat.read.nodes import Template
from flowstat.read.notices import Notices
from flowstat.read.times import READABLE, Times, note_untimed
from flowstat.read.words import is_storable, shown
from flowstat.read.xes_blocks import Events
from flowstat.read.xes_writer import DROPPED, LINKS, NAME, PREFIX, decode

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
        nothing = np.array(self._nameless(cases))
        if not nothing.any():
            return cases
        names = cases.to_pylist()
        for at in np.flatnonzero(nothing).tolist():
            names[at] = f"(trace {self.traces + at + 1})"
        example = f"{self.origin}: {names[int(nothing.argmax())]}"
        self.notices.note("traces without a name, called by their number", example, int(nothing.sum()))
        return pa.array(names, pa.string())

    def _nameless(self, cases: pa.Array) -> pa.Array:
        return pc.equal(cases, "").fill_null(True)

    def _without_events(self, traces: int, case_of: np.ndarray) -> None:
        empty = np.bincount(case_of, minlength=traces) == 0
        if empty.any():
            example = f"{self.origin}: trace {self.traces + int(empty.argmax()) + 1}"
            self.notices.note("traces without any event, left out", example, int(empty.sum()))

    def _bad(self, length: int) -> BadRows:
        """Return what takes the bad events of so many that come next."""
        first = self.events + 1
        self.events += length
        return BadRows(self.notices, lambda row: f"{self.origin}: event {first + row}")


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
        bad = self._bad(len(cases))
        bad.add(np.array(pc.is_null(name)), lambda row: f"it has no name ({fields})")
        what = "the time {} ({}) can't be read: {}"
        bad.add(unreadable, lambda row: what.format(shown(repr(text[row].as_py())), self._key, READABLE))
        batch = bad.drop(pa.RecordBatch.from_arrays([cases, name, times], names=["trace_id", "name", "started_at"]))
        note_untimed(batch, self.origin, self.notices)
        return batch

    def _node(self, values: tuple[str | None, ...]) -> str | None:
        fields = zip(self._template.fields, values, strict=True)
        return self._template.name({field: value or "" for field, value in fields}) or None


class SpanConverter(Converter):
    """Makes batches of spans from the attributes that `XesWriter` gives them."""

    def batch(self, found: list[Events]) -> pa.RecordBatch:
        """Return spans in one batch."""
        cases, values = self._joined(found)
        bad = self._bad(len(cases))
        texts = {key: self._decoded(value, key, bad) for key, value in values.items()}
        status = texts[PREFIX + "status"]
        strange = np.array(pc.invert(pc.is_in(status, pa.array(STATUSES))))
        bad.add(strange, lambda row: f"its {PREFIX}status is {shown(repr(status[row].as_py()))}")
        ids = texts[PREFIX + "span_id"]
        bad.add(np.array(pc.equal(ids, "").fill_null(True)), lambda row: f"it has no {PREFIX}span_id")
        dropped = pc.equal(status, "dropped").fill_null(False)
        nameless = pc.and_(dropped, pc.equal(values[NAME], DROPPED).fill_null(False))
        names = pc.if_else(nameless, pa.scalar(None, pa.string()), texts[NAME])
        unnamed = pc.and_(pc.equal(names, "").fill_null(True), pc.invert(dropped))
        bad.add(np.array(unnamed), lambda row: f"it has no name ({NAME})")
        made = {"trace_id": self._decoded(cases.cast(pa.string()), f"trace's {NAME}", bad), "name": names}
        for field in span_schema():
            if pa.types.is_timestamp(field.type):
                clock = Times()
                clock.unit = 1
                made[field.name], unreadable = clock.read(texts[PREFIX + field.name])
                bad.add(unreadable, lambda row, key=PREFIX + field.name: f"its {key} is no time")  # type: ignore[misc]
            elif field.name == "links":
                made[field.name] = self._links(texts[LINKS], field.type, bad)
            else:
                column = made.get(field.name, texts.get(PREFIX + field.name))
                assert column is not None
                made[field.name] = column.dictionary_encode() if pa.types.is_dictionary(field.type) else column
        # Wrong rows may hold a null where none is allowed.
        names_of = span_schema().names
        right = bad.drop(pa.RecordBatch.from_arrays([made[name] for name in names_of], names=names_of))
        return pa.RecordBatch.from_arrays(right.columns, schema=span_schema())

    def _nameless(self, cases: pa.Array) -> pa.Array:
        return pc.is_null(cases)  # an empty id is one

    def _decoded(self, column: pa.Array, key: str, bad: BadRows) -> pa.Array:
        """Return texts as they were before `encode`; what no text was made of is null, and its row bad."""
        if not pc.any(pc.match_substring(column, "_x")).as_py():
            return column
        texts = [text if text is None else decode(text) for text in column.to_pylist()]
        wrong = np.array([text is not None and not is_storable(text) for text in texts])
        bad.add(wrong, lambda row: f"its {key} is {shown(repr(column[row].as_py()))}, half a surrogate pair")
        return pa.array([None if half else text for text, half in zip(texts, wrong.tolist(), strict=True)], pa.string())

    def _links(self, column: pa.Array, kind: pa.DataType, bad: BadRows) -> pa.Array:
        links: list[Any] = []
        wrong = np.zeros(len(column), bool)
        for row, text in enumerate(column.to_pylist()):
            try:
                pairs = None if text is None else orjson.loads(text)
                made = pairs and [dict(zip(("trace_id", "span_id"), pair, strict=True)) for pair in pairs]
                pa.array([made], kind)
            except (ValueError, TypeError, pa.ArrowException):
                made, wrong[row] = None, True
            links.append(made)
        bad.add(wrong, lambda row: f"its {LINKS} are no list of links")
        return pa.array(links, kind)
