"""Counts: how often each node's handling sent what. Exact, additive, and all the estimates need."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, TypeVar

from flowstat.estimate.latency import Latency
from flowstat.read.graph import Graph
from flowstat.read.notices import Notices, Problem
from flowstat.read.patterns import parse_pattern

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Counts"]

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
    links
        (source, target) -> span links, fan-in that makes nobody a parent: an event of `target` was linked from
        one of `source`.
    latencies
        (source, target) -> `Latency` from the start of the event that sent a message to the start of the one that
        handles it; empty unless it was asked for.
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
    links: Mapping[tuple[str, str], int] = field(default_factory=dict)
    latencies: Mapping[tuple[str, str], Latency] = field(default_factory=dict)
    files: tuple[str, ...] = ()
    problems: tuple[Problem, ...] = ()

    def __add__(self, other: Counts) -> Counts:
        if not isinstance(other, Counts):
            return NotImplemented
        notices = Notices()
        notices.extend(self.problems + other.problems)
        return Counts(
            _sum(self.table, other.table),
            _sum(self.starts, other.starts),
            _sum(self.errors, other.errors),
            _sum(self.pending, other.pending),
            _sum(self.dropped, other.dropped),
            _sum(self.undeclared, other.undeclared),
            _sum(self.links, other.links),
            _joined(self.latencies, other.latencies),
            self.files + other.files,
            notices.problems,
        )

    def against(self, graph: Graph) -> Counts:
        """Return the same counts with the messages that go along no arrow of `graph` as undeclared."""
        declared = {(arrow.source, arrow.target) for arrow in graph.arrows}
        return replace(self, undeclared={pair: n for pair, n in self.messages.items() if pair not in declared})

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


def _sum(a: Mapping[K, int], b: Mapping[K, int]) -> dict[K, int]:
    return dict(sorted((Counter(a) + Counter(b)).items()))


def _joined(
    a: Mapping[tuple[str, str], Latency], b: Mapping[tuple[str, str], Latency]
) -> dict[tuple[str, str], Latency]:
    both = {pair: a[pair] + b[pair] if pair in a and pair in b else (a.get(pair) or b[pair]) for pair in {*a, *b}}
    return dict(sorted(both.items()))


def _by_node(pairs: Iterable[tuple[str, int]]) -> dict[str, int]:
    totals: Counter[str] = Counter()
    for node, n in pairs:
        totals[node] += n
    return dict(sorted(totals.items()))
