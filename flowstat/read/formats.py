"""Trace formats told apart by their content."""

from __future__ import annotations

import re
from codecs import getincrementaldecoder
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.parquet as pq

from flowstat.errors import TraceError
from flowstat.read.canonical import REQUIRED
from flowstat.read.documents import BOM, OPEN
from flowstat.read.opening import open_unpacked, read_as_far
from flowstat.read.words import shown

__all__ = ["OTLP_KEYS", "SUFFIXES", "recognise"]

SUFFIXES: Final = (".parquet", ".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".xes", ".sqlite", ".sqlite3", ".db")
"""What a trace's name ends with in a directory, perhaps followed by .gz or .zst."""

LINES: Final = (".jsonl", ".ndjson")
"""What the name of a file of lines ends with: one without any lines is a trace without rows."""

HEAD = 1 << 16
UTF_16 = (b"\xff\xfe", b"\xfe\xff")
DEEP = 1 << 22
"""Bytes that are looked at where the head does not tell: before the telling key may stand a long value."""

OTLP_KEYS: Final = (
    *("resourceSpans", "resource_spans", "resourceLogs", "resource_logs"),
    *("resourceMetrics", "resource_metrics", "resourceProfiles", "resource_profiles"),
)
"""What a document of OTLP/JSON has one of; Tempo calls its spans `batches`."""

_RESOURCE = ("resource", "scopeSpans", "scope_spans", "instrumentationLibrarySpans", "instrumentation_library_spans")
_OLD_OCEL = ("ocel:global-log", "ocel:events", "ocel:objects")

# JSON formats by where a key of theirs stands: in the document's own object, or in those of its list; or, after the key
# there, in the objects below it. The first that is met decides.
_KEYS: Final = {
    "otlp": (*OTLP_KEYS, *(f"batches {key}" for key in _RESOURCE)),
    "jaeger": ("traceID", "spans", "processes", "operationName", "data traceID", "data spans", "data processes"),
    "zipkin": ("traceId", "parentId", "localEndpoint"),
    "ocel_json": ("objectTypes", "eventTypes", "objects", "events type", "events relationships", *_OLD_OCEL),
    "jsonl": ("trace_id", "span_id", "parent_id"),
}
_OF_KEYS = {tuple(keys.split()): format for format, known in _KEYS.items() for keys in known}

# What answers that found nothing have.
_OF_NOTHING: Final[dict[tuple[str, ...], str]] = {("batches",): "otlp", ("data",): "jaeger"}

_COUNTS = re.compile(rb'\s*"flowstat counts"')
_TOKEN = re.compile(rb'"((?:[^"\\]++|\\.)*+)"(\s*+:)?|[][{}]|"', re.DOTALL)
_NOTHING = re.compile(rb"\s*(\[\s*\]|null)")
_EMPTY_LISTS = re.compile(rb"(\[\s*\]\s*)+")
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
    head = _head(path, origin, HEAD)
    name = path.name.lower().removesuffix(".gz").removesuffix(".zst")
    lines, delimited = name.endswith(LINES), name.endswith((".csv", ".tsv"))
    if not head:
        if lines:
            return "jsonl"
        raise TraceError(f"{origin} is empty: no trace was recorded in it")
    if head.startswith(b"PAR1"):
        return _parquet(path, origin)
    if head.startswith(b"SQLite format 3\0"):
        return "ocel_sqlite"
    text = head.removeprefix(BOM).lstrip()
    xml = _wide(head) or text
    if xml.startswith(b"<"):
        if re.search(rb"<([\w.-]+:)?log[\s>]", xml):
            return "xes"
        raise TraceError(f"{origin} is XML but no XES log: it has no <log>")
    if text.startswith((b"{", b"[")):
        format = _json_format(text)
        if format is None and len(head) == HEAD:
            text = _head(path, origin, DEEP).removeprefix(BOM).lstrip()
            format = _json_format(text)
        if format is not None:
            return format
        keys = list(dict.fromkeys(keys[0] for keys, _, _ in _members(text)))
        if lines or (not keys and text.startswith(b"{")):
            return "jsonl"  # whose reader names the line that is damaged
        if keys:
            some = ", ".join(shown(repr(key), 40) for key in keys[:8])
            raise _unknown(origin, f"it is JSON with the keys {some}{', ...' if len(keys) > 8 else ''}")
    if delimited and head.startswith(UTF_16):
        return "csv"  # whose reader says what to do
    if b"\0" not in head:
        if lines:
            return "jsonl"
        if _DELIMITED.match(text) and (delimited or _is_text(head)):
            return "csv"
    raise _unknown(origin, f"it begins with {shown(repr(head[:20]), 60)}")


def _unknown(origin: str, what: str) -> TraceError:
    return TraceError(
        f"{origin} is no trace that flowstat knows: {what}; it reads Parquet, JSON Lines, OTLP/JSON, Jaeger, Zipkin, "
        "XES, OCEL and CSV"
    )


def _head(path: Path, origin: str, size: int) -> bytes:
    """Return the first bytes, as far as they can be read: of damage behind them the reader tells."""
    try:
        with open_unpacked(path, origin) as file:
            head, damage = read_as_far(file, size)
    except (OSError, EOFError) as error:
        head, damage = b"", str(getattr(error, "strerror", None) or error)
    if damage and not head:
        raise TraceError(f"can't read the trace {origin}: {damage}")
    return head


def _wide(head: bytes) -> bytes | None:
    """Return text in UTF-16 as UTF-8, if it is that: XML may be."""
    order = {b"\xff\xfe": "le", b"\xfe\xff": "be", b"<\0": "le", b"\0<": "be"}.get(head[:2])
    return head.decode(f"utf-16-{order}", "replace").lstrip("\ufeff \t\r\n").encode() if order else None


def _json_format(text: bytes) -> str | None:
    """Return the format of JSON by its structure, if that tells it."""
    # The first line may be damaged, and so hide how deep the others are.
    first, _, rest = text.partition(b"\n")
    for part in (text,) if first.rstrip().endswith(OPEN) else (text, rest):
        for keys, listed, value in _members(part):
            if keys == ("type",) and not listed and _COUNTS.match(part, value):
                return "counts"
            format = _OF_KEYS.get(keys) or (_OF_NOTHING.get(keys) if _NOTHING.match(part, value) else None)
            if format and not (listed and format in ("jsonl", "ocel_json")):
                return format
    return "zipkin" if _EMPTY_LISTS.fullmatch(text) else None


def _members(text: bytes) -> Iterator[tuple[tuple[str, ...], bool, int]]:
    """Yield each key of the first two levels of objects in JSON documents, which may be damaged or go on.

    Yields
    ------
    The key after that of the object around, if there is one; whether the document is a list; where the value
    begins, or the space before it.
    """
    opened: list[bool] = []  # of each open bracket, whether it is an object's
    keys: list[str] = []  # of each open object, the key that was met last
    for token in _TOKEN.finditer(text):
        mark = token[0]
        if mark in (b"{", b"["):
            opened.append(mark == b"{")
            keys += [""] * opened[-1]
        elif mark in (b"}", b"]"):
            if opened and opened.pop():
                keys.pop()
        elif mark == b'"':
            return  # its end is not there
        elif token[2] and opened and opened[-1]:
            keys[-1] = token[1].decode(errors="replace")
            if len(keys) <= 2:
                yield tuple(keys), not opened[0], token.end()


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
