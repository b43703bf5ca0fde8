"""Texts numbered in the order they are first seen, millions of them, many at a time.

A dictionary of Python strings would take ten times the memory and Python's time for each. Here a text is found by
a 64-bit hash in sorted arrays and compared with what was found, so that a collision is seen, never believed.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

__all__ = ["Places"]

FACTOR = np.uint64(0x9E3779B97F4A7C15)


class Places:
    """Numbers texts (or integers) 0, 1, 2, ... as they come."""

    def __init__(self) -> None:
        self._texts: list[pa.Array] = []
        self._count = 0
        self._hashes = np.zeros(0, np.uint64)
        self._numbers = np.zeros(0, np.int32)
        self._kind: pa.DataType | None = None
        # Texts whose hash another text has already: next to none, so a plain dictionary will do.
        self._crowded: dict[str, int] = {}

    def __len__(self) -> int:
        return self._count

    def find(self, values: pa.Array) -> tuple[np.ndarray, np.ndarray]:
        """Return each value's number and whether it is new.

        Parameters
        ----------
        values
            Distinct texts or integers, without nulls; texts and integers are never mixed.
        """
        whole = pa.types.is_integer(values.type)
        texts = values if whole else values.cast(pa.large_string())
        hashes = _integers(values) if whole else _hashes(texts)
        at = np.searchsorted(self._hashes, hashes)
        at = np.minimum(at, max(0, len(self._hashes) - 1))
        hit = self._hashes[at] == hashes if len(self._hashes) else np.zeros(len(hashes), bool)
        numbers = np.where(hit, self._numbers[at] if len(self._hashes) else 0, -1).astype(np.int64)
        unlike = np.zeros(len(hashes), bool)
        if not whole:
            rows = np.flatnonzero(hit)
            unlike[rows] = ~np.asarray(pc.equal(self._take(numbers[rows]), texts.take(pa.array(rows))))
            unlike |= _again(hashes, ~hit)
        fresh = ~hit & ~unlike
        for row in np.flatnonzero(unlike).tolist():
            text = texts[row].as_py()
            known = self._crowded.get(text)
            if known is None:
                fresh[row] = True
            else:
                numbers[row] = known
        new = np.flatnonzero(fresh)
        numbers[new] = self._count + np.arange(len(new))
        for row in np.flatnonzero(unlike & fresh).tolist():
            self._crowded[texts[row].as_py()] = int(numbers[row])
        if not whole:
            self._texts.append(texts.take(pa.array(new)))
            if len(self._texts) > 64:
                self._texts = [pa.concat_arrays(self._texts)]
        self._count += len(new)
        plain = np.flatnonzero(fresh & ~unlike)
        order = plain[np.argsort(hashes[plain])]
        where = np.searchsorted(self._hashes, hashes[order])
        self._hashes = np.insert(self._hashes, where, hashes[order])
        self._numbers = np.insert(self._numbers, where, numbers[order])
        return numbers, fresh

    def _take(self, numbers: np.ndarray) -> pa.ChunkedArray:
        return pa.chunked_array(self._texts, pa.large_string()).take(pa.array(numbers))


def _again(hashes: np.ndarray, among: np.ndarray) -> np.ndarray:
    """Return which of the hashes, among some, equal one before them."""
    rows = np.flatnonzero(among)
    _, firsts = np.unique(hashes[rows], return_index=True)
    result = among.copy()
    result[rows[firsts]] = False
    return result


def _integers(values: pa.Array) -> np.ndarray:
    integers = values.to_numpy(zero_copy_only=False)
    result: np.ndarray = integers if integers.dtype == np.uint64 else integers.astype(np.int64).view(np.uint64)
    return result


def _hashes(texts: pa.Array) -> np.ndarray:
    """Return the polynomial hash of each text's bytes, modulo 2**64."""
    _, offsets, data = texts.buffers()
    ends = np.frombuffer(offsets, np.int64)[texts.offset : texts.offset + len(texts) + 1]
    base = int(ends[0])
    bytes_ = np.frombuffer(data, np.uint8)[base : int(ends[-1])] if data is not None else np.zeros(0, np.uint8)
    lengths = np.diff(ends)
    starts = ends[:-1] - base
    longest = int(lengths.max(initial=0))
    powers = np.cumprod(np.full(longest, FACTOR)) if longest else np.zeros(0, np.uint64)
    place = np.arange(len(bytes_)) - np.repeat(starts, lengths)
    terms = (bytes_.astype(np.uint64) + np.uint64(1)) * powers[place]
    sums = np.r_[np.zeros(1, np.uint64), np.cumsum(terms, dtype=np.uint64)]
    hashes: np.ndarray = sums[starts + lengths] - sums[starts]
    return hashes
