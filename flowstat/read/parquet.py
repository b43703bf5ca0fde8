"""Canonical traces as Parquet."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from flowstat.errors import TraceError
from flowstat.read.canonical import COLUMNS, LONELY, MARK, REQUIRED, STATUSES, links_type, schema
from flowstat.read.mapping import Mapping
from flowstat.read.notices import Notices
from flowstat.read.words import shown

__all__ = ["Marks", "marks_of", "read_parquet"]

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
        if said.get(MARK) != str(rows).encode():
            return None
        rows += about.num_rows
        number = said.get(LONELY, b"0")
        orphans += int(number) if number.isdigit() else 0
        linked |= "links" in about.schema.to_arrow_schema().names
    return Marks(orphans, linked)


def read_parquet(path: Path, origin: str, mapping: Mapping, notices: Notices) -> Iterator[pa.RecordBatch]:
    """Read a canonical Parquet file in canonical batches, with the column `links` where the file has it.

    Raises
    ------
    TraceError
        Naming the file, and the row or column that is wrong.
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
                yield _canonical(batch, origin, first)
                first += len(batch)
    except (pa.ArrowException, OSError) as error:
        raise TraceError(f"{origin} can't be read as Parquet (truncated or damaged?): {_first_line(error)}") from None


def _canonical(batch: pa.RecordBatch, origin: str, first: int) -> pa.RecordBatch:
    """Cast a batch to the canonical schema; a column that may be missing becomes null (status: ok)."""
    ids = pa.uint64()
    for name in ("trace_id", "span_id", "parent_id"):
        kind = batch.schema.field(name).type
        if not (pa.types.is_integer(kind) or pa.types.is_null(kind)):
            ids = pa.string()
    want = schema(ids)
    columns = []
    for wanted in want:
        at = batch.schema.get_field_index(wanted.name)
        if at < 0:
            value = "ok" if wanted.name == "status" else None
            columns.append(pa.array([value] * len(batch), wanted.type))
            continue
        try:
            column = _cast(batch.column(at), wanted.type)
            column.validate(full=True)  # Parquet files can hold text that is not UTF-8
            columns.append(column)
        except pa.ArrowException as error:
            raise TraceError(f"{origin}: column {wanted.name!r}: {_first_line(error)}") from None
    fields = list(want)
    if "links" in batch.schema.names:
        link = links_type(ids)
        try:
            columns.append(batch.column(batch.schema.get_field_index("links")).cast(link))
        except pa.ArrowException as error:
            raise TraceError(f"{origin}: column 'links': {_first_line(error)}") from None
        fields.append(pa.field("links", link))
    return _check_rows(pa.RecordBatch.from_arrays(columns, schema=pa.schema(fields)), origin, first)


def _cast(column: pa.Array, kind: pa.DataType) -> pa.Array:
    if pa.types.is_floating(column.type):
        column = pc.if_else(pc.is_nan(column), pa.scalar(None, column.type), column)
    if pa.types.is_timestamp(kind) and pa.types.is_timestamp(column.type) and column.type.tz is None:
        column = pc.assume_timezone(column, "UTC")
    if pa.types.is_dictionary(kind) and not pa.types.is_dictionary(column.type):
        return column.cast(pa.string()).dictionary_encode().cast(kind)
    return column.cast(kind)


def _check_rows(batch: pa.RecordBatch, origin: str, first: int) -> pa.RecordBatch:
    """Return a batch whose rows can all be counted.

    Raises
    ------
    TraceError
        Naming the first row without an id, a send pattern, a known status, or a node that handles it.
    """
    for name in ("trace_id", "span_id", "sent", "status"):
        column = batch.column(name)
        if column.null_count:
            row = pc.index(pc.is_null(column), True).as_py() + first
            raise TraceError(f"{origin}: row {row} has no {name}")
    statuses = batch.column("status").dictionary.to_pylist()
    for status in statuses:
        if status not in STATUSES:
            row = pc.index(pc.equal(batch.column("status").cast(pa.string()), status), True).as_py()
            if row >= 0:
                what = f"has the status {shown(repr(status))}: it is one of {', '.join(STATUSES)}"
                raise TraceError(f"{origin}: row {row + first} {what}")
    unnamed = pc.is_null(batch.column("name"))
    if batch.column("name").null_count:
        handled = pc.and_(unnamed, pc.not_equal(batch.column("status").cast(pa.string()), "dropped"))
        row = pc.index(handled, True).as_py()
        if row >= 0:
            raise TraceError(f"{origin}: row {row + first} has no name: which node handled it?")
    empty = pc.index(pc.equal(batch.column("name").cast(pa.string()), ""), True).as_py()
    if empty >= 0:
        raise TraceError(f"{origin}: row {empty + first} has an empty name: which node handled it?")
    return batch


def _first_line(error: BaseException) -> str:
    return shown(str(error).split("\n", 1)[0], 200) or type(error).__name__
