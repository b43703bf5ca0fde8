"""Canonical traces as JSON Lines: one row a line, mistakes named by line."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa

from flowstat.errors import TraceError
from flowstat.read.canonical import COLUMNS, STATUSES, TIMES, schema
from flowstat.read.words import shown

__all__ = ["read_json_lines"]

BATCH = 65_536
BOM = b"\xef\xbb\xbf"
IDS = ("trace_id", "span_id", "parent_id")
REQUIRED = ("trace_id", "span_id", "sent")


def read_json_lines(path: Path, origin: str, report: Callable[[str], None]) -> Iterator[pa.RecordBatch]:
    """Read a JSON Lines trace in canonical batches.

    A last line without its line end that is no JSON is what a killed run leaves: it is left out and
    reported. Times are ISO 8601 texts or integer nanoseconds since 1970.

    Raises
    ------
    TraceError
        Naming the file and the line.
    """
    rows: list[dict[str, Any]] = []
    numbers: list[int] = []
    ids: type | None = None
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                if number == 1:
                    line = line.removeprefix(BOM)
                if line.isspace():
                    continue
                try:
                    row = orjson.loads(line)
                except orjson.JSONDecodeError as error:
                    if not line.endswith(b"\n"):
                        report(f"{origin}:{number}: the last line is cut off and was left out")
                        break
                    raise TraceError(f"{origin}:{number}: not JSON: {error}") from None
                wrong = _mistake(row, ids)
                if wrong:
                    raise TraceError(f"{origin}:{number}: {wrong}")
                ids = type(row["trace_id"])
                rows.append(row)
                numbers.append(number)
                if len(rows) == BATCH:
                    yield _batch(rows, numbers, origin)
                    rows, numbers = [], []
    except OSError as error:
        raise TraceError(f"can't read the trace {origin}: {error.strerror}") from None
    if rows:
        yield _batch(rows, numbers, origin)


def _mistake(row: Any, ids: type | None) -> str | None:
    """Return what is wrong with a row, if anything."""
    if not isinstance(row, dict):
        return "a line is one JSON object with the columns of a trace"
    for column in REQUIRED:
        if row.get(column) is None:
            return f"{column!r} is missing"
    kind = ids or type(row["trace_id"])
    for column in IDS:
        value = row.get(column)
        if value is None:
            continue
        if type(value) is not kind or kind not in (int, str):
            return f"{column!r} is {shown(repr(value))}: ids are whole numbers below 2**64, or all are texts"
        if isinstance(value, int) and not 0 <= value < 2**64:
            return f"{column!r} is {value}: an id is a whole number from 0 to 2**64-1"
    for column in ("parent", "name", "key", "sent", "status", "worker"):
        value = row.get(column)
        if value is not None and type(value) is not str:
            return f"{column!r} is {shown(repr(value))}, not text"
    status = row.get("status", "ok")
    if status not in STATUSES:
        return f"'status' is {shown(repr(status))}: it is one of {', '.join(STATUSES)}"
    if not row.get("name") and status != "dropped":
        return "'name' is missing: which node handled it?"
    for column in TIMES:
        if type(row.get(column)) not in (int, str, type(None)):
            return f"{column!r} is {shown(repr(row[column]))}: a time is ISO 8601 text or whole nanoseconds"
    return None


def _batch(rows: list[dict[str, Any]], numbers: list[int], origin: str) -> pa.RecordBatch:
    want = schema(pa.string() if isinstance(rows[0]["trace_id"], str) else pa.uint64())
    columns = []
    for field in want:
        default = "ok" if field.name == "status" else None
        values = [row.get(field.name, default) for row in rows]
        if field.name in TIMES:
            columns.append(_times(values, field, numbers, origin))
        elif pa.types.is_dictionary(field.type):
            columns.append(pa.array(values, pa.string()).dictionary_encode().cast(field.type))
        else:
            columns.append(pa.array(values, field.type))
    return pa.RecordBatch.from_arrays(columns, names=list(COLUMNS))


def _times(values: list[Any], field: pa.Field, numbers: list[int], origin: str) -> pa.Array:
    def convert(some: list[Any]) -> pa.Array:
        if any(isinstance(v, str) for v in some):
            if any(isinstance(v, int) for v in some):
                return pa.concat_arrays([convert([v]) for v in some])
            return pa.array(some, pa.string()).cast(field.type)
        return pa.array(some, pa.int64()).cast(field.type)

    try:
        return convert(values)
    except (pa.ArrowInvalid, OverflowError):
        for value, number in zip(values, numbers, strict=True):
            try:
                convert([value])
            except (pa.ArrowInvalid, OverflowError):
                what = f"{field.name!r} is {shown(repr(value))}: a time is ISO 8601 text with its zone"
                raise TraceError(f"{origin}:{number}: {what}") from None
        raise
