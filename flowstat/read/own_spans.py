"""Canonical rows as spans of other tools' formats, and back.

The recording library (scope) `flowstat` marks them. A span's name is the node; what the formats have no place for is
kept in attributes `flowstat.*`: `sent`, `parent`, `key`, `sent_at`, `status` where it is pending or dropped. A message
that no arrow took is a span named `(dropped)`; if it had a name, that is `flowstat.name`.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from typing import Any

import pyarrow as pa

from flowstat.errors import OutputError, TraceError
from flowstat.read.canonical import COLUMNS, STATUSES
from flowstat.read.patterns import parse_pattern
from flowstat.read.span_rows import DamagedError, SpanRow, told

__all__ = ["OWN", "Ids", "own_row", "own_tags", "rows_of", "span_name"]

OWN = "flowstat"
"""Name of the scope whose spans are canonical rows."""

DROPPED = "(dropped)"
WORDS = ("sent", "parent", "key", "status", "name", "worker")

FIRST, LAST = -(2**63), 2**63 - 1


def own_row(row: SpanRow, tags: Mapping[str, str]) -> SpanRow:
    """Return a canonical row as it was before it became a span: `row` is what the span says, `tags` its attributes.

    Raises
    ------
    DamagedError
        If an attribute says what no writer of flowstat writes.
    """
    said: dict[str, Any] = {word: tags.get(f"{OWN}.{word}") for word in WORDS}
    said["status"] = said["status"] or row.status
    if said["status"] not in STATUSES:
        raise DamagedError(f"'flowstat.status' is {told(said['status'])}: it is one of {', '.join(STATUSES)}")
    if said["sent"] is not None:
        try:
            parse_pattern(said["sent"])
        except TraceError as error:
            raise DamagedError(f"'flowstat.sent' is {error}") from None
    if said["status"] != "dropped":
        said["name"] = row.name
        if not row.name:
            raise DamagedError("its node has no name")
    if said["worker"] is None:
        said["worker"] = row.worker
    for column in ("sent_at", "started_at", "ended_at"):
        text = tags.get(f"{OWN}.{column}")
        if text is not None:
            said[column] = _time(text, f"{OWN}.{column}")
    return row._replace(**said)


def _time(text: str, what: str) -> int:
    if not re.fullmatch("-?[0-9]{1,19}", text) or not FIRST <= int(text) <= LAST:
        raise DamagedError(f"{what!r} is {told(text)}: it is whole nanoseconds since 1970")
    return int(text)


def own_tags(row: SpanRow) -> dict[str, str]:
    """Return the attributes that keep what a span has no place for; the times of the handling are not among them."""
    tags = {"sent": row.sent, "parent": row.parent, "key": row.key}
    if row.status not in ("ok", "error"):
        tags["status"] = row.status
    if row.status == "dropped":
        tags["name"] = row.name
    if row.worker == "":
        tags["worker"] = row.worker  # an empty attribute of the resource would be none
    if row.sent_at is not None:
        tags["sent_at"] = str(row.sent_at)
    return {f"{OWN}.{word}": text for word, text in tags.items() if text is not None}


def span_name(row: SpanRow) -> str:
    """Return the name of a row's span."""
    return DROPPED if row.status == "dropped" or row.name is None else row.name


def rows_of(batch: pa.RecordBatch) -> Iterator[SpanRow]:
    """Yield the rows of a canonical batch; their ids are still numbers if the batch's are."""
    columns = []
    for name in (*COLUMNS, "links"):
        if name not in batch.schema.names:
            columns.append([None] * len(batch))
            continue
        column = batch.column(batch.schema.names.index(name))
        if pa.types.is_timestamp(column.type):
            column = column.cast(pa.timestamp("ns", tz="UTC")).cast(pa.int64())
        columns.append(column.to_pylist())
    return map(SpanRow._make, zip(*columns, strict=True))


class Ids:
    """Ids of one column of a trace as hex digits, different where they were, and never all zeros.

    Numbers are written in hex; 0, which is no id in these formats, becomes the largest of `width` digits. Of texts,
    those that are hex digits already stay: all of the full width, or, if the first text seen is shorter, those without
    a zero at the front, filled up with zeros. Any other text becomes its hash (BLAKE2b), so that two differing ids
    meet no more often than two of the random ids that OpenTelemetry gives out itself.
    """

    def __init__(self, width: int) -> None:
        self.width = width
        self.zero = "f" * width
        self.met: set[int] = set()
        self.kept: re.Pattern[str] | None = None

    def hex(self, value: Any) -> str:
        """Return the hex digits of an id, a number or a text.

        Raises
        ------
        OutputError
            If the trace has both the number 0 and the largest: one of them has no place.
        """
        if isinstance(value, int):
            text = f"{value:0{self.width}x}" if value else self.zero
            if text == self.zero:
                self.met.add(value)
                if len(self.met) > 1:
                    raise OutputError(f"ids from 0 to {max(self.met)} do not fit: 0 is no id in this format")
            return text
        if self.kept is None:
            full = len(value) == self.width
            self.kept = re.compile(f"[0-9a-f]{{{self.width}}}" if full else f"[1-9a-f][0-9a-f]{{0,{self.width - 1}}}")
        if self.kept.fullmatch(value) and value.strip("0"):
            return str(value).zfill(self.width)
        return hashlib.blake2b(value.encode(), digest_size=self.width // 2).hexdigest()
