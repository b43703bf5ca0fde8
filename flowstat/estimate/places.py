"""Texts numbered in the order they are first seen, millions of them, many at a time.

A dictionary of Python strings would take ten times the memory and Python's time for each. Here a text is found by
a 64-bit hash in sorted arrays and compared with what was found, so that a collision is seen, never believed.
"""

from __future__ import annotations

from hashlib import blake2b

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

__all__ = ["Places"]

FACTOR = np.uint64(0x9E3779B97F4A7C15)

WORD = 8
"""Bytes hashed at once."""

MASKS = np.array([(1 << 8 * k) - 1 for k in range(WORD + 1)], np.uint64)
"""What is left of a word that is cut off after so many bytes."""

LONG = 256
"""Bytes from which a text is hashed by itself."""


class Places:
    """Numbers texts (or integers) 0, 1, 2, ... as they come."""

    def __init__(self) -> None:
        self._texts: list[pa.Array] = []
        self._count = 0
        # Sorted hashes with the numbers of their texts. Each table is several times as long as the next, so that
        # adding and looking up grow with the logarithm of the texts only.
        self._tables: list[tuple[np.ndarray, np.ndarray]] = []
        # Texts whose hash another text has already: next to none, so a plain dictionary will do.
        self._crowded: dict[str, int] = {}

    def __len__(self) -> int:
        return self._count

    def find(self, values: pa.Array) -> np.ndarray:
        """Return each value's number, a new one if it was not seen before.

        Parameters
        ----------
        values
            Distinct texts or integers, without nulls; texts and integers are never mixed.
        """
        whole = pa.types.is_integer(values.type)
        texts = values if whole else values.cast(pa.large_string())
        hashes = _integers(values) if whole else _hashes(texts)
        # In order, searching and adding both go through memory from end to end.
        order = np.argsort(hashes)
        hashes = hashes[order]
        found = self._search(hashes)
        fresh = found < 0
        crowded: list[int] = []
        if not whole:
            unlike = self._unlike(texts, order, found)
            unlike[1:] |= fresh[1:] & (hashes[1:] == hashes[:-1])
            fresh &= ~unlike
            crowded = order[unlike].tolist()
        numbers = np.empty(len(order), np.int64)
        numbers[order] = found
        by_text = {texts[row].as_py(): row for row in crowded}
        for text, row in by_text.items():
            numbers[row] = self._crowded.get(text, -1)
        new = np.sort(np.r_[order[fresh], [row for row in crowded if numbers[row] < 0]].astype(np.int64))
        numbers[new] = self._count + np.arange(len(new))
        self._count += len(new)
        self._crowded.update((text, int(numbers[row])) for text, row in by_text.items())
        if not whole:
            self._texts.append(texts.take(pa.array(new)))
            if len(self._texts) > 64:
                self._texts = [pa.concat_arrays(self._texts)]
        self._add(hashes[fresh], numbers[order[fresh]].astype(np.int32))
        return numbers

    def _search(self, hashes: np.ndarray) -> np.ndarray:
        """Return the numbers under sorted hashes, -1 where there is none."""
        found = np.full(len(hashes), -1, np.int64)
        for known, numbers in self._tables:
            at = np.minimum(np.searchsorted(known, hashes), len(known) - 1)
            hit = known[at] == hashes
            found[hit] = numbers[at[hit]]
        return found

    def _unlike(self, texts: pa.Array, order: np.ndarray, found: np.ndarray) -> np.ndarray:
        """Return where a text is not the one that its hash led to."""
        hit = np.flatnonzero(found >= 0)
        unlike = np.zeros(len(order), bool)
        unlike[hit] = ~np.asarray(pc.equal(self._take(found[hit]), texts.take(pa.array(order[hit]))))
        return unlike

    def _add(self, hashes: np.ndarray, numbers: np.ndarray) -> None:
        """Add a table, joined with those before it that are not several times as long."""
        if not len(hashes):
            return
        while self._tables and len(self._tables[-1][0]) < 4 * len(hashes):
            known, theirs = self._tables.pop()
            where = np.searchsorted(known, hashes)
            hashes, numbers = np.insert(known, where, hashes), np.insert(theirs, where, numbers)
        self._tables.append((hashes, numbers))

    def _take(self, numbers: np.ndarray) -> pa.ChunkedArray:
        return pa.chunked_array(self._texts, pa.large_string()).take(pa.array(numbers))


def _integers(values: pa.Array) -> np.ndarray:
    integers = values.to_numpy(zero_copy_only=False)
    result: np.ndarray = integers if integers.dtype == np.uint64 else integers.astype(np.int64).view(np.uint64)
    return result


def _hashes(texts: pa.Array) -> np.ndarray:
    """Return a hash of each text: of its bytes, eight at a time, and its length."""
    _, offsets, data = texts.buffers()
    ends = np.frombuffer(offsets, np.int64)[texts.offset : texts.offset + len(texts) + 1]
    base = int(ends[0])
    padded = np.zeros(int(ends[-1]) - base + WORD, np.uint8)
    if data is not None:
        padded[:-WORD] = np.frombuffer(data, np.uint8)[base : int(ends[-1])]
    # Every eight bytes as one number, wherever they begin.
    words = np.ndarray(len(padded) - WORD + 1, "<u8", padded, strides=(1,))
    starts, left = ends[:-1] - base, np.diff(ends)
    hashes = left.astype(np.uint64)
    for row in np.flatnonzero(left > LONG).tolist():
        text = padded[starts[row] : starts[row] + left[row]].tobytes()
        hashes[row] = int.from_bytes(blake2b(text, digest_size=WORD).digest(), "little")
    rows = np.flatnonzero((left > 0) & (left <= LONG))
    starts, left = starts[rows], left[rows]
    while len(rows):
        word = words[starts] & MASKS[np.minimum(left, WORD)]
        mixed = (hashes[rows] ^ word) * FACTOR
        hashes[rows] = mixed ^ (mixed >> np.uint64(32))
        more = left > WORD
        rows, starts, left = rows[more], starts[more] + WORD, left[more] - WORD
    return hashes
