"""Trace files: found, recognised by content, and read as canonical Arrow batches."""

from __future__ import annotations

import glob
import shutil
import sys
import tempfile
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from flowstat.errors import TraceError
from flowstat.read.canonical import COLUMNS, STATUSES, TraceFormat, schema
from flowstat.read.jsonlines import BOM, read_json_lines
from flowstat.read.words import shown

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["TraceFile", "Traces", "read_traces"]

REQUIRED = ("trace_id", "span_id", "parent_id", "parent", "name", "sent")
WORDS = ("parent", "name", "key", "sent", "status", "worker")

JSON_LINES = (".jsonl", ".ndjson")


def _ignore(problem: str) -> None:
    pass


@dataclass(frozen=True)
class TraceFile:
    """One recorded trace: a file, or a directory of the segments that one run wrote."""

    origin: str
    format: TraceFormat
    parts: tuple[Path, ...]

    def batches(self, report: Callable[[str], None] = _ignore) -> Iterator[pa.RecordBatch]:
        """Read the trace's rows in order, in the canonical schema; `report` hears what was left out.

        Raises
        ------
        TraceError
            Naming the file, and the line or column, that can't be read.
        """
        ids: pa.DataType | None = None
        for part in self.parts:
            origin = self.origin if len(self.parts) == 1 else str(part)
            read = read_json_lines(part, origin, report) if self.format == "jsonl" else _read_parquet(part, origin)
            for batch in read:
                kind = batch.schema.field("trace_id").type
                if kind != (ids or kind):
                    raise TraceError(f"{origin}: its ids are {kind}, those before it {ids}: all are one or the other")
                ids = kind
                yield batch


@dataclass(frozen=True)
class Traces:
    """Recorded traces, read lazily: nothing is in memory until it is counted."""

    files: tuple[TraceFile, ...]

    def batches(self, report: Callable[[str], None] = _ignore) -> Iterator[pa.RecordBatch]:
        """Read the rows of all files, in order; `report` hears what was left out."""
        for file in self.files:
            yield from file.batches(report)

    def frame(self) -> pd.DataFrame:
        """Return all rows as a pandas data frame, with the canonical columns; ids are texts if any file's are."""
        import pandas as pd

        batches = list(self.batches())
        texts = any(pa.types.is_string(batch.schema.field("trace_id").type) for batch in batches)
        want = schema(pa.string() if texts else pa.uint64())
        tables = [pa.Table.from_batches([batch]).cast(want) for batch in batches]
        whole = pa.concat_tables([want.empty_table(), *tables]).unify_dictionaries()
        # Ids beyond 2**53 beside a null would lose digits as floats.
        frame: pd.DataFrame = whole.to_pandas(types_mapper={pa.uint64(): pd.UInt64Dtype()}.get)
        return frame


def read_traces(*paths: str | Path) -> Traces:
    """Find traces; their rows are read when they are counted.

    Parameters
    ----------
    *paths
        Files, directories of segments, glob patterns, or `-` for standard input; canonical Parquet or
        JSON Lines, recognised by content.

    Raises
    ------
    TraceError
        If nothing is there, or a file is empty or neither Parquet nor JSON Lines.
    """
    files: list[TraceFile] = []
    with ExitStack() as copies:
        for path in paths:
            if str(path) == "-":
                copy = copies.enter_context(tempfile.NamedTemporaryFile(prefix="flowstat-stdin-"))
                shutil.copyfileobj(sys.stdin.buffer, copy)
                copy.flush()
                files.append(_recognise("<stdin>", [Path(copy.name)]))
            else:
                files.extend(_find(str(path)))
        if not files:
            raise TraceError("no trace given")
        traces = Traces(tuple(files))
        weakref.finalize(traces, copies.pop_all().close)
    return traces


def _find(path: str) -> Iterator[TraceFile]:
    try:
        if Path(path).exists():
            matches = [path]
        elif glob.has_magic(path):
            matches = sorted(glob.glob(path, recursive=True))
        else:
            matches = []
    except (OSError, ValueError) as error:
        raise TraceError(f"can't read the trace {shown(path, 200)}: {error}") from None
    if not matches:
        raise TraceError(f"no such trace: {shown(path, 200)}")
    for match in matches:
        place = Path(match)
        if not place.is_dir():
            yield _recognise(match, [place])
            continue
        segments = sorted(place.glob("part-*.parquet"))
        if segments:
            yield _recognise(match, segments)
            continue
        try:
            # A link to a directory may lead back: it is not followed.
            seen = (p for p in place.iterdir() if not p.name.startswith("."))
            inside = sorted(p for p in seen if (not p.is_symlink() if p.is_dir() else _is_trace(p)))
        except OSError as error:
            raise TraceError(f"can't read the directory {match}: {error.strerror}") from None
        if not inside:
            raise TraceError(f"{match} is a directory without traces (*.parquet, *.jsonl)")
        for entry in inside:
            yield from _find(str(entry))


def _is_trace(path: Path) -> bool:
    return path.suffix in (".parquet", *JSON_LINES)


def _recognise(origin: str, parts: Sequence[Path]) -> TraceFile:
    try:
        with parts[0].open("rb") as file:
            head = file.read(4096)
    except OSError as error:
        raise TraceError(f"can't read the trace {origin}: {error.strerror}") from None
    if not head:
        raise TraceError(f"{origin} is empty: no trace was recorded in it")
    if head.startswith(b"PAR1"):
        return TraceFile(origin, "parquet", tuple(parts))
    if head.removeprefix(BOM).lstrip().startswith(b"{") or (parts[0].suffix in JSON_LINES and b"\0" not in head):
        return TraceFile(origin, "jsonl", tuple(parts))
    raise TraceError(f"{origin} is neither Parquet nor JSON Lines: it does not begin like a trace")


def _read_parquet(path: Path, origin: str) -> Iterator[pa.RecordBatch]:
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
            for batch in file.iter_batches(columns=[c for c in COLUMNS if c in names]):
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
    return _check_rows(pa.RecordBatch.from_arrays(columns, names=list(COLUMNS)), origin, first)


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
