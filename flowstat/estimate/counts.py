"""Counts: how often each node's handling sent what. Exact, additive, and all the estimates need."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from flowstat.errors import TraceError
from flowstat.read.graph import Graph
from flowstat.read.notices import Problem
from flowstat.read.patterns import parse_pattern
from flowstat.read.structure import check_structure
from flowstat.read.traces import TraceFile, Traces
from flowstat.read.words import shown

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Counts", "count"]

K = TypeVar("K", str, tuple[str, str])


@dataclass(frozen=True)
class Counts:
    """What traces say, in whole numbers.

    Counts of two sets of traces add up with `+` to the counts of both.

    Attributes
    ----------
    table
        (node, send pattern) -> number of events: the events of `node` that sent just that.
    starts
        node -> number of runs that began there.
    errors, pending, dropped
        node -> events whose handler failed; messages sent to it and never handled; messages it emitted
        that no arrow took.
    undeclared
        (source, target) -> messages along no arrow of the graph that the counts were made with.
    files
        The names of the traces, in order.
    problems
        What was wrong with them and how it was counted.
    """

    table: Mapping[tuple[str, str], int] = field(default_factory=dict)
    starts: Mapping[str, int] = field(default_factory=dict)
    errors: Mapping[str, int] = field(default_factory=dict)
    pending: Mapping[str, int] = field(default_factory=dict)
    dropped: Mapping[str, int] = field(default_factory=dict)
    undeclared: Mapping[tuple[str, str], int] = field(default_factory=dict)
    files: tuple[str, ...] = ()
    problems: tuple[Problem, ...] = ()

    def __add__(self, other: Counts) -> Counts:
        if not isinstance(other, Counts):
            return NotImplemented
        return Counts(
            _sum(self.table, other.table),
            _sum(self.starts, other.starts),
            _sum(self.errors, other.errors),
            _sum(self.pending, other.pending),
            _sum(self.dropped, other.dropped),
            _sum(self.undeclared, other.undeclared),
            self.files + other.files,
            self.problems + other.problems,
        )

    @property
    def runs(self) -> int:
        """Number of runs: of events without a parent."""
        return sum(self.starts.values())

    @cached_property
    def events(self) -> dict[str, int]:
        """Number of events at each node, by name in alphabetical order."""
        return _by_node((node, n) for (node, _), n in self.table.items())

    @cached_property
    def stops(self) -> dict[str, int]:
        """Number of events at each node that sent nothing; nodes with none are left out."""
        return _by_node((node, n) for (node, sent), n in self.table.items() if not sent)

    @cached_property
    def messages(self) -> dict[tuple[str, str], int]:
        """(source, target) -> number of messages sent, sorted."""
        totals: Counter[tuple[str, str]] = Counter()
        for (node, sent), n in self.table.items():
            for target, times in parse_pattern(sent):
                totals[node, target] += n * times
        return dict(sorted(totals.items()))

    @property
    def nodes(self) -> tuple[str, ...]:
        """Every node that handled or was sent a message, sorted."""
        sent_to = {target for _, target in self.messages}
        return tuple(sorted(sent_to.union(self.events, self.pending, self.starts)))

    @cached_property
    def fanning(self) -> frozenset[str]:
        """The nodes of which some event sent more than one message."""
        return frozenset(node for node, sent in self.table if sum(times for _, times in parse_pattern(sent)) > 1)

    @property
    def fans_out(self) -> bool:
        """Whether some event sent more than one message."""
        return bool(self.fanning)

    def frame(self) -> pd.DataFrame:
        """Return the table: columns node, sent, events; sorted by node and pattern."""
        import pandas as pd

        rows = [(node, sent, n) for (node, sent), n in sorted(self.table.items())]
        return pd.DataFrame(rows, columns=["node", "sent", "events"])

    def pairs(self) -> pd.DataFrame:
        """Return columns source, target, messages, events, share for every pair that was seen.

        `messages` is how many were sent along the pair, `events` how many of the source's events sent
        any, and `share` the chance that one lineage, picked at random among an event's messages, goes
        there: `sum over patterns s of p(s) m(s) / |s|`, in [0, 1].
        """
        import pandas as pd

        senders: Counter[tuple[str, str]] = Counter()
        shares: dict[tuple[str, str], float] = defaultdict(float)
        for (node, sent), n in self.table.items():
            targets = parse_pattern(sent)
            size = sum(times for _, times in targets)
            for target, times in targets:
                senders[node, target] += n
                shares[node, target] += n * times / size
        rows = [(s, t, m, senders[s, t], shares[s, t] / self.events[s]) for (s, t), m in self.messages.items()]
        return pd.DataFrame(rows, columns=["source", "target", "messages", "events", "share"])


def count(traces: Traces, graph: Graph | None = None) -> Counts:
    """Count what the traces say.

    Every row that is an event counts once, by its node and its send pattern. Rows `pending` and
    `dropped` are messages that nothing handled: they are no events, and are counted apart. The same span
    twice in one file is one event; a cycle of parents is an error.

    Parameters
    ----------
    traces
        From `read_traces`.
    graph
        If given, messages along no arrow of it are counted as undeclared too.

    Raises
    ------
    TraceError
        If a file can't be read, or says something impossible.
    """
    counts = Counts()
    for file in traces.files:
        counts = counts + _count_file(file)
    if graph is not None:
        declared = {(arrow.source, arrow.target) for arrow in graph.arrows}
        undeclared = {pair: n for pair, n in counts.messages.items() if pair not in declared}
        counts = replace(counts, undeclared=undeclared)
    return counts


def _count_file(file: TraceFile) -> Counts:
    left_out: list[Problem] = []
    batches = list(file.batches(lambda problem: left_out.append(Problem("lines cut off, left out", 1, problem))))
    if not batches:
        return Counts(files=(file.origin,), problems=tuple(left_out))
    table = pa.Table.from_batches(batches).unify_dictionaries()
    keep, problems = check_structure(table, file.origin)
    problems = left_out + problems
    if not keep.all():
        table = table.filter(pa.array(keep))
    status = table["status"].cast(pa.string())
    handled = table.filter(pc.is_in(status, pa.array(["ok", "error"])))
    rootless = pc.is_null(handled["parent_id"])
    patterns = dict(sorted(_tally(handled, "name", "sent").items()))
    for node, sent in patterns:
        try:
            parse_pattern(sent)
        except TraceError as error:
            raise TraceError(f"{file.origin}: an event at {shown(node)!r}: {error}") from None
    return Counts(
        table=patterns,
        starts=_by_node((name, n) for (name,), n in _tally(handled.filter(rootless), "name").items()),
        errors=_of_status(table, status, "error", "name"),
        pending=_of_status(table, status, "pending", "name"),
        dropped=_of_status(table, status, "dropped", "parent"),
        files=(file.origin,),
        problems=tuple(problems),
    )


def _of_status(table: pa.Table, status: pa.ChunkedArray, wanted: str, column: str) -> dict[str, int]:
    rows = table.filter(pc.equal(status, wanted))
    return _by_node((name, n) for (name,), n in _tally(rows, column).items() if name is not None)


def _tally(table: pa.Table, *columns: str) -> dict[Any, int]:
    """Count the distinct values of some dictionary columns in one scan over their codes."""
    if not len(table):
        return {}
    codes = np.zeros(len(table), np.int64)
    words: list[list[str | None]] = []
    for column in columns:
        values = table[column].combine_chunks()
        values = values if isinstance(values, pa.DictionaryArray) else values.dictionary_encode()
        dictionary = values.dictionary.to_pylist()
        local = np.asarray(pc.fill_null(values.indices, len(dictionary)))
        codes = codes * (len(dictionary) + 1) + local
        words.append([*dictionary, None])
    seen, numbers = np.unique(codes, return_counts=True)
    result: Counter[Any] = Counter()
    for code, n in zip(seen.tolist(), numbers.tolist(), strict=True):
        key: list[str | None] = []
        for dictionary in reversed(words):
            code, index = divmod(code, len(dictionary))
            key.append(dictionary[index])
        result[tuple(reversed(key))] += n
    return result


def _sum(a: Mapping[K, int], b: Mapping[K, int]) -> dict[K, int]:
    return dict(sorted((Counter(a) + Counter(b)).items()))


def _by_node(pairs: Iterable[tuple[str, int]]) -> dict[str, int]:
    totals: Counter[str] = Counter()
    for node, n in pairs:
        totals[node] += n
    return dict(sorted(totals.items()))
