"""Tables of spans and sequential logs: CSV and Parquet with any columns.

Rows are counted from 1; a CSV file's header is none. See `flowstat.read.columns` for which column is what, and
`flowstat.read.times` for times.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from flowstat.errors import TraceError
from flowstat.read.columns import Columns, find_columns
from flowstat.read.mapping import Mapping
from flowstat.read.notices import Notices
from flowstat.read.opening import open_unpacked
from flowstat.read.rows import Rows
from flowstat.read.words import shown

__all__ = ["parquet_spans", "read_table"]

LOG_ROWS = 1 << 18
SPAN_ROWS = 1 << 16

BLOCK = 4 << 20
"""Bytes of a CSV file that are parsed at once; a row can't be longer."""

HEADER = 1 << 20
DELIMITERS = ",;\t|"
BOM = b"\xef\xbb\xbf"


def read_table(path: Path, origin: str, mapping: Mapping, notices: Notices) -> Iterator[pa.RecordBatch]:
    """Read a table of spans or a sequential log, CSV or Parquet, in batches.

    CSV is UTF-8 text, perhaps packed with gzip or zstd, with a header; its delimiter (comma, semicolon, tab or `|`) is
    the one that the header has most of. Only the columns that are needed are converted.

    Of spans, ids are taken as texts; a parent that is null, empty, `root`, `none`, `null` or zeros only makes a root.
    The node is `mapping.node`, filled with the columns (`service`, `name`, `worker`, `key` and `status` are those
    found for that), else `{service}.{name}`, or `{name}` where no service is known. Without a column of services, a
    Kubernetes pod's name says it. A status that is no word for an error is ok.

    Bad records are rows with a wrong number of fields, without a case, an activity, a trace or span id, with an
    empty node name, and with a time that can't be read; an empty time is unknown.

    Yields
    ------
    pyarrow.RecordBatch
        Spans with `flowstat.read.canonical.span_schema`; of a log the columns trace_id (the case: a dictionary of
        texts, or whole numbers as they are), name (dictionary) and started_at, in the table's order. At least one
        batch, perhaps empty.

    Raises
    ------
    TraceError
        If the file can't be read, or a column is missing or of a type that doesn't fit; for a bad record unless
        they are skipped.
    """
    try:
        with path.open("rb") as file:
            parquet = file.read(4) == b"PAR1"
    except OSError as error:
        raise TraceError(f"can't read the trace {origin}: {error.strerror or error}") from None
    return (_read_parquet if parquet else _read_csv)(path, origin, mapping, notices)


def parquet_spans(path: Path, origin: str, mapping: Mapping) -> Columns | None:
    """Return a Parquet table's columns if it can be counted where it lies; None if `read_table` has to read it.

    It can if it is a table of spans whose ids are texts or whole numbers, all three of one type, whose names are the
    nodes (no template, no service) and whose times, if any, are timestamps. What is left to do is what the words mean:
    `ROOT_WORDS` and zeros of a parent, `ERROR_WORDS` of a status, and to refuse nulls.

    Raises
    ------
    TraceError
        If the file can't be read, or a column is missing.
    """
    with _refusing(origin, "Parquet"), pq.ParquetFile(path) as file:
        schema = file.schema_arrow
    columns = find_columns(schema.names, mapping, origin)
    if columns.shape != "spans" or mapping.node or columns.service or columns.pod or columns.name is None:
        return None

    def kind(name: str | None) -> pa.DataType:
        found = schema.field(name).type if name else pa.null()
        return found.value_type if pa.types.is_dictionary(found) else found

    names = {kind(columns.trace), kind(columns.span), kind(columns.parent)}
    identical = len(names) == 1 and all(pa.types.is_string(k) or pa.types.is_integer(k) for k in names)
    texts = all(pa.types.is_string(kind(name)) for name in (columns.name, columns.status) if name)
    times = all(pa.types.is_timestamp(kind(name)) for name in (columns.started, columns.ended) if name)
    return columns if identical and texts and times else None


def _read_parquet(path: Path, origin: str, mapping: Mapping, notices: Notices) -> Iterator[pa.RecordBatch]:
    with _refusing(origin, "Parquet"):
        schema = pq.read_schema(path)
        columns = find_columns(schema.names, mapping, origin)
        rows = Rows(columns, schema.names, mapping, origin, notices)
        # Words are read as dictionaries, so that a million rows of one name hold it once.
        dictionaries = [name for name in rows.words if schema.field(name).type == pa.string()]
        size = LOG_ROWS if columns.shape == "log" else SPAN_ROWS
        first, told, length = 0, 0, path.stat().st_size
        with pq.ParquetFile(path, read_dictionary=dictionaries) as file:
            total = max(1, file.metadata.num_rows)
            for batch in file.iter_batches(size, columns=list(rows.needed)):
                cells = {name: batch.column(batch.schema.get_field_index(name)) for name in rows.needed}
                yield rows.read(cells, len(batch), lambda row, first=first: first + row + 1)  # type: ignore[misc]
                first += len(batch)
                reached = length * first // total
                notices.advance(reached - told)
                told = reached
        if not first:
            yield rows.read({name: pa.nulls(0) for name in rows.needed}, 0, lambda row: row)


def _read_csv(path: Path, origin: str, mapping: Mapping, notices: Notices) -> Iterator[pa.RecordBatch]:
    names, delimiter, before, alone = _header(path, origin)
    columns = find_columns(names, mapping, origin)
    rows = Rows(columns, names, mapping, origin, notices)
    wrong: list[tuple[int, int]] = []

    def remember(row: Any) -> str:
        wrong.append((row.number - 1, row.actual_columns))  # the header is its first
        return "skip"

    def number(row: int) -> int:
        """The place in the file of the row that is so many after the right ones before it."""
        gaps = np.array([n for n, _ in wrong], np.int64) - np.arange(len(wrong))
        return row + 1 + int(np.searchsorted(gaps, row + 1, "right"))

    # Columns go by their place: other columns may well have one name.
    places = {name: f"f{names.index(name)}" for name in rows.needed}
    read = pa_csv.ReadOptions(
        use_threads=False,  # else rows are not numbered
        block_size=BLOCK,
        column_names=[f"f{k}" for k in range(len(names))],
        skip_rows_after_names=1,
    )
    parse = pa_csv.ParseOptions(delimiter=delimiter, newlines_in_values=True, invalid_row_handler=remember)
    types = {place: pa.dictionary(pa.int32(), pa.string()) for name, place in places.items() if name in rows.words}
    convert = pa_csv.ConvertOptions(
        include_columns=list(places.values()),
        column_types={place: types.get(place, pa.string()) for place in places.values()},
        null_values=[""],
        strings_can_be_null=True,
        quoted_strings_can_be_null=True,
    )
    first = reported = 0
    if alone:
        yield rows.read({name: pa.nulls(0) for name in rows.needed}, 0, number)
        return
    with _refusing(origin, "CSV"), closing(open_unpacked(path, origin, notices)) as file:
        file.read(before)
        reader = pa_csv.open_csv(file, read_options=read, parse_options=parse, convert_options=convert)
        for batch in reader:
            reported = _report(wrong, reported, len(names), origin, notices)
            cells = {name: batch.column(batch.schema.get_field_index(place)) for name, place in places.items()}
            yield rows.read(cells, len(batch), lambda row, first=first: number(first + row))  # type: ignore[misc]
            first += len(batch)
        _report(wrong, reported, len(names), origin, notices)
    if not first:
        yield rows.read({name: pa.nulls(0) for name in rows.needed}, 0, number)


def _report(wrong: list[tuple[int, int]], reported: int, width: int, origin: str, notices: Notices) -> int:
    """Tell of the rows with a wrong number of fields that were not told of yet."""
    for row, fields in wrong[reported:]:
        notices.bad(f"{origin}: row {row}", f"it has {fields} fields, the header has {width}")
    return len(wrong)


def _header(path: Path, origin: str) -> tuple[list[str], str, int, bool]:
    """Return the columns of a CSV file, what stands between them, the bytes before, and whether no row follows."""
    with _refusing(origin, "CSV"), closing(open_unpacked(path, origin)) as file:
        head = file.read(HEADER)
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise TraceError(f"{origin} is UTF-16 text: save it as UTF-8")
    start = head.removeprefix(BOM).lstrip(b"\r\n")
    skipped, head = head[: len(head) - len(start)], start
    before = len(skipped)
    if b"\0" in head:
        raise TraceError(f"{origin} is a binary file, not CSV")
    try:
        text = head.decode()
    except UnicodeDecodeError as error:
        if before + len(head) < HEADER or error.start < len(head) - 4:
            line = skipped.count(b"\n") + head.count(b"\n", 0, error.start) + 1
            raise TraceError(f"{origin}:{line}: not UTF-8 text: save it as UTF-8") from None
        text = head[: error.start].decode()
    if not text.strip():
        raise TraceError(f"{origin} is empty: it has no header")
    found: list[tuple[int, list[str], str, bool]] = []
    for delimiter in DELIMITERS:
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
        try:
            names = next(reader)
        except csv.Error as error:
            raise TraceError(f"{origin}: its header can't be read as CSV: {error}") from None
        try:
            alone = before + len(head) < HEADER and not any(reader)
        except csv.Error:
            alone = False
        found.append((len(names), names, delimiter, alone))
    _, names, delimiter, alone = max(found, key=lambda each: each[0])
    return names, delimiter, before, alone


class _refusing:
    """Turns what the libraries raise about a file into TraceErrors with its name."""

    def __init__(self, origin: str, format: str) -> None:
        self.origin = origin
        self.format = format

    def __enter__(self) -> None: ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if isinstance(error, pa.ArrowException | OSError | EOFError):
            what = shown(str(error).split("\n", 1)[0], 200) or type(error).__name__
            if "straddling" in what:
                what = f"a row is longer than {BLOCK >> 20} MB: is a quote left open?"
            raise TraceError(f"{self.origin} can't be read as {self.format}: {what}") from None
