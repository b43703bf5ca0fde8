"""Canonical traces: their columns, and their files while a run goes on.

A Parquet trace is a directory of segments, each complete in itself: what a killed run had written can be
read. Read it with pandas or pyarrow as one file, in DuckDB as `trace.parquet/*.parquet`. A JSON Lines
trace is one file, written in whole lines.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Literal, Protocol, Self

import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from flowstat.errors import OutputError

__all__ = [
    "COLUMNS",
    "LONELY",
    "MARK",
    "REQUIRED",
    "STARTS",
    "STATUSES",
    "TIMES",
    "TraceFormat",
    "TraceWriter",
    "links_type",
    "open_writer",
    "schema",
    "span_schema",
]

TraceFormat = Literal["parquet", "jsonl"]

STATUSES = ("ok", "error", "dropped", "pending")
"""What became of a message: handled, handled with an exception, taken by no arrow, never handled."""

TIMES = ("sent_at", "started_at", "ended_at")
COLUMNS = ("trace_id", "span_id", "parent_id", "parent", "name", "key", "sent", *TIMES, "status", "worker")

REQUIRED = ("trace_id", "span_id", "parent_id", "parent", "name", "sent")
"""The columns that make a Parquet file a canonical trace."""

MARK = b"flowstat.after"
"""Metadata of a segment whose ids are right: unique, parents in the same trace; its value says how many rows
come in the segments before it and how many it has, so that one that is missing, a stranger or changed shows."""

STARTS = b"flowstat.starts"
"""Metadata of such a segment: how many of its runs start at each node, as JSON."""

LONELY = b"flowstat.orphans"
"""Metadata of a batch or segment: how many events of its trace have a parent that was not recorded."""

_SEGMENT = "part-{:06d}.parquet"


def schema(ids: pa.DataType | None = None) -> pa.Schema:
    """Return the Arrow schema of a canonical trace whose ids are `ids` (uint64 unless told: or string)."""
    ids = ids or pa.uint64()
    word = pa.dictionary(pa.int32(), pa.string())
    types = {
        **dict.fromkeys(("trace_id", "span_id", "parent_id"), ids),
        **dict.fromkeys(("parent", "name", "key", "sent", "status", "worker"), word),
        **dict.fromkeys(TIMES, pa.timestamp("ns", tz="UTC")),
    }
    required = ("trace_id", "span_id", "sent", "status")
    return pa.schema([pa.field(c, types[c], nullable=c not in required) for c in COLUMNS])


def span_schema() -> pa.Schema:
    """Return the schema of spans as their formats tell them: ids are texts, and so are those of links.

    `sent` is null where it is to follow from the children, `parent` where the sender's node is unknown.
    """
    fields = [f.with_nullable(f.name not in ("trace_id", "span_id", "status")) for f in schema(pa.string())]
    return pa.schema([*fields, pa.field("links", links_type(pa.string()))])


def links_type(ids: pa.DataType) -> pa.DataType:
    """Return the type of the column `links`: the events that an event was linked from, if any."""
    return pa.list_(pa.struct([pa.field("trace_id", ids), pa.field("span_id", ids)]))


class TraceWriter(Protocol):
    """Takes a trace batch by batch; every batch written is safe from then on."""

    def write(self, batch: pa.RecordBatch) -> None:
        """Add rows in the canonical schema."""

    def close(self) -> None:
        """Finish; a trace without any rows is still a readable trace."""

    def __enter__(self) -> TraceWriter: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


def open_writer(
    path: str | Path, format: TraceFormat | None = None, *, overwrite: bool = False, whole: bool = False
) -> TraceWriter:
    """Open a trace for writing; the format follows from the name (`.jsonl`, else Parquet) unless given.

    With `whole`, a trace is removed when the block that the writer serves fails; otherwise what was written stays, as
    the trace of a run that was killed. Where nothing was written, no file is left of it; and a trace that is to be
    overwritten is there until the first rows of the new one are.

    Raises
    ------
    OutputError
        If something is there already and `overwrite` is not set, or it is not a trace, or the place
        can't be written.
    """
    path = Path(path)
    if format is None:
        format = "jsonl" if path.suffix in (".jsonl", ".ndjson") else "parquet"
    if format not in ("parquet", "jsonl"):
        raise OutputError(f"unknown trace format {format!r}: it is 'parquet' or 'jsonl'")
    try:
        _refuse(path, overwrite)
        path.parent.mkdir(parents=True, exist_ok=True)
        return _JsonLinesWriter(path, whole) if format == "jsonl" else _ParquetWriter(path, whole)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise OutputError(f"can't write a trace to {path}: {reason}") from None


def _refuse(path: Path, overwrite: bool) -> None:
    """Raise an OutputError if something is there that may not be written over."""
    if not path.exists():
        return
    if not overwrite:
        raise OutputError(f"{path} is there already: choose another name, or --overwrite")
    if path.is_dir():
        strangers = [f.name for f in path.iterdir() if not f.name.startswith((".part-", "part-"))]
        if strangers:
            raise OutputError(f"{path} is a directory with other files ({strangers[0]}): it is not overwritten")
        return
    if path.is_file():
        with path.open("rb") as file:
            head = file.read(4096)
        if head and not head.startswith((b"PAR1", b"{")):
            raise OutputError(f"{path} is a file but not a trace: it is not overwritten")


def _clear(path: Path) -> None:
    """Remove a trace that is there."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


class _Writer:
    """What the writers share: a failed write is an OutputError, and closing tries nothing more."""

    def __init__(self, path: Path, whole: bool) -> None:
        self.path = path
        self.whole = whole
        self.failed = self.begun = self.written = False
        if not path.exists():
            self.begin()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        lost = kind is not None and (self.whole or not self.written)
        try:
            if not lost or self.written:
                self.close()
        finally:
            if lost and self.begun:
                self.remove()

    def begin(self) -> None:
        """Make the file, if it was not made yet, in the place of an older one."""
        if not self.begun:
            _clear(self.path)
            self.make()
            self.begun = True

    def make(self) -> None:
        raise NotImplementedError

    def close(self) -> None:
        raise NotImplementedError

    def remove(self) -> None:
        raise NotImplementedError

    @contextmanager
    def writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self.failed = True
            raise OutputError(
                f"can't write the trace {self.path}: {error.strerror or error}; what was written before is readable"
            ) from error


class _ParquetWriter(_Writer):
    def __init__(self, path: Path, whole: bool) -> None:
        super().__init__(path, whole)
        self.segments = 0
        self.rows = 0

    def make(self) -> None:
        self.path.mkdir()

    def write(self, batch: pa.RecordBatch) -> None:
        # Written under another name first: a segment is complete or not there.
        final = self.path / _SEGMENT.format(self.segments)
        draft = self.path / f".{final.name}"
        # Ids and times grow by small steps, names repeat: these encodings, with few statistics, take a
        # quarter of the time of the defaults and give far smaller files. The statistics tell the count
        # which columns it need not read: who is a root where parents and parent ids are null together,
        # and the status where every row is ok.
        words = [f.name for f in batch.schema if pa.types.is_dictionary(f.type)]
        steady = [f.name for f in batch.schema if pa.types.is_integer(f.type) or pa.types.is_timestamp(f.type)]
        lonely = (batch.schema.metadata or {}).get(LONELY)
        about = {MARK: f"{self.rows} {len(batch)}", STARTS: orjson.dumps(_starts(batch))}
        about |= {LONELY: lonely} if lonely else {}
        table = pa.Table.from_batches([batch]).replace_schema_metadata(about)
        with self.writing():
            self.begin()
            try:
                pq.write_table(
                    table,
                    draft,
                    compression="zstd",
                    use_dictionary=words,
                    column_encoding=dict.fromkeys(steady, "DELTA_BINARY_PACKED"),
                    write_statistics=["parent_id", "parent", "status"],
                )
                os.replace(draft, final)
            except OSError:
                with suppress(OSError):
                    draft.unlink()
                raise
        self.segments += 1
        self.rows += len(batch)
        self.written = True

    def close(self) -> None:
        if not self.segments and not self.failed:
            self.write(pa.RecordBatch.from_pylist([], schema=schema()))

    def remove(self) -> None:
        shutil.rmtree(self.path, ignore_errors=True)


def _starts(batch: pa.RecordBatch) -> dict[str, int]:
    """Return how many runs start at each node: rows without a parent that were handled."""
    columns = dict(zip(batch.schema.names, batch.columns, strict=True))
    root = pc.is_null(columns["parent_id"])
    status = columns["status"]
    handled = pc.is_in(status.dictionary, pa.array(["ok", "error"]))
    if not pc.all(handled).as_py():
        root = pc.and_(root, handled.take(status.indices))
    found = pc.value_counts(columns["name"].filter(root))
    return {row["values"]: row["counts"] for row in found.to_pylist() if row["values"] is not None}


class _JsonLinesWriter(_Writer):
    def __init__(self, path: Path, whole: bool) -> None:
        self.size = 0
        super().__init__(path, whole)

    def make(self) -> None:
        self.file = self.path.open("wb", buffering=0)

    def write(self, batch: pa.RecordBatch) -> None:
        lines = memoryview(b"".join(orjson.dumps(row) + b"\n" for row in to_json_rows(batch)))
        with self.writing():
            self.begin()
            try:
                written = 0
                while written < len(lines):
                    written += self.file.write(lines[written:])
            except OSError:
                # No half line is left where the place allows it.
                with suppress(OSError):
                    self.file.truncate(self.size)
                raise
        self.size += written
        self.written = True

    def close(self) -> None:
        with self.writing():
            self.begin()
            self.file.close()

    def remove(self) -> None:
        self.file.close()
        self.path.unlink(missing_ok=True)


def to_json_rows(batch: pa.RecordBatch) -> list[dict[str, object]]:
    """Return rows as JSON-ready data: times are ISO 8601 texts in UTC with nanoseconds."""
    columns = [_plain(column) for column in batch.columns]
    names = batch.schema.names
    return [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]


def _plain(column: pa.Array) -> list[object]:
    """Return a column as Python values; several times as fast as `to_pylist` for words and nulls."""
    if column.null_count == len(column):
        return [None] * len(column)
    if pa.types.is_dictionary(column.type):
        words = [*column.dictionary.to_pylist(), None]  # -1 is the null
        return [words[i] for i in column.indices.fill_null(-1).to_numpy().tolist()]
    if pa.types.is_timestamp(column.type):
        column = pc.strftime(column, format="%Y-%m-%dT%H:%M:%SZ")
    values: list[object] = column.to_pylist()
    return values
