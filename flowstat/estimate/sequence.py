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

ROWS = 1 << 20
"""Rows sorted together; a batch that is larger is cut, smaller ones are joined."""

AHEAD = 3

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
    """Some events put in the order of (case, file); cases are those that have events in it."""

    cases: pa.Array
    first: np.ndarray
    first_time: np.ndarray
    last: np.ndarray
    last_time: np.ndarray
    single: np.ndarray
    """Whether the case has one event here."""
    pairs: np.ndarray
    numbers: np.ndarray
    activities: list[str]
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
            waiting.append(pool.submit(_order, block))
            if len(waiting) == AHEAD:
                state.add(waiting.pop(0).result())
        for future in waiting:
            state.add(future.result())
    return state.result(cut)


def _blocks(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.Table]:
    held: list[pa.RecordBatch] = []
    rows = 0
    for batch in batches:
        for start in range(0, len(batch), ROWS):
            piece = batch.slice(start, ROWS)
            held.append(piece)
            rows += len(piece)
            if rows >= ROWS:
                yield pa.Table.from_batches(held)
                held, rows = [], 0
    if rows:
        yield pa.Table.from_batches(held)


def _order(block: pa.Table) -> _Block:
    case, name = (_encoded(block[column]) for column in ("trace_id", "name"))
    activities = name.dictionary.to_pylist()
    codes, acts = case.indices.to_numpy(), name.indices.to_numpy()
    times = block["started_at"].combine_chunks().cast(pa.int64()).fill_null(UNKNOWN).to_numpy()
    order = _stable_order(codes, len(case.dictionary))
    codes, acts, times = codes[order], acts[order], times[order]
    same = codes[1:] == codes[:-1]
    if (same & (times[1:] < times[:-1])).any():
        raise OutOfOrder
    pair = acts[:-1].astype(np.int64) * len(activities) + acts[1:]
    begins, ends = np.r_[True, ~same], np.r_[~same, True]
    pairs, numbers = _numbers(pair[same], len(activities) ** 2)
    return _Block(
        case.dictionary.take(pa.array(codes[begins])),
        acts[begins],
        times[begins],
        acts[ends],
        times[ends],
        np.flatnonzero(begins) == np.flatnonzero(ends),
        pairs,
        numbers,
        activities,
        int(times.max(initial=-UNKNOWN, where=times != UNKNOWN)),
    )


def _encoded(column: pa.ChunkedArray) -> pa.DictionaryArray:
    if not pa.types.is_dictionary(column.type):
        column = column.dictionary_encode()
    whole = column.unify_dictionaries().combine_chunks()
    return whole.chunk(0) if isinstance(whole, pa.ChunkedArray) else whole


def _stable_order(codes: np.ndarray, width: int) -> np.ndarray:
    """Sort codes, ties in place: numpy sorts 16-bit integers by radix, so larger ones go in two halves."""
    if width <= 1 << 16:
        return np.argsort(codes.astype(np.uint16), kind="stable")
    low = np.argsort((codes & 0xFFFF).astype(np.uint16), kind="stable")
    high = (codes >> 16).astype(np.uint16)[low]
    return low[np.argsort(high, kind="stable")]


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
        self.last_time = np.zeros(0, np.int64)
        self.single = np.zeros(0, bool)
        self.pairs: Counter[tuple[int, int]] = Counter()
        self.starts: Counter[int] = Counter()
        self.latest = -UNKNOWN

    def add(self, block: _Block) -> None:
        """Join a block to what came before it."""
        activity = np.array([self.names.setdefault(a, len(self.names)) for a in block.activities], np.int64)
        width = len(block.activities)
        for code, n in zip(block.pairs.tolist(), block.numbers.tolist(), strict=True):
            self.pairs[int(activity[code // width]), int(activity[code % width])] += n
        at, fresh = self.cases.find(block.cases)
        self._grow(len(self.cases))
        first, last = activity[block.first], activity[block.last]
        old = ~fresh
        here = at[old]
        if (block.first_time[old] < self.last_time[here]).any():
            raise OutOfOrder
        joined, numbers = np.unique(self.last[here].astype(np.int64) * 2**32 + first[old], return_counts=True)
        for code, n in zip(joined.tolist(), numbers.tolist(), strict=True):
            self.pairs[code >> 32, code & 0xFFFFFFFF] += n
        started, numbers = np.unique(first[fresh], return_counts=True)
        self.starts.update(dict(zip(started.tolist(), numbers.tolist(), strict=True)))
        self.single[at] = fresh & block.single
        self.last[at] = last
        self.last_time[at] = block.last_time
        self.latest = max(self.latest, block.latest)

    def _grow(self, wanted: int) -> None:
        if wanted > len(self.last):
            size = max(wanted, 3 * len(self.last) // 2)
            for name in ("last", "last_time", "single"):
                old = getattr(self, name)
                new = np.zeros(size, old.dtype)
                new[: len(old)] = old
                setattr(self, name, new)

    def result(self, cut: int | None) -> Follows:
        """Return the numbers, each under its words."""
        words = list(self.names)
        n = len(self.cases)
        last, time, single = self.last[:n], self.last_time[:n], self.single[:n]
        late = np.zeros(n, bool)
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
