"""Ids and times of OTLP/JSON: one by one with what is wrong, or many at a time."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence

import pyarrow as pa

from flowstat.read.canonical import links_type
from flowstat.read.otlp_structs import Link
from flowstat.read.span_rows import HEX, DamagedError, told
from flowstat.read.words import shown

__all__ = [
    "SPAN",
    "TRACE",
    "id_column",
    "link_column",
    "parent_column",
    "read_id",
    "read_links",
    "read_parent",
    "read_time",
    "time_column",
]

TRACE, SPAN = 32, 16
"""Hex digits of the ids of traces and spans."""

FIRST, LAST = -(2**63), 2**63 - 1


def read_id(text: str, width: int, what: str) -> str:
    """Return an id in `width` lower-case hex digits; it may be written so, or in base64.

    A trace's id of 16 hex digits is an older, shorter one: it is filled up with zeros.

    Raises
    ------
    DamagedError
        If it is missing, all zeros, or of another length or alphabet.

    Examples
    --------
    >>> read_id("AAAAAAAAAAE=", 16, "spanId")
    '0000000000000001'
    """
    if not text:
        raise DamagedError(f"{what!r} is missing")
    plain = len(text) in (width, SPAN) and HEX.issuperset(text)
    value = text.lower() if plain else _from_base64(text, width)
    if value is None:
        raise DamagedError(f"{what!r} is {told(text)}: it is {width} hex digits, or {width // 2} bytes in base64")
    value = value.zfill(width)
    if value == "0" * width:
        raise DamagedError(f"{what!r} is all zeros: that is no id")
    return value


def _from_base64(text: str, width: int) -> str | None:
    size = width // 2
    try:
        digits = text.replace("-", "+").replace("_", "/").rstrip("=")
        data = base64.b64decode(digits + "=" * (-len(digits) % 4), validate=True)
    except (binascii.Error, ValueError):
        return None
    return data.hex() if len(data) == size else None


def read_parent(text: str | None) -> str | None:
    """Return the id of a parent; None where it is empty or all zeros."""
    if not text or not text.strip("0") or (not text.strip("A=") and len(text) == 12):
        return None
    return read_id(text, SPAN, "parentSpanId")


def read_time(value: int | None, what: str) -> int | None:
    """Return a time in nanoseconds since 1970; None where it is 0 or not told.

    Raises
    ------
    DamagedError
        If it is beyond 64 bits.
    """
    if value is not None and not FIRST <= value <= LAST:
        raise DamagedError(f"{what!r} is {shown(str(value))}: that is beyond 64 bits of nanoseconds since 1970")
    return value or None


def read_links(links: Sequence[Link] | None) -> tuple[dict[str, str], ...] | None:
    """Return the ids of linked spans, see `read_id`; None if there are none."""
    return tuple(map(_read_link, links)) if links else None


def _read_link(link: Link) -> dict[str, str]:
    return {
        "trace_id": read_id(link.trace_id, TRACE, "traceId of a link"),
        "span_id": read_id(link.span_id, SPAN, "spanId of a link"),
    }


def id_column(texts: list[str], width: int) -> pa.Array:
    """Return ids as a column, see `read_id`; at once where all are `width` lower-case hex digits."""
    if not _are_hex(texts, width):
        texts = [read_id(text, width, "an id") for text in texts]
    return pa.array(texts, pa.string())


def parent_column(texts: list[str | None]) -> pa.Array:
    """Return the ids of parents as a column, see `read_parent`."""
    present = [text for text in texts if text]
    if not _are_hex(present, SPAN):
        texts = [read_parent(text) for text in texts]
    elif len(present) < len(texts):
        texts = [text or None for text in texts]
    return pa.array(texts, pa.string())


def _are_hex(texts: list[str], width: int) -> bool:
    """Return whether all ids are `width` lower-case hex digits, and none is zero."""
    whole = "".join(texts)
    try:
        data = bytes.fromhex(whole)
    except ValueError:
        return False
    # Blanks between digits are skipped: they show in the length.
    fits = 2 * len(data) == len(whole) and {len(text) for text in texts} <= {width}
    return fits and whole == whole.lower() and "0" * width not in texts


def time_column(values: list[int | None]) -> pa.Array:
    """Return times as a column, null where they are 0 or not told; raise something if one is beyond 64 bits."""
    if 0 in values:
        values = [value or None for value in values]
    return pa.array(values, pa.int64()).cast(pa.timestamp("ns", tz="UTC"))


def link_column(links: list[list[Link] | None]) -> pa.Array:
    """Return the links of spans as a column, see `read_links`."""
    kind = links_type(pa.string())
    return pa.array([read_links(found) for found in links], kind) if any(links) else pa.nulls(len(links), kind)
