"""Nodes split by the node before: counts and a graph whose states are nodes after others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

from flowstat.estimate.chain import Chain
from flowstat.estimate.counts import Counts
from flowstat.estimate.histories import Histories
from flowstat.read.graph import Arrow, Graph
from flowstat.read.patterns import parse_pattern, pattern_of
from flowstat.read.topics import ANY_KEY

__all__ = ["Splitting", "Way"]

Way = tuple[str | None, str]
"""A node and the one before; None where nothing that was recorded sent it."""


@dataclass(frozen=True, eq=False)
class Splitting:
    """How a chain of order 1 is split at some nodes.

    Attributes
    ----------
    histories
        What was before each event.
    one
        The chain of order 1.
    nodes
        Which nodes are split.
    name
        What a node after another is called; of all that are split, the names differ.
    orphans
        Whether events whose sender was not recorded count as those that nothing sent. Else they are left out where
        nodes are split, and count in the chain of order 1 only.
    """

    histories: Histories
    one: Chain
    nodes: frozenset[str]
    name: Callable[[str | None, str], str]
    orphans: bool = False

    def state(self, before: str | None, node: str) -> str:
        """Return the state of an event at a node after another."""
        return self.name(before, node) if node in self.nodes else node

    def kinds(self) -> Iterator[tuple[str | None, str, str, bool, int]]:
        """Yield the node before, the node, the send pattern, whether a run starts, and how many events."""
        for event, n in zip(self.histories.events, self.histories.folds.sum(axis=1).tolist(), strict=True):
            if self.orphans or event.root or event.before is not None or event.node not in self.nodes:
                yield event.before, event.node, event.sent, event.root, n

    @cached_property
    def counts(self) -> Counts:
        """The counts of the states, with the names of the traces and what was wrong with them."""
        table: Counter[tuple[str, str]] = Counter()
        starts: Counter[str] = Counter()
        for before, node, sent, root, n in self.kinds():
            targets = {self.state(node, target): times for target, times in parse_pattern(sent)}
            table[self.state(before, node), pattern_of(targets)] += n
            if root:
                starts[self.state(None, node)] += n
        return self.histories.rest + Counts(dict(sorted(table.items())), dict(sorted(starts.items())))

    @cached_property
    def ways(self) -> dict[str, tuple[Way, ...]]:
        """Node -> the nodes before it that the chain of order 1 or the traces have: one state each, where it is split.

        Nodes that are not split have one way, with None.
        """
        names = self.one.names
        found: dict[str, dict[Way, None]] = {name: {} for name in names}
        for name, p in zip(names, self.one.start.tolist(), strict=True):
            if p > 0 or name not in self.nodes:
                found[name][None, name] = None
        rows, columns, _ = self.one.arrows()
        for i, j in zip(rows.tolist(), columns.tolist(), strict=True):
            if names[j] in self.nodes:
                found[names[j]][names[i], names[j]] = None
        seen = {(before, node) for before, node, _, _, _ in self.kinds()}
        seen.update((node, target) for _, node, sent, _, _ in self.kinds() for target, _ in parse_pattern(sent))
        for before, node in sorted(seen, key=lambda way: (way[0] or "", way[1])):
            if node in self.nodes:
                found[node][before, node] = None
        return {name: tuple(ways) for name, ways in found.items()}

    def graph(self, declared: Graph | None = None) -> Graph:
        """Return the states, with the shares of the chain of order 1 as those of each state of a node that is split.

        A node that is not split has the arrows that are declared, with their shares; one that is not declared has those
        of the chain of order 1, as if they were declared so. Keys are kept.
        """
        names = self.one.names
        rows, columns, values = self.one.arrows()
        onward: dict[str, list[tuple[str, float]]] = {name: [] for name in names}
        for i, j, p in zip(rows.tolist(), columns.tolist(), values.tolist(), strict=True):
            onward[names[i]].append((names[j], min(p, 1.0)))
        known = set(declared.nodes) if declared is not None else set()
        arrows = []
        for node, ways in self.ways.items():
            if declared is not None and node in known and node not in self.nodes:
                out: Iterable[Arrow] = declared.outgoing[node]
            else:
                out = [
                    Arrow(node, key, target, share / len(keys))
                    for target, share in onward[node]
                    for keys in [self.one.keys(node, target) or (ANY_KEY,)]
                    for key in keys
                ]
            for way in ways:
                source = self.state(*way)
                arrows += [Arrow(source, a.key, self.state(node, a.target), a.share) for a in out]
        return Graph.of(arrows, [self.state(*way) for ways in self.ways.values() for way in ways])
