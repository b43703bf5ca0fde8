"""Tables of spans and sequential logs: CSV and Parquet with any columns.

Rows are counted from 1; a CSV file's header is none. See `flowstat.read.columns` for which column is what, and
`flowstat.read.times` for times.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from flowstat.errors import TraceError
from flowstat.read.columns import Columns, find_columns
from flowstat.read.csv_rows import WholeRows
from flowstat.read.mapping import Mapping
from flowstat.read.notices import Notices
from flowstat.read.opening import open_unpacked, read_as_far
from flowstat.read.rows import Rows, Units
from flowstat.read.words import is_storable, shown

__all__ = ["parquet_spans", "read_table"]

LOG_ROWS = 1 << 20
SPAN_ROWS = 1 << 16

BLOCK = 4 << 20
"""Bytes of a CSV file that are parsed at once; a row can't be longer."""

HEADER = 1 << 20
DELIMITERS = ",;\t|"
BOM = b"\xef\xbb\xbf"

_quoted = re.compile(r'(?:^|(?<=[,;\t|\r\n]))"(?:[^"]|"")*+"(?=[,;\t|\r\n]|$)')


def read_table(
    path: Path, origin: str, mapping: Mapping, notices: Notices, units: Units | None = None
) -> Iterator[pa.RecordBatch]:
    """Read a table of spans or a sequential log, CSV or Parquet, in batches.

    CSV is UTF-8 text, perhaps packed with gzip or zstd, with a header; its delimiter (comma, semicolon, tab or `|`) is
    the one that the header has most of outside of quotes. Only the columns that are needed are converted.

    Of spans, ids are taken as texts, those of `flowstat.read.whole_ids` as the whole numbers that they were; a parent
    that is null, empty, `root`, `none`, `null` or zeros only makes a root.
    The node is `mapping.node`, filled with the columns (`service`, `name`, `worker`, `key` and `status` are those
    found for that), else `{service}.{name}`, or `{name}` where no service is known. Without a column of services, a
    Kubernetes pod's name says it. A status that is no word for an error is ok.

    Bad records are rows with a wrong number of fields, without a case, an activity, a trace or span id, with an
    empty node name, with a time that can't be read (an empty one is unknown), an id that lost digits, or text that is
    not UTF-8 in a column that is read; in CSV a row with a quote that is left open (see `flowstat.read.csv_rows`), and
    all that follows where the packed data are damaged or cut off.

    Parameters
    ----------
    units
        What the numbers in columns of times count in the files before, which this one is read together with.

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
    return (_read_parquet if parquet else _read_csv)(path, origin, mapping, notices, {} if units is None else units)


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


def _read_parquet(
    path: Path, origin: str, mapping: Mapping, notices: Notices, units: Units
) -> Iterator[pa.RecordBatch]:
    with _refusing(origin, "Parquet"):
        schema = pq.read_schema(path)
        columns = find_columns(schema.names, mapping, origin)
        rows = Rows(columns, schema.names, mapping, origin, notices, units)
        # Words are read as dictionaries, so that a million rows of one name hold it once.
        dictionaries = [name for name in rows.words if schema.field(name).type == pa.string()]
        size = LOG_ROWS if columns.shape == "log" else SPAN_ROWS
        first, told, length = 0, 0, path.stat().st_size
        with pq.ParquetFile(path, read_dictionary=dictionaries) as file:
            total = max(1, file.metadata.num_rows)
            for batch in _ahead(_by_group(file, size, list(rows.needed))):
                cells = {name: batch.column(batch.schema.get_field_index(name)) for name in rows.needed}
                yield rows.read(cells, len(batch), lambda row, first=first: first + row + 1)  # type: ignore[misc]
                first += len(batch)
                reached = length * first // total
                notices.advance(reached - told)
                told = reached
        if not first:
            yield rows.read({name: pa.nulls(0) for name in rows.needed}, 0, lambda row: row)


def _by_group(file: pq.ParquetFile, size: int, columns: list[str]) -> Iterator[pa.RecordBatch]:
    """Read group by group: so no batch has the words of two, whose dictionaries would have to be joined."""
    for group in range(file.num_row_groups):
        yield from file.iter_batches(size, [group], columns)


def _ahead(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Read the next batch while the one before it is looked at."""
    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(next, batches, None)
        while (batch := reading.result()) is not None:
            reading = pool.submit(next, batches, None)
            yield batch


def _read_csv(path: Path, origin: str, mapping: Mapping, notices: Notices, units: Units) -> Iterator[pa.RecordBatch]:
    names, delimiter, before, alone = _header(path, origin)
    columns = find_columns(names, mapping, origin)
    rows = Rows(columns, names, mapping, origin, notices, units)
    wrong: list[tuple[int, str]] = []

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
    types = {place: pa.dictionary(pa.int32(), pa.string()) for name, place in places.items() if name in rows.words}
    convert = pa_csv.ConvertOptions(
        include_columns=list(places.values()),
        column_types={place: types.get(place, pa.string()) for place in places.values()},
        null_values=[""],
        strings_can_be_null=True,
        quoted_strings_can_be_null=True,
        check_utf8=False,  # `Rows` says in which row
    )
    first = reported = 0
    if alone:
        yield rows.read({name: pa.nulls(0) for name in rows.needed}, 0, number)
        return
    with _refusing(origin, "CSV"), closing(open_unpacked(path, origin, notices)) as file:
        file.read(before)
        whole = WholeRows(file, delimiter, len(names), BLOCK)

        def remember(row: Any) -> str:
            what = whole.reason(row.text) or f"it has {row.actual_columns} fields, the header has {len(names)}"
            wrong.append((row.number - 1, what))  # the header is its first
            return "skip"

        parse = pa_csv.ParseOptions(delimiter=delimiter, newlines_in_values=True, invalid_row_handler=remember)
        reader = pa_csv.open_csv(whole, read_options=read, parse_options=parse, convert_options=convert)
        for batch in reader:
            reported = _report(wrong, reported, origin, notices)
            as_read = {name: batch.column(batch.schema.get_field_index(place)) for name, place in places.items()}
            cells = {name: whole.as_it_was(column) for name, column in as_read.items()}
            yield rows.read(cells, len(batch), lambda row, first=first: number(first + row))  # type: ignore[misc]
            first += len(batch)
        _report(wrong, reported, origin, notices)
    if not first:
        yield rows.read({name: pa.nulls(0) for name in rows.needed}, 0, number)


def _report(wrong: list[tuple[int, str]], reported: int, origin: str, notices: Notices) -> int:
    """Tell of the rows that are none of the header's fields and were not told of yet."""
    for row, what in wrong[reported:]:
        notices.bad(f"{origin}: row {row}", what)
    return len(wrong)


def _header(path: Path, origin: str) -> tuple[list[str], str, int, bool]:
    """Return the columns of a CSV file, what stands between them, the bytes before, and whether no row follows."""
    with _refusing(origin, "CSV"), closing(open_unpacked(path, origin)) as file:
        head, damage = read_as_far(file, HEADER)
    if damage and b"\n" not in head.lstrip(BOM + b"\r\n"):
        raise TraceError(f"{origin} can't be read as CSV: {damage}")
    if head.startswith((b"\xff\xfe", b"\xfe\xff")) or (
        b"\0" in head[:16] and not (any(head[:16:2]) and any(head[1:16:2]))
    ):
        raise TraceError(f"{origin} is UTF-16 text: save it as UTF-8")
    start = head.removeprefix(BOM).lstrip(b"\r\n")
    before = len(head) - len(start)
    if b"\0" in start:
        raise TraceError(f"{origin} is a binary file, not CSV")
    text = start.decode(errors="surrogateescape")
    if not text.strip():
        raise TraceError(f"{origin} is empty: it has no header")
    bare = re.split("[\r\n]", _quoted.sub("", text), maxsplit=1)[0]
    delimiter = max(DELIMITERS, key=bare.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        names = next(reader)
    except csv.Error as error:
        raise TraceError(f"{origin}: its header can't be read as CSV: {error}") from None
    if not all(map(is_storable, names)):
        line = head.count(b"\n", 0, before) + 1
        raise TraceError(f"{origin}:{line}: the header is not UTF-8 text: save it as UTF-8")
    try:
        return names, delimiter, before, len(head) < HEADER and not damage and not any(reader)
    except csv.Error:
        return names, delimiter, before, False


class _refusing:
    """Turns what the libraries raise about a file into TraceErrors with its name."""

    def __init__(self, origin: str, format: str) -> None:
        self.origin = origin
        self.format = format

    def __enter__(self) -> None: ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if isinstance(error, pa.ArrowException | OSError | EOFError):
            what = shown(str(error).split("\n", 1)[0], 200) or type(error).__name__
            raise TraceError(f"{self.origin} can't be read as {self.format}: {what}") from None
