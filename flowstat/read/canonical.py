"""Canonical traces: their columns, and their files while a run goes on.

A Parquet trace is a directory of segments, each complete in itself: what a killed run had written can be
read. Read it with pandas or pyarrow as one file, in DuckDB as `trace.parquet/*.parquet`. A JSON Lines
trace is one file, written in whole lines.
"""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Literal, Protocol

import pyarrow as pa

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
        from flowstat.read.canonical_writers import JsonLinesWriter, ParquetWriter

        _refuse(path, overwrite)
        path.parent.mkdir(parents=True, exist_ok=True)
        return JsonLinesWriter(path, whole) if format == "jsonl" else ParquetWriter(path, whole)
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
