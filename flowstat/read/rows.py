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
    are_texts,
    codes,
    combine,
    decoded,
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
from flowstat.read.times import INSTANT, READABLE, UNIT_WORDS, Times, note_untimed
from flowstat.read.whole_ids import ROUNDED, WholeIds, rounded
from flowstat.read.words import shown

__all__ = ["Rows", "Units"]

Cells = dict[str, pa.Array]

Units = dict[str, int]
"""Nanoseconds of the unit of the numbers in columns of times, by their names, in files that are read together."""


class Rows:
    """Converts the rows of one table.

    Attributes
    ----------
    needed
        The columns that are read.
    words
        Those of them that hold few different texts.
    """

    def __init__(
        self, columns: Columns, names: Sequence[str], mapping: Mapping, origin: str, notices: Notices, units: Units
    ) -> None:
        self.columns = columns
        self.origin = origin
        self.notices = notices
        self._schema = span_schema()
        self._times: dict[str, Times] = {}
        self._units = units
        self._are_texts: dict[tuple[str, ...], bool] = {}  # of columns of ids that are bytes
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
        cells = self._decoded(cells)
        cells = {name: self._valid(name, column, bad) for name, column in cells.items()}
        batch = (self._log if self.columns.shape == "log" else self._spans)(cells, length, bad)
        batch = bad.drop(batch)
        if self.columns.time is not None:
            note_untimed(batch, self.origin, self.notices)
        return batch

    def _decoded(self, cells: Cells) -> Cells:
        """Return columns of bytes as texts: ids as hexadecimal digits unless the first that there are are texts."""
        c = self.columns
        made = {name: decoded(column) for name, column in cells.items()}
        # Spans and their parents have to be of one kind.
        for group in ((c.case,), (c.trace,), (c.span, c.parent)):
            names = tuple(name for name in group if name)
            octets = [made[name] for name in names if made[name] is not cells[name]]
            if not octets:
                continue
            if names not in self._are_texts and any(pc.any(pc.greater(pc.binary_length(b), 0)).as_py() for b in octets):
                fixed = any(pa.types.is_fixed_size_binary(cells[name].type) for name in names)
                self._are_texts[names] = not fixed and all(map(are_texts, octets))
            if not self._are_texts.get(names, True):
                made |= {name: self._convert(name, cells[name], ids) for name in names}
        return made

    def _valid(self, name: str, column: pa.Array, bad: BadRows) -> pa.Array:
        column, broken = valid_text(column)
        bad.add(broken, lambda row: f"its text in {name!r} is not UTF-8: save the file as UTF-8")
        return column

    def _log(self, cells: Cells, length: int, bad: BadRows) -> pa.RecordBatch:
        c = self.columns
        assert c.case is not None
        case = cells[c.case]
        case = self._exact(case, f"its case ({c.case!r})", bad)
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
            bad.add(unreadable, lambda row: f"the duration {_said(lasted, row)} ({c.duration!r}) is none")
        arrays = [made[f.name] if f.name in made else pa.nulls(length, f.type) for f in self._schema]
        return pa.RecordBatch.from_arrays(arrays, schema=self._schema)

    def _ids(self, cells: Cells, bad: BadRows) -> dict[str, pa.Array]:
        c = self.columns
        found: dict[str, pa.Array] = {}
        for column, name in (("trace_id", c.trace), ("span_id", c.span), ("parent_id", c.parent)):
            assert name is not None
            found[column] = self._convert(name, self._exact(cells[name], f"its id ({name!r})", bad), ids)
        found["parent_id"] = parents(found["parent_id"])
        whole, lost = self._whole.read(found)
        for column, name in (("trace_id", c.trace), ("span_id", c.span), ("parent_id", c.parent)):
            bad.add(lost.get(column), lambda row, name=name: f"its id ({name!r}) {ROUNDED}")  # type: ignore[misc]
        return whole | {"parent_id": parents(whole["parent_id"])}

    def _exact(self, column: pa.Array, what: str, bad: BadRows) -> pa.Array:
        """Return a column with null for decimals that lost digits, which may be too large for a whole number."""
        lost = rounded(column)
        bad.add(lost, lambda row: f"{what} {ROUNDED}")
        return column if lost is None else pc.if_else(pa.array(lost), pa.scalar(None, column.type), column)

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
        reader = self._times.setdefault(name, Times())
        times, unreadable = reader.read(column)
        bad.add(unreadable, lambda row: f"the time {_said(column, row)} ({name!r}) can't be read: {READABLE}")
        if reader.unit and self._units.setdefault(name, reader.unit) != reader.unit:
            here, before = (UNIT_WORDS[unit] for unit in (reader.unit, self._units[name]))
            raise TraceError(
                f"{self.origin}: by their size the times in {name!r} are {here}, those of the files before {before}: "
                "write them as ISO 8601 text"
            )
        return times


def _said(column: pa.Array, row: int) -> str:
    """Return a cell as messages show it."""
    try:
        return shown(repr(column[row].as_py()))
    except (OverflowError, ValueError):  # a moment that Python has no date for
        number = column.slice(row, 1).cast(pa.int32() if pa.types.is_date32(column.type) else pa.int64())[0]
        return f"{number} ({column.type})"


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
