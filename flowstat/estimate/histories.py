"""What traces say of each event beside its node: what was before it, which part of the data it is in. Read once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import NamedTuple
from zlib import crc32

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from flowstat.estimate.counts import Counts
from flowstat.estimate.time_slices import LOW, WIDE, TimeSlices
from flowstat.read.notices import Notices
from flowstat.read.patterns import sorted_pattern
from flowstat.read.resolve import canonical_batches
from flowstat.read.traces import Traces

__all__ = [
    "FOLDS",
    "LOST",
    "ROOT",
    "START",
    "Event",
    "Group",
    "Histories",
    "Keys",
    "Words",
    "folds_of",
    "read_histories",
]

Index = npt.NDArray[np.int64]

FOLDS = 10
"""Into how many parts runs are drawn."""

COLUMNS = ("trace_id", "parent_id", "parent", "name", "sent", "status", "started_at", "sent_at", "worker")

ROOT, LOST = 0, 1
"""In place of the node before: nothing sent the event; what sent it was not recorded."""

START = "(start)"
"""In place of a node: where runs start."""

Group = tuple[str, str, str]


class Event(NamedTuple):
    """A kind of event: at `node`, sending `sent`, after an event at `before`.

    `before` is None where nothing sent it (`root`), and where what sent it was not recorded (then `root` is False).
    """

    before: str | None
    node: str
    sent: str
    root: bool = False


@dataclass(frozen=True, eq=False)
class Histories:
    """Events of traces by what was before them and by the part of the data they are in.

    Attributes
    ----------
    events
        The kinds of events, sorted.
    folds : (kinds, FOLDS)
        How many events of each kind there are in each part of the runs, drawn by chance.
    files, workers, times
        (group, node, send pattern) -> events; the groups are the traces given, the workers that handled them, and
        slices of time with about as many events each. Starts stand there as events of the node `(start)` that sent to
        the first node; workers have none. What is not known is left out.
    slices
        When each slice of time begins, in nanoseconds since 1970.
    rest
        Counts with the names of the traces and what was wrong with them, and no events.
    """

    events: tuple[Event, ...]
    folds: Index
    files: Mapping[tuple[str, str, str], int] = field(default_factory=dict)
    workers: Mapping[tuple[str, str, str], int] = field(default_factory=dict)
    times: Mapping[tuple[str, str, str], int] = field(default_factory=dict)
    slices: tuple[int, ...] = ()
    rest: Counts = field(default_factory=Counts)

    def counts(self) -> Counts:
        """Return what `count` says of the same events, without what is no event."""
        table: Counter[tuple[str, str]] = Counter()
        starts: Counter[str] = Counter()
        for event, n in zip(self.events, self.folds.sum(axis=1).tolist(), strict=True):
            table[event.node, event.sent] += n
            if event.root:
                starts[event.node] += n
        return self.rest + Counts(dict(sorted(table.items())), dict(sorted(starts.items())))


def read_histories(traces: Traces, *, seed: int = 0, memory: int | None = None) -> Histories:
    """Read what was before each event, and which part of the data it is in.

    Parameters
    ----------
    traces
        From `read_traces`, in any format but counts files.
    seed
        Draws which part (fold) each run is in.
    memory
        Bytes that joins may hold in memory, as for `count`.

    Raises
    ------
    TraceError
        If a file can't be read, holds counts, or says something impossible.

    Notes
    -----
    One pass over canonical traces, and for others the join that makes them so; a few sorts of each batch. Takes memory
    for the distinct kinds of events, and of those in each group.

    Examples
    --------
    >>> read_histories(Traces(())).events
    ()
    """
    tally = _Tally(seed)
    rest = Counts()
    for file in traces.files:
        notices = Notices(file.mapping.skip_bad)
        tally.begin()
        for batch in canonical_batches(file, notices, memory):
            tally.add(batch)
        rest = rest + Counts(files=file.origins, problems=notices.problems)
    return tally.result([file.origin for file in traces.files], rest)


class Words:
    """Words and the numbers that stand for them."""

    def __init__(self, make: Callable[[str], str] = str) -> None:
        self.make = make
        self.index: dict[str, int] = {}

    def codes(self, column: pa.Array) -> Index:
        """Return a number for each word of a column, -1 for null."""
        if not pa.types.is_dictionary(column.type):
            column = column.cast(pa.string()).dictionary_encode()
        words = column.dictionary.to_pylist()
        made = [-1 if w is None else self.index.setdefault(self.make(w), len(self.index)) for w in words]
        table = np.array([*made, -1], np.int64)
        found: Index = table[pc.fill_null(column.indices, len(words)).to_numpy(zero_copy_only=False)]
        return found


class Keys:
    """Pairs of numbers and the one number that stands for each."""

    def __init__(self) -> None:
        self.index: dict[int, int] = {}

    def codes(self, first: Index, second: Index) -> Index:
        """Return one number for each pair; numbers are below 2^31."""
        keys, place = np.unique(first << WIDE | second, return_inverse=True)
        numbers = [self.index.setdefault(key, len(self.index)) for key in keys.tolist()]
        found: Index = np.array(numbers, np.int64)[place]
        return found

    def pairs(self, first: int = 0) -> Iterator[tuple[int, int]]:
        """Yield the pairs in the order of their numbers, from some number on."""
        for key in islice(self.index, first, None):
            yield key >> WIDE, key & LOW


class _Tally:
    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.nodes, self.patterns, self.handlers = Words(), Words(sorted_pattern), Words()
        self.pairs, self.triples = Keys(), Keys()
        self.folds = np.zeros((0, FOLDS), np.int64)
        self.file = -1
        # (group, pair) -> events, and (group, first node) -> runs.
        self.by_file, self.by_worker, self.by_time = Counter[int](), Counter[int](), TimeSlices()
        self.start_file, self.start_time = Counter[int](), TimeSlices()

    def begin(self) -> None:
        self.file += 1

    def add(self, batch: pa.RecordBatch) -> None:
        names = batch.schema.names
        table = pa.table([batch.column(names.index(c)) for c in COLUMNS], names=list(COLUMNS))
        table = table.filter(pc.is_in(table["status"].cast(pa.string()), pa.array(["ok", "error"]))).combine_chunks()
        if not table.num_rows:
            return
        rows = {c: table[c].chunk(0) for c in COLUMNS}
        node, sent, before = (
            words.codes(rows[c]) for words, c in ((self.nodes, "name"), (self.patterns, "sent"), (self.nodes, "parent"))
        )
        sent = np.where(sent < 0, self.patterns.index.setdefault("", len(self.patterns.index)), sent)
        root = pc.is_null(rows["parent_id"]).to_numpy(zero_copy_only=False)
        before = np.where(root, ROOT, np.where(before < 0, LOST, before + 2))
        pair = self.pairs.codes(node, sent)
        triple = self.triples.codes(before, pair)
        self._fold(triple, folds_of(rows["trace_id"], self.seed))
        _count(self.by_file, np.full(len(pair), self.file), pair)
        _count(self.start_file, np.full(int(root.sum()), self.file), node[root])
        worker = self.handlers.codes(rows["worker"])
        known = worker >= 0
        _count(self.by_worker, worker[known], pair[known])
        when = pc.coalesce(rows["started_at"], rows["sent_at"]).cast(pa.int64())
        timed = pc.is_valid(when).to_numpy(zero_copy_only=False)
        time = pc.fill_null(when, 0).to_numpy(zero_copy_only=False)
        self.by_time.add(time[timed], pair[timed])
        self.start_time.add(time[timed & root], node[timed & root])

    def _fold(self, triple: Index, fold: Index) -> None:
        more = len(self.triples.index) - len(self.folds)
        if more > 0:
            grown = max(more, len(self.folds))
            self.folds = np.concatenate([self.folds, np.zeros((grown, FOLDS), np.int64)])
        self.folds += np.bincount(triple * FOLDS + fold, minlength=self.folds.size).reshape(self.folds.shape)

    def result(self, files: list[str], rest: Counts) -> Histories:
        nodes, patterns = list(self.nodes.index), list(self.patterns.index)
        pairs = [(nodes[i], patterns[s]) for i, s in self.pairs.pairs()]
        events = [
            Event(None if before < 2 else nodes[before - 2], *pairs[pair], before == ROOT)
            for before, pair in self.triples.pairs()
        ]
        order = sorted(range(len(events)), key=lambda k: _place(events[k]))
        edges = self.by_time.edges()
        moments = [str(k + 1) for k in range(len(edges))]

        def named(table: Mapping[int, int], starts: Mapping[int, int], groups: list[str]) -> dict[Group, int]:
            found = Counter[Group]()
            for key, n in table.items():
                found[groups[key >> WIDE], *pairs[key & LOW]] += n
            for key, n in starts.items():
                found[groups[key >> WIDE], START, nodes[key & LOW]] += n
            return dict(found)

        return Histories(
            tuple(events[k] for k in order),
            self.folds[order],
            named(self.by_file, self.start_file, _distinct(files)),
            named(self.by_worker, {}, list(self.handlers.index)),
            named(self.by_time.grouped(edges), self.start_time.grouped(edges), moments),
            edges,
            rest,
        )


def _place(event: Event) -> tuple[str, bool, str, bool, str]:
    return event.node, event.before is not None, event.before or "", event.root, event.sent


def _distinct(names: list[str]) -> list[str]:
    """Return names of which none is there twice: the same ones are numbered."""
    seen: Counter[str] = Counter()
    found = []
    for name in names:
        seen[name] += 1
        found.append(name if seen[name] == 1 else f"{name} ({seen[name]})")
    return found


def folds_of(ids: pa.Array, seed: int) -> Index:
    """Return the fold of each run: the same for the same id and seed, whatever the file and the order."""
    coded = ids.dictionary_encode()
    runs = coded.dictionary
    if pa.types.is_integer(runs.type):
        key = runs.cast(pa.uint64()).to_numpy(zero_copy_only=False).astype(np.uint64)
    else:
        key = np.array([crc32(str(run).encode("utf-8", "surrogatepass")) for run in runs.to_pylist()], np.uint64)
    # SplitMix64 (Steele, Lea and Flood, OOPSLA 2014): near ids are far apart.
    key = key + np.uint64((0x9E3779B97F4A7C15 * (seed + 1)) % 2**64)
    key = (key ^ (key >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    key = (key ^ (key >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    fold = ((key ^ (key >> np.uint64(31))) % np.uint64(FOLDS)).astype(np.int64)
    found: Index = fold[coded.indices.to_numpy()]
    return found


def _count(into: Counter[int], first: Index, second: Index) -> None:
    keys, numbers = np.unique(first << WIDE | second, return_counts=True)
    for key, n in zip(keys.tolist(), numbers.tolist(), strict=True):
        into[key] += n
