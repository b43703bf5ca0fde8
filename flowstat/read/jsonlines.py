"""Canonical traces as JSON Lines: one row a line, mistakes named by line."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa

from flowstat.errors import TraceError
from flowstat.read.canonical import STATUSES, TIMES, links_type, schema
from flowstat.read.mapping import Mapping
from flowstat.read.notices import Notices
from flowstat.read.opening import open_unpacked
from flowstat.read.patterns import parse_pattern
from flowstat.read.words import shown

__all__ = ["CUT_OFF", "UNREADABLE", "read_json_lines"]

BATCH = 65_536
BOM = b"\xef\xbb\xbf"
IDS = ("trace_id", "span_id", "parent_id")
REQUIRED = ("trace_id", "span_id", "sent")
CUT_OFF = "lines cut off, left out"
UNREADABLE = "times that can't be read, taken as unknown"

# A text as it is; or a comma too many, or a number that is none.
_loose = re.compile(rb'("(?:[^"\\]|\\.)*+")|,(?=\s*[}\]])|-?\b(?i:nan|inf(?:inity)?)\b')

Line = tuple[int, dict[str, Any]]


def read_json_lines(path: Path, origin: str, mapping: Mapping, notices: Notices) -> Iterator[pa.RecordBatch]:
    """Read a JSON Lines trace in canonical batches, with the column `links` where a batch has any.

    A last line without its line end that is no JSON is what a killed run leaves: it is left out and reported. Times
    are ISO 8601 texts or integer nanoseconds since 1970; one that can't be read is unknown, and noted. The first
    good line says whether ids are numbers or texts. A file of no lines is a trace without rows.

    Raises
    ------
    TraceError
        Naming the file and the line.
    """
    held: list[Line] = []
    ids: type | None = None
    patterns: set[str] = set()
    number = 0
    try:
        with open_unpacked(path, origin, notices) as file:
            for number, line in enumerate(file, 1):
                if number == 1:
                    line = line.removeprefix(BOM)
                if line.isspace():
                    continue
                try:
                    row = _row(line)
                except orjson.JSONDecodeError as error:
                    if not line.endswith(b"\n"):
                        notices.note(CUT_OFF, f"{origin}:{number}: the last line is cut off and was left out")
                        break
                    notices.bad(f"{origin}:{number}", f"not JSON: {error}")
                    continue
                wrong = _mistake(row, ids, patterns)
                if wrong:
                    notices.bad(f"{origin}:{number}", wrong)
                    continue
                ids = type(row["trace_id"])
                held.append((number, row))
                if len(held) == BATCH:
                    yield from _batches(held, origin, notices)
                    held = []
    except (OSError, EOFError) as error:
        reason = getattr(error, "strerror", None) or error
        notices.bad(f"{origin}:{number + 1}", f"can't read on: {reason}")
    if held:
        yield from _batches(held, origin, notices)


def _row(line: bytes) -> Any:
    """Read a line of JSON; one with commas too many, or NaN and Infinity as nulls, as Python and pandas write them.

    Raises
    ------
    orjson.JSONDecodeError
        If it is none.
    """
    try:
        return orjson.loads(line)
    except orjson.JSONDecodeError:
        if not _loose.search(line):
            raise
    return orjson.loads(_loose.sub(lambda found: found[1] or (b"" if found[0] == b"," else b"null"), line))


def _mistake(row: Any, ids: type | None, patterns: set[str]) -> str | None:
    """Return what is wrong with a row, if anything; `patterns` are the send patterns that were checked already."""
    if not isinstance(row, dict):
        return "a line is one JSON object with the columns of a trace"
    for column in REQUIRED:
        if row.get(column) is None:
            return f"{column!r} is missing"
    kind = ids or type(row["trace_id"])
    for column in IDS:
        value = row.get(column)
        if value is not None and (wrong := _wrong_id(value, kind)):
            return f"{column!r} is {wrong}"
    for column in ("parent", "name", "key", "sent", "status", "worker"):
        value = row.get(column)
        if value is not None and type(value) is not str:
            return f"{column!r} is {shown(repr(value))}, not text"
    if row["sent"] not in patterns:
        try:
            parse_pattern(row["sent"])
        except TraceError as error:
            return f"'sent' is {error}"
        patterns.add(row["sent"])
    status = "ok" if row.get("status") is None else row["status"]
    if status not in STATUSES:
        return f"'status' is {shown(repr(status))}: it is one of {', '.join(STATUSES)}"
    if not row.get("name") and status != "dropped":
        return "'name' is missing: which node handled it?"
    return _wrong_links(row.get("links"), kind)


def _wrong_id(value: Any, kind: type) -> str | None:
    if type(value) is not kind or kind not in (int, str):
        return f"{shown(repr(value))}: ids are whole numbers below 2**64, or all are texts"
    if isinstance(value, int) and not 0 <= value < 2**64:
        return f"{value}: an id is a whole number from 0 to 2**64-1"
    return None


def _wrong_links(links: Any, kind: type) -> str | None:
    if links is None:
        return None
    if not isinstance(links, list):
        return f"'links' is {shown(repr(links))}: it is a list of trace_id and span_id"
    for link in links:
        for column in ("trace_id", "span_id"):
            value = link.get(column) if isinstance(link, dict) else None
            if value is None or _wrong_id(value, kind):
                return f"'links' has {shown(repr(link))}: it is a list of trace_id and span_id"
    return None


def _batches(lines: list[Line], origin: str, notices: Notices) -> Iterator[pa.RecordBatch]:
    rows = [row for _, row in lines]
    want = schema(pa.string() if isinstance(rows[0]["trace_id"], str) else pa.uint64())
    columns = []
    for field in want:
        if field.name == "status":
            values = ["ok" if row.get("status") is None else row["status"] for row in rows]
        else:
            values = [row.get(field.name) for row in rows]
        if field.name in TIMES:
            columns.append(_times(lines, field.name, field.type, origin, notices))
        elif pa.types.is_dictionary(field.type):
            columns.append(pa.array(values, pa.string()).dictionary_encode().cast(field.type))
        else:
            columns.append(pa.array(values, field.type))
    fields = list(want)
    if any(row.get("links") for row in rows):
        link = links_type(want.field("trace_id").type)
        columns.append(pa.array([row.get("links") for row in rows], link))
        fields.append(pa.field("links", link))
    yield pa.RecordBatch.from_arrays(columns, schema=pa.schema(fields))


def _times(lines: list[Line], column: str, kind: pa.DataType, origin: str, notices: Notices) -> pa.Array:
    """Return the times of a column; one that can't be read is unknown, and noted: no count depends on it."""
    values = [row.get(column) for _, row in lines]
    try:
        if all(type(v) in (str, type(None)) for v in values):
            return pa.array(values, pa.string()).cast(kind)
        if all(type(v) in (int, type(None)) for v in values):
            return pa.array(values, pa.int64()).cast(kind)
    except (pa.ArrowInvalid, OverflowError):
        pass
    times = []
    for (number, _), value in zip(lines, values, strict=True):
        time = _time(value, kind)
        times.append(time)
        if time is None and value is not None:
            what = f"{column!r} is {shown(repr(value))}: a time is ISO 8601 text with its zone, or whole nanoseconds"
            notices.note(UNREADABLE, f"{origin}:{number}: {what}")
    return pa.array(times, kind)


def _time(value: Any, kind: pa.DataType) -> pa.Scalar | None:
    texts = {str: pa.string(), int: pa.int64()}
    if type(value) not in texts:
        return None
    try:
        return pa.array([value], texts[type(value)]).cast(kind)[0]
    except (pa.ArrowInvalid, OverflowError):
        return None
