"""CSV text in whole rows, with its quotes checked: a quote that nothing closes must not swallow the rows behind it.

A quote opens a field where it is the field's first character, and closes it before a delimiter or a line's end; within
it is doubled. Elsewhere in a field without quotes it is a character like others. What breaks this is a bad row: the
line in which the quote was opened is left out, and reading goes on with the next.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Sequence
from typing import BinaryIO, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from flowstat.read.opening import read_as_far

__all__ = ["WholeRows"]

QUOTE: Final = ord('"')

UNCLOSED = "a quote is opened in it that nothing closes"
WITHIN = "a quote is opened in it that ends within a field: a quote that is meant is doubled"

_line_end = re.compile(rb"\r\n?|\n")
_no_utf8 = re.compile("[\udc80-\udcff]")
_mark = re.compile(r"\0bad ([0-9]+)\0")


class WholeRows:
    """A CSV file to read from, whose reads end where rows end; a bad row is replaced by one that `reason` knows.

    Parameters
    ----------
    file
        What is read, from the header on.
    delimiter, width
        What is between fields, and how many a row has.
    longest
        Bytes that a row has at most.
    """

    closed = False

    def __init__(self, file: BinaryIO, delimiter: str, width: int, longest: int) -> None:
        self._file = file
        self._width = width
        self._delimiter = delimiter.encode()
        self._longest = longest
        self._bounds = np.zeros(256, bool)  # what stands around a field
        self._bounds[list(b"\r\n" + self._delimiter)] = True
        self._edges = self._bounds.copy()
        self._edges[QUOTE] = True
        self._held = b""  # from a row's start
        self._ended = False
        self._in_long_row = False
        self._damage = ""
        self._broken = False
        self._reasons: list[str] = []

    def read(self, size: int = -1) -> bytes:
        """Return some whole rows, about as many as `longest` holds, whatever the size; nothing at the end."""
        while True:
            self._fill()
            if not self._held:
                return self._last()
            rows, self._held = self._rows(self._held)
            if rows:
                return self._utf8(rows)

    def as_it_was(self, column: pa.Array) -> pa.Array:
        """Return a column with what was no UTF-8 in the file; only that it was none can be seen."""
        if not self._broken:
            return column
        if pa.types.is_dictionary(column.type):
            return pa.DictionaryArray.from_arrays(column.indices, self.as_it_was(column.dictionary))
        return pc.replace_substring(column.cast(pa.binary()), b"\0", b"\xff").view(pa.string())

    def _utf8(self, rows: bytes) -> bytes:
        """Return rows as UTF-8, which they have to be for a bad one to be told; zeros are what is none."""
        if rows.isascii():
            return rows
        try:
            rows.decode()
        except UnicodeDecodeError:
            self._broken = True
            return _no_utf8.sub("\0", rows.decode(errors="surrogateescape")).encode()
        return rows

    def close(self) -> None:
        """Nothing: the file is the caller's."""

    def reason(self, row: str) -> str | None:
        """Return what is wrong with a bad row that this one stands for; None for a row of the file."""
        found = _mark.match(row)
        return self._reasons[int(found[1])] if found else None

    def _fill(self) -> None:
        """Hold as many bytes as a row may have, if there are."""
        while not self._ended and (missing := self._longest - len(self._held)) > 0:
            part, self._damage = read_as_far(self._file, missing)
            self._ended = len(part) < missing
            if self._in_long_row and part:
                end = _line_end.search(part)
                part = part[end.end() :] if end else b""
                self._in_long_row = end is None
            self._held += part

    def _last(self) -> bytes:
        """Return the row that stands for what can't be read, once."""
        damage, self._damage = self._damage, ""
        return self._bad(f"can't read on: {damage}") if damage else b""

    def _bad(self, reason: str) -> bytes:
        self._reasons.append(reason)
        row = b"\0bad %d\0" % (len(self._reasons) - 1)
        return row + (self._delimiter if self._width == 1 else b"") + b"\n"

    def _rows(self, data: bytes) -> tuple[bytes, bytes]:
        """Return the rows that are whole, with bad ones replaced, and the rest of the bytes."""
        final = self._ended and not self._damage
        quotes = np.flatnonzero(np.frombuffer(data, np.uint8) == QUOTE) if b'"' in data else np.zeros(0, np.int64)
        turns = self._turns(data, quotes)
        if turns is not None:
            if final and len(turns) % 2 == 0:
                return data, b""
            end = _last_line(data, 0, len(data), turns)
            if end:
                return data[:end], data[end:]
        return self._mended(data, quotes.tolist(), final)

    def _turns(self, data: bytes, quotes: np.ndarray) -> np.ndarray | None:
        """Return the quotes that open and close fields by turns; None if that can't be seen of all at once."""
        if not len(quotes):
            return quotes
        octets = np.frombuffer(data, np.uint8)
        if self._alternate(octets, quotes):
            return quotes
        # Those within fields are characters like others, if their fields have no quotes around.
        beside = np.clip([quotes - 1, quotes + 1], 0, len(octets) - 1)  # beyond the ends: the quote itself
        outer = self._edges[octets[beside]].any(axis=0)
        others: np.ndarray = quotes[outer]
        if (np.cumsum(outer)[~outer] % 2).any() or not self._alternate(octets, others):
            return None
        return others

    def _alternate(self, octets: np.ndarray, quotes: np.ndarray) -> bool:
        """Whether every other quote may open a field, and those between may close it.

        Two quotes in a row, of which one closes and one opens, stand for one within a field.
        """
        opening, closing = quotes[0::2], quotes[1::2]
        opening = opening[1:] if len(opening) and opening[0] == 0 else opening
        closing = closing[:-1] if len(closing) and closing[-1] + 1 == len(octets) else closing
        edges = self._edges
        return bool(edges.take(octets.take(opening - 1)).all() and edges.take(octets.take(closing + 1)).all())

    def _mended(self, data: bytes, quotes: list[int], final: bool) -> tuple[bytes, bytes]:
        """Do it quote by quote."""
        made: list[bytes] = []
        start = at = 0
        turns: list[int] = []  # quotes that open and close, from `start` on
        while at < len(quotes):
            opening = quotes[at]
            at += 1
            if opening > start and not self._bounds[data[opening - 1]]:
                continue
            while at + 1 < len(quotes) and quotes[at + 1] == quotes[at] + 1:
                at += 2
            if at < len(quotes):
                closing = quotes[at]
                at += 1
                if closing + 1 >= len(data) or self._bounds[data[closing + 1]]:
                    turns += opening, closing
                    continue
                reason = WITHIN
            elif final:
                reason = UNCLOSED
            else:
                turns.append(opening)
                break
            row = _last_line(data, start, opening, turns)
            made += data[start:row], self._bad(reason)
            start = self._next_line(data, opening)
            at = bisect_left(quotes, start)
            turns = []
        if final and start < len(data):
            made.append(data[start:])
            return b"".join(made), b""
        end = _last_line(data, start, len(data), turns)
        if end == start and not made:
            # Not one row is whole.
            if self._damage:
                return self._last(), b""
            made.append(self._bad(f"it is longer than {self._longest / 2**20:.3g} MB: is a quote left open?"))
            end = start = self._next_line(data, turns[-1] if len(turns) % 2 else len(data))
        made.append(data[start:end])
        return b"".join(made), data[end:]

    def _next_line(self, data: bytes, at: int) -> int:
        """Return where the line after a place begins; where that is not known yet, the rest of the line is left out."""
        end = _line_end.search(data, at)
        self._in_long_row = end is None
        return end.end() if end else len(data)


def _last_line(data: bytes, start: int, end: int, turns: Sequence[int] | np.ndarray) -> int:
    """Return the end of the last line before `end` that is a row's end, `start` if there is none.

    Parameters
    ----------
    turns
        The quotes that open and close fields, in order; the last may be left open.
    """
    k = len(turns)
    if k % 2:
        k -= 1
        end = min(end, turns[k])
    while True:
        found = data.rfind(b"\n", start, end)
        found = max(found, data.rfind(b"\r", max(found + 1, start), end))
        if found < 0:
            return start
        while k and turns[k - 1] > found and turns[k - 2] > found:
            k -= 2
        if not k or turns[k - 1] < found:
            return found + 1
        end = turns[k - 2]
        k -= 2
