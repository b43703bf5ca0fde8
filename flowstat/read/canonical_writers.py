"""How canonical traces are written: whole segments, or whole lines."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Self

import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from flowstat.errors import OutputError
from flowstat.read.canonical import LONELY, MARK, STARTS, schema

__all__ = ["JsonLinesWriter", "ParquetWriter", "to_json_rows"]

_SEGMENT = "part-{:06d}.parquet"


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
        """Make the file, or the directory."""
        raise NotImplementedError

    def close(self) -> None:
        """End the trace."""
        raise NotImplementedError

    def remove(self) -> None:
        """Remove the trace."""
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


class ParquetWriter(_Writer):
    """Writes a directory of segments, each complete in itself."""

    def __init__(self, path: Path, whole: bool) -> None:
        super().__init__(path, whole)
        self.segments = 0
        self.rows = 0

    def make(self) -> None:
        """Make the file, or the directory."""
        self.path.mkdir()

    def write(self, batch: pa.RecordBatch) -> None:
        """Write the rows of a batch."""
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
        """End the trace."""
        if not self.segments and not self.failed:
            self.write(pa.RecordBatch.from_pylist([], schema=schema()))

    def remove(self) -> None:
        """Remove the trace."""
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


class JsonLinesWriter(_Writer):
    """Writes one file, in whole lines."""

    def __init__(self, path: Path, whole: bool) -> None:
        self.size = 0
        super().__init__(path, whole)

    def make(self) -> None:
        """Make the file, or the directory."""
        self.file = self.path.open("wb", buffering=0)

    def write(self, batch: pa.RecordBatch) -> None:
        """Write the rows of a batch."""
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
        """End the trace."""
        with self.writing():
            self.begin()
            self.file.close()

    def remove(self) -> None:
        """Remove the trace."""
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
