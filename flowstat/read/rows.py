"""Rows of a foreign table as spans or as a log, batch by batch: cells converted, bad rows reported."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from flowstat.errors import TraceError
from flowstat.read.bad_rows import BadRows
from flowstat.read.canonical import span_schema
from flowstat.read.cells import (
    Unreadable,
    codes,
    combine,
    ids,
    parents,
    pod_service,
    statuses,
    translate,
    valid_text,
    words,
    zeros,
)
from flowstat.read.columns import Columns
from flowstat.read.mapping import Mapping
from flowstat.read.node_columns import fields_of, node_template
from flowstat.read.notices import Notices
from flowstat.read.times import INSTANT, READABLE, Times, note_untimed
from flowstat.read.whole_ids import ROUNDED, WholeIds, rounded
from flowstat.read.words import shown

__all__ = ["Rows"]

Cells = dict[str, pa.Array]


class Rows:
    """Converts the rows of one table.

    Attributes
    ----------
    needed
        The columns that are read.
    words
        Those of them that hold few different texts.
    """

    def __init__(self, columns: Columns, names: Sequence[str], mapping: Mapping, origin: str, notices: Notices) -> None:
        self.columns = columns
        self.origin = origin
        self.notices = notices
        self._schema = span_schema()
        self._times: dict[str, Times] = {}
        self._whole = WholeIds()
        self._nodes: dict[tuple[str | None, ...], str] = {}  # of the template, by its values
        c = columns
        if c.shape == "log" and c.time is None:
            notices.note("logs without a column of times, taken in their own order (--time names one)", origin)
        self._template = node_template(c, mapping)
        self._fields = fields_of(c, self._template, names, origin)
        few = [c.case, c.activity or c.name, *self._fields.values(), c.status, c.worker, c.key, c.sent]
        self.words = tuple(dict.fromkeys(name for name in few if name))
        many = [c.time, c.trace, c.span, c.parent, c.started, c.ended, c.duration, c.sent_at]
        self.needed = tuple(dict.fromkeys([*self.words, *(name for name in many if name)]))

    def read(self, cells: Cells, length: int, number: Callable[[int], int]) -> pa.RecordBatch:
        """Return a batch of rows converted, without the bad ones.

        Parameters
        ----------
        cells
            The needed columns.
        number
            Gives the number in the table of a row of the batch.

        Raises
        ------
        TraceError
            For a bad row unless they are skipped; if a column's type doesn't fit.
        """
        bad = BadRows(self.notices, lambda row: f"{self.origin}: row {number(row)}")
        cells = {name: self._valid(name, column, bad) for name, column in cells.items()}
        batch = (self._log if self.columns.shape == "log" else self._spans)(cells, length, bad)
        batch = bad.drop(batch)
        if self.columns.time is not None:
            note_untimed(batch, self.origin, self.notices)
        return batch

    def _valid(self, name: str, column: pa.Array, bad: BadRows) -> pa.Array:
        column, broken = valid_text(column)
        bad.add(broken, lambda row: f"its text in {name!r} is not UTF-8: save the file as UTF-8")
        return column

    def _log(self, cells: Cells, length: int, bad: BadRows) -> pa.RecordBatch:
        c = self.columns
        assert c.case is not None
        case = cells[c.case]
        bad.add(rounded(case), lambda row: f"its case ({c.case!r}) {ROUNDED}")
        if not pa.types.is_integer(case.type):
            case = _named(self._convert(c.case, case, words))
        bad.add(_nulls(case), lambda row: f"it has no case ({c.case!r} is empty)")
        name = self._name(cells, length, bad)
        time = self._time(c.time, cells, length, bad)
        return pa.RecordBatch.from_arrays([case, name, time], names=["trace_id", "name", "started_at"])

    def _spans(self, cells: Cells, length: int, bad: BadRows) -> pa.RecordBatch:
        c = self.columns
        made = self._ids(cells, bad)
        for column, name in (("trace_id", c.trace), ("span_id", c.span)):
            nothing = np.array(pc.equal(made[column], "").fill_null(True))
            bad.add(nothing, lambda row, name=name: f"it has no id ({name!r} is empty)")  # type: ignore[misc]
        zero = "is zero, which stands for no span: number spans from 1"
        bad.add(np.array(zeros(made["span_id"])), lambda row: f"its id ({c.span!r}) {zero}")
        made["status"] = self._status(cells, length)
        made["name"] = self._name(cells, length, bad, made["status"])
        for column, name in (("key", c.key), ("sent", c.sent), ("worker", c.worker)):
            if name:
                made[column] = self._convert(name, cells[name], words)
        for column, name in (("sent_at", c.sent_at), ("started_at", c.started), ("ended_at", c.ended)):
            made[column] = self._time(name, cells, length, bad)
        if c.duration:
            lasted = cells[c.duration]
            made["ended_at"], unreadable = _after(made["started_at"], lasted, c.unit)
            bad.add(unreadable, lambda row: f"the duration {shown(repr(lasted[row].as_py()))} ({c.duration!r}) is none")
        arrays = [made[f.name] if f.name in made else pa.nulls(length, f.type) for f in self._schema]
        return pa.RecordBatch.from_arrays(arrays, schema=self._schema)

    def _ids(self, cells: Cells, bad: BadRows) -> dict[str, pa.Array]:
        c = self.columns
        found: dict[str, pa.Array] = {}
        for column, name in (("trace_id", c.trace), ("span_id", c.span), ("parent_id", c.parent)):
            assert name is not None
            bad.add(rounded(cells[name]), lambda row, name=name: f"its id ({name!r}) {ROUNDED}")  # type: ignore[misc]
            found[column] = self._convert(name, cells[name], ids)
        found["parent_id"] = parents(found["parent_id"])
        whole, lost = self._whole.read(found)
        for column, name in (("trace_id", c.trace), ("span_id", c.span), ("parent_id", c.parent)):
            bad.add(lost.get(column), lambda row, name=name: f"its id ({name!r}) {ROUNDED}")  # type: ignore[misc]
        return whole | {"parent_id": parents(whole["parent_id"])}

    def _status(self, cells: Cells, length: int) -> pa.DictionaryArray:
        name = self.columns.status
        if name is None:
            return pa.DictionaryArray.from_arrays(pa.array(np.zeros(length, np.int32)), pa.array(["ok"]))
        column = self._convert(name, cells[name], words)
        status, unknown = statuses(column)
        for word in sorted(unknown):
            number = int((codes(column) == column.dictionary.to_pylist().index(word)).sum())
            if number:
                example = f"{self.origin}: {shown(repr(word))} in column {name!r}"
                self.notices.note("spans with an unknown word as their status, taken as ok", example, number)
        return status

    def _name(
        self, cells: Cells, length: int, bad: BadRows, status: pa.DictionaryArray | None = None
    ) -> pa.DictionaryArray:
        """Return each row's node: where it takes one column only, that one as it is."""
        parts: list[pa.DictionaryArray] = []
        for field, column in self._fields.items():
            part = self._convert(column, cells[column], words)
            derived = field == "service" and self.columns.service is None
            parts.append(translate(part, pod_service) if derived else part)
        name = _named(parts[0]) if self._template is None else combine(parts, self._fill)
        unnamed = _nulls(name)
        if unnamed is not None and status is not None and "dropped" in status.dictionary.to_pylist():
            unnamed &= codes(status) != status.dictionary.index("dropped").as_py()  # no node took it
        empty = " and ".join(repr(column) for column in dict.fromkeys(self._fields.values()))
        bad.add(unnamed, lambda row: f"it has no name (nothing in {empty})")
        return name

    def _fill(self, values: tuple[str | None, ...]) -> str | None:
        known = self._nodes.get(values)
        if known is None:
            fields = dict(zip(self._fields, (value or "" for value in values), strict=True))
            known = self._nodes[values] = self._template.name(fields) if self._template else ""
        return known or None

    def _convert(self, name: str, column: pa.Array, convert: Callable[[pa.Array], pa.Array]) -> pa.Array:
        try:
            return convert(column)
        except Unreadable as error:
            raise TraceError(f"{self.origin}: the column {shown(repr(name))} can't be read: {error}") from None

    def _time(self, name: str | None, cells: Cells, length: int, bad: BadRows) -> pa.Array:
        if name is None:
            return pa.nulls(length, INSTANT)
        column = cells[name]
        times, unreadable = self._times.setdefault(name, Times()).read(column)

        def what(row: int) -> str:
            return f"the time {shown(repr(column[row].as_py()))} ({name!r}) can't be read: {READABLE}"

        bad.add(unreadable, what)
        return times


def _nulls(column: pa.Array) -> np.ndarray | None:
    return np.array(pc.is_null(column)) if column.null_count else None


def _named(column: pa.DictionaryArray) -> pa.DictionaryArray:
    """Return a column whose empty words are nulls."""
    empty = column.dictionary.index("").as_py()
    if empty < 0:
        return column
    indices = pc.if_else(pc.equal(column.indices, empty), pa.scalar(None, column.indices.type), column.indices)
    return pa.DictionaryArray.from_arrays(indices, column.dictionary)


def _after(started: pa.Array, durations: pa.Array, unit: int) -> tuple[pa.Array, np.ndarray]:
    """Return when handlings ended, unknown where the start or the duration is, and which durations are no numbers."""
    if pa.types.is_string(durations.type):
        durations = pc.utf8_trim_whitespace(durations)
        number = pc.match_substring_regex(durations, "^[0-9]{1,18}([.][0-9]*)?$")
        numbers = pc.if_else(number, durations, pa.scalar(None, pa.string())).cast(pa.float64())
    elif pa.types.is_integer(durations.type) or pa.types.is_floating(durations.type):
        numbers = durations.cast(pa.float64(), safe=False)  # to the nanosecond below 104 days
    else:
        numbers = pa.nulls(len(durations), pa.float64())
    lasted = numbers.to_numpy(zero_copy_only=False) * unit
    since = started.cast(pa.int64()).fill_null(0).to_numpy()
    possible = (lasted >= 0) & (lasted < 2.0**62) & (since < 2**62)
    ended = since + np.where(possible, lasted, 0).astype(np.int64)
    known = possible & ~np.array(pc.is_null(started))
    absent = np.array(pc.is_null(durations, nan_is_null=pa.types.is_floating(durations.type)))
    return pa.array(ended, pa.int64(), mask=~known).cast(INSTANT), ~possible & ~absent
