"""Times in slices of about as many events each, found while the events come in any order."""

from __future__ import annotations

from collections import Counter
from itertools import accumulate

import numpy as np
import numpy.typing as npt

__all__ = ["LOW", "WIDE", "TimeSlices"]

Index = npt.NDArray[np.int64]

SLICES = 8
"""Into how many parts of about as many events the time is divided."""

BUCKETS = 512
"""How finely times are told apart before."""

WIDE = 31
"""Bits of the second one of two numbers that stand in one."""

LOW = (1 << WIDE) - 1


class TimeSlices:
    """Events by time and kind: at most about `BUCKETS` times, twice as long ones whenever these do not reach."""

    def __init__(self) -> None:
        self.shift = 0
        self.table: Counter[tuple[int, int]] = Counter()
        self.low = self.high = 0

    def add(self, time: Index, kind: Index) -> None:
        """Take events of some kinds at some times, in nanoseconds."""
        if not len(time):
            return
        low, high = int(time.min()), int(time.max())
        self.low, self.high = (min(self.low, low), max(self.high, high)) if self.table else (low, high)
        before = self.shift
        while (self.high >> self.shift) - (self.low >> self.shift) >= BUCKETS:
            self.shift += 1
        if self.shift > before:
            again: Counter[tuple[int, int]] = Counter()
            for (bucket, each), n in self.table.items():
                again[bucket >> (self.shift - before), each] += n
            self.table = again
        # From the first bucket on, that the numbers stay small.
        first = self.low >> self.shift
        keys, numbers = np.unique(((time >> self.shift) - first) << WIDE | kind, return_counts=True)
        for key, n in zip(keys.tolist(), numbers.tolist(), strict=True):
            self.table[first + (key >> WIDE), key & LOW] += n

    def edges(self) -> tuple[int, ...]:
        """Return where slices of about as many events begin."""
        events: Counter[int] = Counter()
        for (bucket, _), n in self.table.items():
            events[bucket] += n
        buckets = sorted(events)
        total, found, slice_ = events.total(), [], -1
        for bucket, until in zip(buckets, accumulate(events[b] for b in buckets), strict=True):
            middle = (2 * until - events[bucket]) * SLICES // (2 * total)
            if middle > slice_:
                found.append(max(bucket << self.shift, self.low))
                slice_ = middle
        return tuple(found)

    def grouped(self, edges: tuple[int, ...]) -> dict[int, int]:
        """Return (slice, kind), as one number, -> events."""
        found: Counter[int] = Counter()
        for (bucket, kind), n in self.table.items():
            last = ((bucket + 1) << self.shift) - 1
            found[(int(np.searchsorted(edges, last, side="right")) - 1) << WIDE | kind] += n
        return dict(found)
