"""Times in the columns of foreign tables, whatever type they have there.

Texts are ISO 8601, with `T` or a space, any precision, with a zone or (then UTC) without; a date alone is its midnight.
Whole numbers count from 1970 in seconds, milliseconds, microseconds or nanoseconds: the largest of the first rows that
hold any but zero decides for the whole column, and it has to be the same in all files that are read together. Below
1e11 they are seconds, below 1e14 milliseconds, below 1e17 microseconds, else nanoseconds. Times before 1677 and after
2262 can't be read.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from flowstat.read.notices import Notices
from flowstat.read.words import shown

__all__ = ["INSTANT", "READABLE", "UNIT_WORDS", "Times", "nanoseconds", "note_untimed"]

INSTANT: Final = pa.timestamp("ns", tz="UTC")

READABLE = "a time is ISO 8601 text or a whole number of seconds, ms, us or ns since 1970, between 1677 and 2262"

SECOND = 10**9
LEAST, LARGEST = -(2**63) + 1, 2**63 - 1

UNIT_WORDS: Final = {SECOND: "seconds", 10**6: "milliseconds", 10**3: "microseconds", 1: "nanoseconds"}
_UNITS = {"s": SECOND, "ms": 10**6, "us": 10**3, "ns": 1}
_number = r"^[+-]?[0-9]+([.][0-9]*)?$"
_zoned = r":[0-9]{2}.*(Z|[+-][0-9]{2}(:?[0-9]{2})?)$"
_moment = re.compile(
    r"([0-9]{4})(?:[-/]([0-9]{1,2})[-/]([0-9]{1,2})|([0-9]{2})([0-9]{2})(?=[T ]))"
    r"(?:(?:[T]|\s+)([0-9]{1,2})(?::?([0-9]{2})(?::?([0-9]{2})(?:[.,]([0-9]+))?)?|(?<=[0-9]{2})))?"
    r"\s*(Z|UTC|GMT|[+-][0-9]{2}:?[0-9]{2}|[+-][0-9]{2})?",
    re.IGNORECASE,
)


class Times:
    """Reads one column of times, batch after batch."""

    def __init__(self) -> None:
        self.unit: int | None = None
        """Nanoseconds of a number's unit, once one was seen."""

    def read(self, column: pa.Array) -> tuple[pa.Array, np.ndarray | None]:
        """Return a batch of the column as instants, and which of its cells can't be read, if any.

        A null, an empty text and a NaN are unknown times; what can't be read is null, too.
        """
        kind = column.type
        if pa.types.is_dictionary(kind):
            values, bad = self.read(column.dictionary)
            times = values.take(column.indices)
            if bad is None:
                return times, None
            # A word that no row has must not spoil the batch.
            rows = np.append(bad, False)[column.indices.fill_null(len(bad)).to_numpy(zero_copy_only=False)]
            return times, rows if rows.any() else None
        if pa.types.is_null(kind):
            return pa.nulls(len(column), INSTANT), None
        if pa.types.is_timestamp(kind):
            return _instants(column)
        if pa.types.is_date(kind):
            return _instants(column.cast(pa.timestamp("s" if pa.types.is_date32(kind) else "ms")))
        if pa.types.is_integer(kind):
            return self._whole(column)
        if pa.types.is_floating(kind):
            return self._floating(column)
        if pa.types.is_decimal(kind):
            return self._texts(column.cast(pa.string()))
        if pa.types.is_string(kind) or pa.types.is_large_string(kind):
            return self._texts(column)
        return pa.nulls(len(column), INSTANT), np.asarray(pc.is_valid(column))

    def _unit(self, largest: float) -> int:
        if not largest:
            return self.unit or SECOND  # a zero is 1970 in any
        if self.unit is None:
            steps = ((1e11, SECOND), (1e14, 10**6), (1e17, 10**3))
            self.unit = next((unit for below, unit in steps if largest < below), 1)
        return self.unit

    def _whole(self, column: pa.Array) -> tuple[pa.Array, np.ndarray | None]:
        if column.null_count == len(column):
            return pa.nulls(len(column), INSTANT), None
        if column.type == pa.uint64():
            beyond = np.asarray(pc.greater(column, pa.scalar(LARGEST, pa.uint64())).fill_null(False))
            if beyond.any():
                rest = pc.if_else(pa.array(beyond), pa.scalar(None, pa.uint64()), column)
                times, bad = self._whole(rest)
                return times, beyond if bad is None else beyond | bad
        ends = pc.min_max(column)
        least, largest = ends["min"].as_py(), ends["max"].as_py()
        unit = self._unit(max(abs(least), abs(largest)))
        bound = LARGEST // unit
        values = column.cast(pa.int64())
        if -bound <= least and largest <= bound:
            return pc.multiply(values, unit).cast(INSTANT), None
        outside = pc.or_(pc.less(values, -bound), pc.greater(values, bound)).fill_null(False)
        values = pc.if_else(outside, pa.scalar(None, pa.int64()), values)
        return pc.multiply(values, unit).cast(INSTANT), np.asarray(outside)

    def _floating(self, column: pa.Array) -> tuple[pa.Array, np.ndarray | None]:
        values = column.cast(pa.float64()).to_numpy(zero_copy_only=False)  # a null is NaN
        possible = np.abs(values) < 2.0**63
        if not possible.any():
            return pa.nulls(len(column), INSTANT), _some(~np.isnan(values))
        unit = self._unit(float(np.abs(values[possible]).max()))
        known = possible & (np.abs(np.where(possible, values, 0)) < float(LARGEST // unit))
        bad = ~known & ~np.isnan(values)
        whole, part = np.divmod(np.where(known, values, 0), 1)
        times = whole.astype(np.int64) * unit + np.rint(part * unit).astype(np.int64)
        return pa.array(times, pa.int64(), mask=~known).cast(INSTANT), _some(bad)

    def _texts(self, column: pa.Array) -> tuple[pa.Array, np.ndarray | None]:
        if column.null_count == len(column):
            return pa.nulls(len(column), INSTANT), None
        # Most columns are of the kind of their first text; to try a wrong one takes long.
        first = column.drop_null()[0].as_py()
        try:
            if re.fullmatch(r"[+-]?[0-9]+", first):
                return self._whole(column.cast(pa.int64()))
            kind = INSTANT if re.search(_zoned, first) else pa.timestamp("ns")
            return column.cast(kind).cast(INSTANT), None
        except pa.ArrowInvalid:
            pass
        column = pc.utf8_trim_whitespace(column)
        column = pc.if_else(pc.equal(column, ""), pa.scalar(None, column.type), column)
        return self._mixed(column)

    def _mixed(self, column: pa.Array) -> tuple[pa.Array, np.ndarray | None]:
        """Read texts of several kinds, each kind at once and one by one what that can't read."""
        numbers = np.asarray(pc.match_substring_regex(column, _number).fill_null(False))
        zoned = np.asarray(pc.match_substring_regex(column, _zoned).fill_null(False)) & ~numbers
        naive = np.asarray(pc.is_valid(column)) & ~numbers & ~zoned
        times = np.zeros(len(column), np.int64)
        known = np.zeros(len(column), bool)
        if numbers.any():
            whole = [Decimal(text) for text in column.filter(pa.array(numbers)).to_pylist()]
            possible = [abs(number) for number in whole if abs(number) <= LARGEST]
            unit = self._unit(float(max(possible))) if possible else 1
            for row, number in zip(np.flatnonzero(numbers).tolist(), whole, strict=True):
                moment = int(number * unit) if abs(number) <= LARGEST else LARGEST + 1
                if LEAST <= moment <= LARGEST:
                    times[row], known[row] = moment, True
        for rows, kind in ((zoned, INSTANT), (naive, pa.timestamp("ns"))):
            if not rows.any():
                continue
            some = column.filter(pa.array(rows))
            try:
                times[rows] = some.cast(kind).cast(pa.int64()).to_numpy()
                known |= rows
            except pa.ArrowInvalid:
                for row, text in zip(np.flatnonzero(rows).tolist(), some.to_pylist(), strict=True):
                    found = nanoseconds(text)
                    if found is not None:
                        times[row], known[row] = found, True
        bad = np.asarray(pc.is_valid(column)) & ~known
        return pa.array(times, pa.int64(), mask=~known).cast(INSTANT), _some(bad)


def nanoseconds(text: str) -> int | None:
    """Return an ISO 8601 text as nanoseconds since 1970, or None where it is none or beyond 64 bits.

    Slashes in the date, one-digit fields, and `UTC` or `GMT` as the zone are taken, too; digits beyond nanoseconds are
    cut off.

    Examples
    --------
    >>> nanoseconds("1970-01-01 01:00:00.5+01:00")
    500000000
    """
    found = _moment.fullmatch(text.strip())
    if found is None:
        return None
    year, month, day, month2, day2, hour, minute, second, fraction, zone = found.groups()
    numbers = (int(n or 0) for n in (year, month or month2, day or day2, hour, minute, second))
    try:
        moment = datetime(*numbers, tzinfo=_zone(zone))  # type: ignore[arg-type, misc]
        since = moment - datetime(1970, 1, 1, tzinfo=UTC)
    except (ValueError, OverflowError):
        return None
    whole = (since.days * 86400 + since.seconds) * SECOND + int((fraction or "0")[:9].ljust(9, "0"))
    return whole if LEAST <= whole <= LARGEST else None


def note_untimed(log: pa.RecordBatch, origin: str, notices: Notices) -> None:
    """Note how many events of a log have no time."""
    times = log.column("started_at")
    if times.null_count:
        case = str(log.column("trace_id")[pc.index(pc.is_null(times), True).as_py()].as_py())
        example = f"{origin}: case {shown(repr(case))}"
        notices.note("events without a time, taken after the others of their case", example, times.null_count)


def _zone(text: str | None) -> timezone:
    if not text or text[0] not in "+-":
        return UTC
    digits = text[1:].replace(":", "").ljust(4, "0")
    offset = timedelta(hours=int(digits[:2]), minutes=int(digits[2:]))
    return timezone(-offset if text[0] == "-" else offset)


def _instants(column: pa.Array) -> tuple[pa.Array, np.ndarray | None]:
    """Return timestamps of any unit and zone as instants; without a zone they are UTC."""
    kind = column.type
    try:
        if kind.tz is None:
            column = column.cast(pa.timestamp(kind.unit, tz="UTC"))
        return column.cast(INSTANT), None
    except pa.ArrowInvalid:
        bound = LARGEST // _UNITS[kind.unit]
        values = column.cast(pa.int64())
        outside = pc.or_(pc.less(values, -bound), pc.greater(values, bound)).fill_null(False)
        rest = pc.if_else(outside, pa.scalar(None, pa.int64()), values)
        return pc.multiply(rest, _UNITS[kind.unit]).cast(INSTANT), np.asarray(outside)


def _some(bad: np.ndarray) -> Any:
    return bad if bad.any() else None
