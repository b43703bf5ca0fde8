"""Counting a sequential log in one pass: all it takes is each case's last event so far.

An event's successor is the next event of its case by (time, then file order); events of unknown time come last.
Where each case's events come in that order, however the cases are interleaved, one pass over the file finds every
successor; a log that is not in order is told apart, and counted by sorting (`flowstat.estimate.embedded`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from flowstat.estimate.places import Places

__all__ = ["Follows", "OutOfOrder", "follow"]

WORDS = 1 << 19
"""Rows whose words are looked up together: smaller batches are joined."""

ROWS = 1 << 18
"""Rows sorted together: few enough to stay in the processor's cache."""

AHEAD = 8

UNKNOWN = np.iinfo(np.int64).max
"""The time of an event whose time is unknown: it sorts last."""


class OutOfOrder(Exception):
    """Some case's events are not in the order of their times."""


@dataclass
class Follows:
    """What a log says: who follows whom, and the first and last events of the cases."""

    pairs: Counter[tuple[str, str]] = field(default_factory=Counter)
    starts: Counter[str] = field(default_factory=Counter)
    """Cases by their first activity; a case whose only event is cut starts nowhere."""
    ends: Counter[str] = field(default_factory=Counter)
    cut: Counter[str] = field(default_factory=Counter)
    """Last events that the edge of the window may have cut off what followed."""


class _Block(NamedTuple):
    """Some events put in the order of (case, file), as numbers; cases are those that have events in it."""

    cases: np.ndarray
    first: np.ndarray
    first_time: np.ndarray
    last: np.ndarray
    last_time: np.ndarray
    single: np.ndarray
    """Whether the case has one event here."""
    pairs: np.ndarray
    numbers: np.ndarray
    width: int
    """A pair is the first activity times this, plus the second."""
    latest: int
    """The latest time that is known."""


def follow(batches: Iterable[pa.RecordBatch], cut: int | None = None) -> Follows:
    """Count who follows whom in a log whose cases are each in order.

    Parameters
    ----------
    batches
        Columns trace_id (dictionary, text or integer), name (dictionary), started_at (timestamp; nulls allowed).
    cut
        Nanoseconds before the log's last time from which on a case's last event counts as cut.

    Raises
    ------
    OutOfOrder
        If a case has an event that is earlier than the one before it.

    Notes
    -----
    Time grows linearly in the events, times the logarithm of the cases; memory with the cases: a few dozen bytes
    each.
    """
    state = _State()
    with ThreadPoolExecutor(1) as pool:
        waiting: list[Future[_Block]] = []
        for block in _blocks(batches):
            for columns in state.numbered(block):
                waiting.append(pool.submit(_order, *columns))
                if len(waiting) == AHEAD:
                    state.add(waiting.pop(0).result())
        for future in waiting:
            state.add(future.result())
    return state.result(cut)


def _blocks(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.Table]:
    held: list[pa.RecordBatch] = []
    rows = 0
    for batch in batches:
        held.append(batch)
        rows += len(batch)
        if rows >= WORDS:
            yield pa.Table.from_batches(held)
            held, rows = [], 0
    if rows:
        yield pa.Table.from_batches(held)


def _order(cases: np.ndarray, acts: np.ndarray, times: np.ndarray, width: int) -> _Block:
    # Sorting case and place as one number keeps the order of the file within a case.
    both = cases << 32 | np.arange(len(cases))
    both.sort()
    cases, order = both >> 32, both & 0xFFFFFFFF
    acts = acts[order]
    same = cases[1:] == cases[:-1]
    if (times[1:] < times[:-1]).any():
        sorted_times = times[order]
        if (same & (sorted_times[1:] < sorted_times[:-1])).any():
            raise OutOfOrder
    begins, ends = np.flatnonzero(np.r_[True, ~same]), np.flatnonzero(np.r_[~same, True])
    pairs, numbers = _numbers((acts[:-1] * width + acts[1:])[same], width * width)
    return _Block(
        cases[begins],
        acts[begins],
        times[order[begins]],
        acts[ends],
        times[order[ends]],
        begins == ends,
        pairs,
        numbers,
        width,
        int(times.max(initial=-UNKNOWN, where=times != UNKNOWN)),
    )


def _encoded(column: pa.ChunkedArray) -> pa.DictionaryArray:
    if not pa.types.is_dictionary(column.type):
        column = column.dictionary_encode()
    if column.num_chunks == 1:
        return column.chunk(0)
    whole = column.unify_dictionaries().combine_chunks()
    return whole.chunk(0) if isinstance(whole, pa.ChunkedArray) else whole


def _numbers(codes: np.ndarray, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the codes that occur and how often."""
    if width > max(4 * len(codes), 1 << 16):
        return np.unique(codes, return_counts=True)
    numbers = np.bincount(codes, minlength=1)
    seen = np.flatnonzero(numbers)
    return seen, numbers[seen]


class _State:
    """Each case's last event, and the numbers so far."""

    def __init__(self) -> None:
        self.cases = Places()
        self.names: dict[str, int] = {}
        self.last = np.zeros(0, np.int32)
        """The last activity of each case, -1 before its first event."""
        self.last_time = np.zeros(0, np.int64)
        self.single = np.zeros(0, bool)
        self.pairs: Counter[tuple[int, int]] = Counter()
        self.starts: Counter[int] = Counter()
        self.latest = -UNKNOWN

    def numbered(self, block: pa.Table) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray, int]]:
        """Yield cases, activities and times as numbers, some rows at a time, with the number of activities so far."""
        case, name = (_encoded(block[column]) for column in ("trace_id", "name"))
        numbers = self.cases.find(case.dictionary)
        acts = np.array(
            [self.names.setdefault(word, len(self.names)) for word in name.dictionary.to_pylist()], np.int64
        )
        times = block["started_at"].combine_chunks().cast(pa.int64()).fill_null(UNKNOWN).to_numpy()
        self._grow(len(self.cases))
        for start in range(0, len(times), ROWS):
            rows = slice(start, start + ROWS)
            cases = numbers[case.indices.to_numpy()[rows]]
            yield cases, acts[name.indices.to_numpy()[rows]], times[rows], len(self.names)

    def add(self, block: _Block) -> None:
        """Join a block to what came before it."""
        before = self.last[block.cases].astype(np.int64)
        old = before >= 0
        if (block.first_time < self.last_time[block.cases])[old].any():
            raise OutOfOrder
        joined = _numbers((before * block.width + block.first)[old], block.width**2)
        for codes, numbers in ((block.pairs, block.numbers), joined):
            for code, n in zip(codes.tolist(), numbers.tolist(), strict=True):
                self.pairs[divmod(code, block.width)] += n
        self.starts.update(_tally(block.first[~old]))
        self.single[block.cases] = ~old & block.single
        self.last[block.cases] = block.last
        self.last_time[block.cases] = block.last_time
        self.latest = max(self.latest, block.latest)

    def _grow(self, wanted: int) -> None:
        if wanted > len(self.last):
            size = max(wanted, 3 * len(self.last) // 2)
            for name in ("last", "last_time", "single"):
                old = getattr(self, name)
                new = np.full(size, -1, old.dtype)
                new[: len(old)] = old
                setattr(self, name, new)

    def result(self, cut: int | None) -> Follows:
        """Return the numbers, each under its words."""
        words = list(self.names)
        # A word that is in a dictionary but in no row is no case.
        seen = self.last >= 0
        last, time, single = self.last[seen], self.last_time[seen], self.single[seen]
        late = np.zeros(len(last), bool)
        if cut is not None:
            # A case that ends in events of unknown time is not known to be late.
            late = (time != UNKNOWN) & (time > self.latest - cut)
        starts = self.starts.copy()
        starts.subtract(_tally(last[late & single]))
        return Follows(
            Counter({(words[a], words[b]): n for (a, b), n in self.pairs.items()}),
            Counter({words[a]: n for a, n in starts.items() if n}),
            Counter({words[a]: n for a, n in _tally(last[~late]).items()}),
            Counter({words[a]: n for a, n in _tally(last[late]).items()}),
        )


def _tally(codes: np.ndarray) -> dict[int, int]:
    seen, numbers = np.unique(codes, return_counts=True)
    return dict(zip(seen.tolist(), numbers.tolist(), strict=True))
