"""Spans on their way into Arrow: rows of plain values, their ids, times and tags checked."""

from __future__ import annotations

import math
import reprlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import orjson
import pyarrow as pa

from flowstat.read.canonical import span_schema
from flowstat.read.words import shown

__all__ = [
    "BATCH",
    "HEX",
    "Codes",
    "DamagedError",
    "SpanRow",
    "end_of",
    "hex_id",
    "microseconds",
    "span_batches",
    "tag_text",
    "told",
    "word_column",
]

BATCH = 65_536
HEX = frozenset("0123456789abcdefABCDEF")

LAST = 2**63 - 1


class DamagedError(Exception):
    """A span can't be read; the message says why. It never leaves the readers."""


class SpanRow(NamedTuple):
    """One span; the fields are the columns of `flowstat.read.canonical.span_schema`, times in nanoseconds."""

    trace_id: str
    span_id: str
    parent_id: str | None = None
    parent: str | None = None
    name: str | None = None
    key: str | None = None
    sent: str | None = None
    sent_at: int | None = None
    started_at: int | None = None
    ended_at: int | None = None
    status: str = "ok"
    worker: str | None = None
    links: tuple[dict[str, str], ...] | None = None


def span_batches(rows: Iterable[SpanRow]) -> Iterator[pa.RecordBatch]:
    """Yield rows as batches of at most 65,536."""
    held: list[SpanRow] = []
    for row in rows:
        held.append(row)
        if len(held) == BATCH:
            yield _batch(held)
            held = []
    if held:
        yield _batch(held)


def _batch(rows: Sequence[SpanRow]) -> pa.RecordBatch:
    want = span_schema()
    columns = []
    for field, values in zip(want, zip(*rows, strict=True), strict=True):
        if pa.types.is_dictionary(field.type):
            columns.append(pa.array(values, pa.string()).dictionary_encode().cast(field.type))
        elif pa.types.is_timestamp(field.type):
            columns.append(pa.array(values, pa.int64()).cast(field.type))
        else:
            columns.append(pa.array(values, field.type))
    return pa.RecordBatch.from_arrays(columns, schema=want)


class Codes(dict[str, int]):
    """Words numbered in the order of their first use."""

    def __missing__(self, word: str) -> int:
        self[word] = code = len(self)
        return code


def word_column(codes: np.ndarray, words: Codes) -> pa.Array:
    """Return words by their codes as a dictionary column; a code below 0 is null."""
    if not words:
        return pa.nulls(len(codes), pa.dictionary(pa.int32(), pa.string()))
    return pa.DictionaryArray.from_arrays(pa.array(codes, mask=codes < 0), pa.array(list(words), pa.string()))


def hex_id(value: Any, what: str, width: int) -> str:
    """Return an id as its format means it: hex digits lower-case, with zeros before them up to `width` digits.

    An id of other characters, or of more digits, is a text of its own.

    Parameters
    ----------
    value
        What the file has.
    what
        The name of the field, for messages.

    Raises
    ------
    DamagedError
        If it is no text, an empty one, or zero.

    Examples
    --------
    >>> hex_id("ABC", "spanID", 16)
    '0000000000000abc'
    """
    if not isinstance(value, str) or not value:
        raise DamagedError(f"{what!r} is {'missing' if value is None else told(value)}: it is a text of hex digits")
    if len(value) > width or not HEX.issuperset(value):
        return value
    if not value.strip("0"):
        raise DamagedError(f"{what!r} is zero: that is no id")
    return value.lower().zfill(width)


def microseconds(value: Any, what: str) -> int | None:
    """Return a time or duration of whole microseconds in nanoseconds; None where it is not told.

    Raises
    ------
    DamagedError
        If it is no whole number, or beyond 64 bits of nanoseconds.
    """
    if value is None:
        return None
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 20:
        value = int(value)
    if isinstance(value, float) and math.isfinite(value) and value.is_integer():
        value = int(value)
    if type(value) is not int:
        raise DamagedError(f"{what!r} is {told(value)}: it is a number of whole microseconds")
    if not -LAST <= value * 1000 <= LAST:
        raise DamagedError(f"{what!r} is {told(value)}: that is beyond 64 bits of nanoseconds since 1970")
    return value * 1000


def tag_text(value: Any) -> str:
    """Return the value of a tag as text: as JSON writes it, but texts without quotes and null as nothing.

    Raises
    ------
    DamagedError
        If it is nested too deep to be written.
    """
    if isinstance(value, str):
        return value
    try:
        return "" if value is None else orjson.dumps(value).decode()
    except orjson.JSONEncodeError:
        raise DamagedError(f"a tag can't be written as text: {told(value)}") from None


def end_of(start: int | None, took: int | None) -> int | None:
    """Return when a span ended, None where its start (0: none) or its duration is not told; all in nanoseconds.

    Raises
    ------
    DamagedError
        If that is beyond 64 bits.
    """
    if not start or took is None:
        return None
    if not -LAST <= start + took <= LAST:
        raise DamagedError("its end is beyond 64 bits of nanoseconds since 1970")
    return start + took


def told(value: Any) -> str:
    """Return a value of a file for messages: on one line, short, however large or deep it is."""
    return shown(_short.repr(value))


_short = reprlib.Repr()
_short.maxlevel = 3
_short.maxstring = _short.maxother = _short.maxlong = 60
