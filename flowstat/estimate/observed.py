"""The variants that traces have: which sequences of nodes whole runs are, and how many runs are each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from flowstat.read.database import database, load
from flowstat.read.notices import Notices
from flowstat.read.patterns import parse_pattern
from flowstat.read.resolve import canonical_batches
from flowstat.read.traces import Traces
from flowstat.results import LINEAGES, Result, Row, counted, number

__all__ = ["ObservedVariants", "observed_variants"]

Index = npt.NDArray[np.int64]

COLUMNS = ("trace_id", "span_id", "parent_id", "name", "sent", "status")

ROOT, LOST = -1, -2
"""In place of who sent an event: nothing, or an event that was not recorded."""

ROWS = 1 << 18
"""How many events are put together at a time; a longer run is one piece."""


@dataclass(frozen=True)
class ObservedVariants(Result):
    """The variants of recorded runs, most frequent first.

    Attributes
    ----------
    table
        Sequence of nodes -> how many runs it is. Of a run that fans out every lineage counts, with the chance to be
        picked if one message is picked at random at each event; its chances add up to one run.
    unfinished
        How many runs were recorded without their end: a message that was never handled, or an event that is missing.
    fans_out
        Whether some run has several lineages.
    """

    title: ClassVar[str] = "Variants that were recorded"
    columns: ClassVar[tuple[str, ...]] = ("variant", "length", "runs", "share")
    table: Mapping[tuple[str, ...], float]
    unfinished: float = 0.0
    fans_out: bool = False

    @property
    def runs(self) -> float:
        """How many complete runs there are."""
        return float(sum(self.table.values()))

    def rows(self) -> list[Row]:
        """Return one row a variant."""
        total = self.runs
        ordered = sorted(self.table.items(), key=lambda item: (-item[1], len(item[0]), item[0]))
        return [
            {"variant": " -> ".join(nodes), "length": len(nodes), "runs": n, "share": n / total} for nodes, n in ordered
        ]

    def to_dict(self) -> dict[str, Any]:
        """Return all of it as JSON-ready data: the table as a list of nodes and runs."""
        table = [{"nodes": list(nodes), "runs": n} for nodes, n in self.table.items()]
        return {
            "type": type(self).__name__,
            "version": self.version,
            "table": table,
            "unfinished": self.unfinished,
            "fans_out": self.fans_out,
        }

    def notes(self) -> tuple[str, ...]:
        """Say how many there are."""
        said = [f"{counted(len(self.table), 'variant')} of {number(self.runs)} complete runs."]
        if self.unfinished:
            said.append(f"{number(self.unfinished)} runs were recorded without their end.")
        if self.fans_out:
            said.append(LINEAGES)
        return tuple(said)


def observed_variants(traces: Traces, *, memory: int | None = None) -> ObservedVariants:
    """Count the sequences of nodes that the runs of traces are.

    Parameters
    ----------
    traces
        From `read_traces`, in any format but counts files.
    memory
        Bytes that sorting and joins may hold in memory, as for `count`; the rest goes to disk.

    Raises
    ------
    TraceError
        If a file can't be read, holds counts, or says something impossible.

    Notes
    -----
    Events are sorted by their run, on disk where memory ends, and put together a few hundred thousand at a time: each
    event's sequence is that of its sender and its own node, found in a tree of all sequences that were seen. Takes
    memory for the distinct sequences and the longest run; O(n log n) for n events. A run whose files are several is
    one run in each of them.

    Examples
    --------
    >>> observed_variants(Traces(())).runs
    0.0
    """
    names: dict[str, int] = {}
    tree = _Sequences()
    for file in traces.files:
        notices = Notices(file.mapping.skip_bad)
        for block in _blocks(canonical_batches(file, notices, memory), names, memory):
            tree.add(block)
    return tree.result(list(names))


def _blocks(batches: Iterator[pa.RecordBatch], names: dict[str, int], memory: int | None) -> Iterator[pa.Table]:
    """Yield the handled events sorted by run, some whole runs at a time."""
    events = (_coded(batch, names) for batch in batches)
    first = next((batch for batch in events if batch.num_rows), None)
    if first is None:
        return
    with database(memory) as connection:
        load(connection, "events", chain([first], events), first.schema, lambda batch: batch)
        reader = connection.sql("select * from events order by trace_id").to_arrow_reader(ROWS)
        kept: list[pa.RecordBatch] = []
        for batch in reader:
            if not batch.num_rows:
                continue
            kept.append(batch)
            if sum(part.num_rows for part in kept) < ROWS:
                continue
            table = pa.Table.from_batches(kept)
            runs = table["trace_id"].combine_chunks()
            # The last run may go on in the next batch.
            last = pc.index(runs, runs[len(runs) - 1]).as_py()
            if last:
                yield table.slice(0, last)
            kept = table.slice(last).to_batches()
        if kept:
            yield pa.Table.from_batches(kept)


def _coded(batch: pa.RecordBatch, names: dict[str, int]) -> pa.RecordBatch:
    """Return the handled events of a batch: their ids, the number of their node, and how many messages they sent."""
    table = pa.table([batch.column(batch.schema.names.index(c)) for c in COLUMNS], names=list(COLUMNS))
    table = table.filter(pc.is_in(table["status"].cast(pa.string()), pa.array(["ok", "error"]))).combine_chunks()
    node = _numbered(table["name"], lambda name: names.setdefault(name, len(names)))
    sent = _numbered(table["sent"], lambda sent: sum(times for _, times in parse_pattern(sent or "")))
    columns = [*(table[c] for c in COLUMNS[:3]), pa.array(node), pa.array(sent)]
    made = pa.table(columns, names=["trace_id", "span_id", "parent_id", "node", "sent"])
    whole = made.combine_chunks().to_batches()
    return whole[0] if whole else pa.RecordBatch.from_pylist([], made.schema)


def _numbered(column: pa.ChunkedArray, number: Callable[[Any], int]) -> Index:
    """Return a number for each of some words, asked for once for each word that is different."""
    if not len(column):
        return np.zeros(0, np.int64)
    coded = column.cast(pa.string()).combine_chunks().dictionary_encode(null_encoding="encode")
    table = np.array([number(word) for word in coded.dictionary.to_pylist()], np.int64)
    found: Index = table[coded.indices.to_numpy()]
    return found


class _Sequences:
    """All sequences that were seen, as a tree: each is another one and a node more."""

    def __init__(self) -> None:
        self.known: dict[int, int] = {}
        self.before: list[int] = []
        self.last: list[int] = []
        self.times: Counter[int] = Counter()
        self.unfinished = 0.0
        self.fans_out = False

    def add(self, block: pa.Table) -> None:
        """Take some whole runs: level by level, from the events that nothing sent."""
        node, sent = (block[c].to_numpy() for c in ("node", "sent"))
        sender = _senders(block)
        number = len(node)
        order = np.argsort(sender, kind="stable")
        starts = np.searchsorted(sender[order], np.arange(number + 1))
        children = np.diff(starts)
        # More events than a pattern says were sent by it: each is a lineage all the same.
        size = np.maximum(sent, children)
        self.fans_out |= bool((size > 1).any())
        sequence, weight = np.zeros(number, np.int64), np.zeros(number)
        current = np.flatnonzero(sender == ROOT)
        sequence[current] = self.found(np.full(len(current), -1), node[current])
        weight[current] = 1.0
        ends: list[Index] = []
        while len(current):
            ends.append(current[size[current] == 0])
            onward = current[size[current] > 0]
            missing = (size - children)[onward] / size[onward]
            self.unfinished += float(weight[onward] @ missing)
            many = children[onward]
            first = np.repeat(starts[onward] - np.cumsum(many) + many, many)
            current = order[first + np.arange(len(first))]
            by = sender[current]
            sequence[current] = self.found(sequence[by], node[current])
            weight[current] = weight[by] / size[by]
        if ends:
            ended = np.concatenate(ends)
            which, place = np.unique(sequence[ended], return_inverse=True)
            sums = np.bincount(place, weight[ended], len(which))
            for key, times in zip(which.tolist(), sums.tolist(), strict=True):
                self.times[key] += times

    def found(self, before: Index, node: Index) -> Index:
        """Return the number of each sequence that is another and a node more."""
        keys, place = np.unique((before + 1) << 31 | node, return_inverse=True)
        numbers = np.empty(len(keys), np.int64)
        for k, key in enumerate(keys.tolist()):
            number = self.known.get(key)
            if number is None:
                number = self.known[key] = len(self.before)
                self.before.append((key >> 31) - 1)
                self.last.append(key & 0x7FFFFFFF)
            numbers[k] = number
        return numbers[place]

    def result(self, names: list[str]) -> ObservedVariants:
        table: dict[tuple[str, ...], float] = {}
        for key, times in self.times.items():
            nodes = []
            at = key
            while at >= 0:
                nodes.append(names[self.last[at]])
                at = self.before[at]
            table[tuple(reversed(nodes))] = times
        ordered = sorted(table.items(), key=lambda item: (-item[1], len(item[0]), item[0]))
        return ObservedVariants(dict(ordered), self.unfinished, self.fans_out)


def _senders(block: pa.Table) -> Index:
    """Return for each event which event of the block sent it, `ROOT` if nothing did, `LOST` if that is not there."""
    number = block.num_rows
    run = block["trace_id"].combine_chunks().dictionary_encode().indices.to_numpy().astype(np.int64)
    ids = pa.chunked_array([*block["span_id"].chunks, *block["parent_id"].chunks]).combine_chunks()
    coded = ids.dictionary_encode()
    width = len(coded.dictionary) + 1
    codes = pc.fill_null(coded.indices, width - 1).to_numpy().astype(np.int64)
    own, wanted = run * width + codes[:number], run * width + codes[number:]
    order = np.argsort(own, kind="stable")
    at = np.minimum(np.searchsorted(own, wanted, sorter=order), number - 1)
    sender = np.where(own[order[at]] == wanted, order[at], LOST)
    return np.where(codes[number:] == width - 1, ROOT, sender)
