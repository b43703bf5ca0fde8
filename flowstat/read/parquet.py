"""Canonical traces as Parquet."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from flowstat.errors import TraceError
from flowstat.read.bad_rows import BadRows
from flowstat.read.canonical import COLUMNS, LONELY, MARK, REQUIRED, STATUSES, links_type, schema
from flowstat.read.cells import codes, valid_text
from flowstat.read.mapping import Mapping
from flowstat.read.notices import Notices
from flowstat.read.patterns import parse_pattern
from flowstat.read.whole_ids import ROUNDED, rounded
from flowstat.read.words import shown

__all__ = ["Marks", "marks_of", "read_parquet"]

IDS = ("trace_id", "span_id", "parent_id")
WORDS = ("parent", "name", "key", "sent", "status", "worker")


@dataclass(frozen=True)
class Marks:
    """What the writer of a trace says of it (see `canonical.MARK`).

    Attributes
    ----------
    orphans
        How many events have a parent that was not recorded.
    linked
        Whether events may have links.
    """

    orphans: int
    linked: bool


def marks_of(parts: Sequence[Path]) -> Marks | None:
    """Return what the writer of some segments vouches for; None if they are not, all and alone, one trace of its."""
    rows = orphans = 0
    linked = False
    for part in parts:
        try:
            about = pq.read_metadata(part)
        except (pa.ArrowException, OSError):
            return None
        said = about.metadata or {}
        if said.get(MARK) != f"{rows} {about.num_rows}".encode() or _is_rewritten(about):
            return None
        rows += about.num_rows
        number = said.get(LONELY, b"0")
        orphans += int(number) if number.isdigit() else 0
        linked |= "links" in about.schema.to_arrow_schema().names
    return Marks(orphans, linked)


def _is_rewritten(about: pq.FileMetaData) -> bool:
    """Whether another program wrote a segment again, with the marks it had: flowstat writes no statistics of names."""
    groups = [about.row_group(k) for k in range(about.num_row_groups)]
    columns = [group.column(k) for group in groups for k in range(group.num_columns)]
    return any(column.path_in_schema == "name" and column.is_stats_set for column in columns)


def read_parquet(path: Path, origin: str, mapping: Mapping, notices: Notices) -> Iterator[pa.RecordBatch]:
    """Read a canonical Parquet file in canonical batches, with the column `links` where the file has it.

    Bad records are rows without an id, a send pattern, a known status, or a node that handles it; with a send pattern
    that is none; and with a value that its column can't hold, such as a negative id, or an id that lost digits as a
    decimal number.

    Raises
    ------
    TraceError
        If the file can't be read, or a column is missing or of a type that doesn't fit; for a bad row unless they are
        skipped.
    """
    try:
        columns = pq.read_schema(path)
        names = columns.names
        missing = [c for c in REQUIRED if c not in names]
        if missing:
            raise TraceError(f"{origin} is not a canonical trace: column {missing[0]!r} is missing")
        twice = [c for c in COLUMNS if names.count(c) > 1]
        if twice:
            raise TraceError(f"{origin}: the column {twice[0]!r} is there twice")
        # Words are read as dictionaries, so that a million rows of one name hold it once.
        words = [c for c in WORDS if c in names and columns.types[names.index(c)] == pa.string()]
        with pq.ParquetFile(path, read_dictionary=words) as file:
            first = 1
            for batch in file.iter_batches(columns=[c for c in (*COLUMNS, "links") if c in names]):
                yield _canonical(batch, origin, first, notices)
                first += len(batch)
    except (pa.ArrowException, OSError) as error:
        raise TraceError(f"{origin} can't be read as Parquet (truncated or damaged?): {_first_line(error)}") from None


def _canonical(batch: pa.RecordBatch, origin: str, first: int, notices: Notices) -> pa.RecordBatch:
    """Cast a batch to the canonical schema, without bad rows; a column that may be missing is null (status: ok)."""
    ids = pa.uint64()
    for name in IDS:
        kind = batch.schema.field(name).type
        if not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_null(kind)):
            ids = pa.string()
    bad = BadRows(notices, lambda row: f"{origin}: row {first + row}")
    want = schema(ids)
    columns = []
    for wanted in want:
        at = batch.schema.get_field_index(wanted.name)
        if at < 0:
            value = "ok" if wanted.name == "status" else None
            columns.append(pa.array([value] * len(batch), wanted.type))
            continue
        columns.append(_column(batch.column(at), wanted, origin, bad))
    fields = list(want)
    if "links" in batch.schema.names:
        fields.append(pa.field("links", links_type(ids)))
        columns.append(_column(batch.column("links"), fields[-1], origin, bad))
    made = pa.RecordBatch.from_arrays(columns, names=[field.name for field in fields])
    _look(made, bad)
    right = bad.drop(made)
    return pa.RecordBatch.from_arrays(right.columns, schema=pa.schema(fields))


def _column(column: pa.Array, wanted: pa.Field, origin: str, bad: BadRows) -> pa.Array:
    """Return a column as it is wanted; rows that it can't be in are bad, and null in it."""
    column, broken = valid_text(column)  # Parquet files can hold text that is not UTF-8
    bad.add(broken, lambda row: f"column {wanted.name!r}: not UTF-8 text")
    if wanted.name in IDS:
        bad.add(rounded(column), lambda row: f"its {wanted.name} {ROUNDED}")
    try:
        return _cast(column, wanted.type)
    except pa.ArrowInvalid as error:
        why = _first_line(error)
    except pa.ArrowException as error:
        raise TraceError(f"{origin}: column {wanted.name!r}: {_first_line(error)}") from None
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    wrong: dict[int, str] = {}
    for row in range(len(column)):
        try:
            _cast(column[row : row + 1], wanted.type)
        except pa.ArrowInvalid as error:
            wrong[row] = _first_line(error)
    rows = np.zeros(len(column), bool)
    rows[list(wrong)] = True
    bad.add(rows, lambda row: f"column {wanted.name!r}: {wrong.get(row, why)}")
    return _cast(column.take(pa.array(np.arange(len(column)), mask=rows)), wanted.type)


def _cast(column: pa.Array, kind: pa.DataType) -> pa.Array:
    if pa.types.is_floating(column.type):
        column = pc.if_else(pc.is_nan(column), pa.scalar(None, column.type), column)
        if pa.types.is_string(kind):
            column = column.cast(pa.int64())  # an id, where others are texts
    if pa.types.is_timestamp(kind) and pa.types.is_timestamp(column.type) and column.type.tz is None:
        column = pc.assume_timezone(column, "UTC")
    if pa.types.is_dictionary(kind) and not pa.types.is_dictionary(column.type):
        return column.cast(pa.string()).dictionary_encode().cast(kind)
    return column.cast(kind)


def _look(batch: pa.RecordBatch, bad: BadRows) -> None:
    """Find the rows that can't be counted."""
    for name in ("trace_id", "span_id", "sent", "status"):
        column = batch.column(name)
        if column.null_count:
            bad.add(np.asarray(pc.is_null(column)), lambda row, name=name: f"it has no {name}")  # type: ignore[misc]
    status, sent, name = batch.column("status"), batch.column("sent"), batch.column("name")
    strange = [word not in STATUSES for word in status.dictionary.to_pylist()]
    known = f"it is one of {', '.join(STATUSES)}"
    bad.add(_having(status, strange), lambda row: f"it has the status {shown(repr(status[row].as_py()))}: {known}")
    wrong = [_wrong_pattern(word) for word in sent.dictionary.to_pylist()]
    bad.add(_having(sent, [what is not None for what in wrong]), lambda row: str(wrong[sent.indices[row].as_py()]))
    if name.null_count:
        handled = pc.not_equal(status.cast(pa.string()), "dropped").fill_null(True)
        unnamed = pc.and_(pc.is_null(name), handled)
        bad.add(np.asarray(unnamed), lambda row: "it has no name: which node handled it?")
    empty = [word == "" for word in name.dictionary.to_pylist()]
    bad.add(_having(name, empty), lambda row: "it has an empty name: which node handled it?")


def _having(column: pa.DictionaryArray, words: list[bool]) -> np.ndarray | None:
    """Return which rows have one of some words of a dictionary."""
    if not any(words):
        return None
    rows: np.ndarray = np.array([*words, False])[codes(column)]
    return rows


def _wrong_pattern(sent: str | None) -> str | None:
    try:
        parse_pattern(sent or "")
    except TraceError as error:
        return f"'sent' is {error}"
    return None


def _first_line(error: BaseException) -> str:
    return shown(str(error).split("\n", 1)[0], 200) or type(error).__name__
