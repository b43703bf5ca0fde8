"""Trace formats told apart by their content."""

from __future__ import annotations

import re
from codecs import getincrementaldecoder
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.parquet as pq

from flowstat.errors import TraceError
from flowstat.read.canonical import REQUIRED
from flowstat.read.jsonlines import BOM
from flowstat.read.opening import GZIP, ZSTD, open_unpacked
from flowstat.read.words import shown

__all__ = ["SUFFIXES", "recognise"]

SUFFIXES: Final = (".parquet", ".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".xes", ".sqlite", ".sqlite3", ".db")
"""What a trace's name ends with in a directory, perhaps followed by .gz or .zst."""

HEAD = 1 << 16

# JSON formats by a key that only they have, the more telling first.
_JSON = (
    ("counts", rb'^\s*\{\s*"type"\s*:\s*"flowstat counts"'),
    ("otlp", rb'"(resourceSpans|resource_spans|instrumentationLibrarySpans|scopeSpans)"\s*:'),
    ("ocel_json", rb'"(ocel:)?(objectTypes|eventTypes|global-log|objects)"\s*:'),
    ("jaeger", rb'"(traceID|processes|operationName)"\s*:'),
    ("jsonl", rb'"(span_id|trace_id|parent_id)"\s*:'),
    ("zipkin", rb'"(traceId|localEndpoint|parentId)"\s*:'),
)

_DELIMITED = re.compile(rb"^[^\n]*[,;\t|][^\n]*(\n|$)")


def recognise(path: Path, origin: str) -> str:
    """Return the format of a trace file by what it begins with.

    Returns
    -------
    `parquet` (canonical), `table` (Parquet of any columns), `csv`, `jsonl` (canonical), `otlp`, `jaeger`, `zipkin`,
    `xes`, `ocel_json`, `ocel_sqlite` or `counts`.

    Raises
    ------
    TraceError
        If the file can't be read, is empty, or begins like none of these.
    """
    try:
        with path.open("rb") as file:
            head = file.read(16)
        if head.startswith((GZIP, ZSTD)):
            with open_unpacked(path, origin) as unpacked:
                head = unpacked.read(HEAD)
        else:
            with path.open("rb") as file:
                head = file.read(HEAD)
    except (OSError, EOFError) as error:
        reason = getattr(error, "strerror", None) or error
        raise TraceError(f"can't read the trace {origin}: {reason}") from None
    if not head:
        raise TraceError(f"{origin} is empty: no trace was recorded in it")
    if head.startswith(b"PAR1"):
        return _parquet(path, origin)
    if head.startswith(b"SQLite format 3\0"):
        return "ocel_sqlite"
    text = head.removeprefix(BOM).lstrip()
    if text.startswith(b"<"):
        if re.search(rb"<([\w.-]+:)?log[\s>]", text):
            return "xes"
        raise TraceError(f"{origin} is XML but no XES log: it has no <log>")
    if text.startswith((b"{", b"[")):
        for format, key in _JSON:
            if re.search(key, text):
                return format
        if re.fullmatch(rb"\[\s*\]\s*", text):
            return "zipkin"
        if text.startswith(b"{"):
            return "jsonl"
    names = path.name.removesuffix(".gz").removesuffix(".zst")
    if b"\0" not in head:
        if names.endswith((".jsonl", ".ndjson")):
            return "jsonl"
        if _DELIMITED.match(text) and _is_text(head):
            return "csv"
    raise TraceError(
        f"{origin} is no trace that flowstat knows ({shown(repr(head[:20]), 60)}): it reads Parquet, JSON "
        "Lines, OTLP/JSON, Jaeger, Zipkin, XES, OCEL and CSV"
    )


def _is_text(head: bytes) -> bool:
    try:
        # The head may end inside a character.
        getincrementaldecoder("utf-8")().decode(head, final=len(head) < HEAD)
    except UnicodeDecodeError:
        return False
    return True


def _parquet(path: Path, origin: str) -> str:
    try:
        names = pq.read_schema(path).names
    except (pa.ArrowException, OSError) as error:
        first = shown(str(error).split("\n", 1)[0], 200)
        raise TraceError(f"{origin} can't be read as Parquet (truncated or damaged?): {first}") from None
    # Send patterns are flowstat's own: such a table is one of its traces, perhaps with a column missing.
    return "parquet" if "sent" in names and len(set(REQUIRED) & set(names)) >= len(REQUIRED) - 1 else "table"
