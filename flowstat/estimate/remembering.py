"""Chains that remember the node before, where that matters and nowhere else."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

from flowstat.errors import ChainError
from flowstat.estimate.assess import memory_of
from flowstat.estimate.chain import END, Chain, estimate
from flowstat.estimate.counting import count
from flowstat.estimate.counts import Counts
from flowstat.estimate.histories import Histories, read_histories
from flowstat.estimate.latency import Latency
from flowstat.estimate.splitting import Splitting, Way
from flowstat.read.graph import Graph
from flowstat.read.traces import Traces
from flowstat.read.words import shown
from flowstat.results import counted

__all__ = ["Remembering", "remembering", "split_at"]

NAMED = 4


@dataclass(frozen=True, eq=False)
class Remembering(Chain):
    """A chain some of whose nodes are split by the node before: a state is then `pay (after order)`.

    Attributes
    ----------
    ways
        State -> the node that it stands for, and the one before it: None where the state is the whole node, or where
        nothing sent the event.
    split
        The nodes that are split.
    one
        The chain of order 1.
    """

    ways: Mapping[str, Way] = field(default_factory=dict, repr=False)
    split: tuple[str, ...] = ()
    one: Chain | None = field(default=None, repr=False)

    def node(self, state: str) -> str:
        """Return the node that a state stands for."""
        return self.ways[state][1] if state in self.ways else state

    @cached_property
    def states(self) -> dict[str, tuple[str, ...]]:
        """Node -> its states."""
        found: dict[str, tuple[str, ...]] = {}
        for state in self.names:
            found[self.node(state)] = (*found.get(self.node(state), ()), state)
        return found

    def begin(self, node: str) -> str:
        """Return the state of a run that begins at a node.

        Raises
        ------
        ChainError
            If the node is split, and no run begins there.
        """
        for state in self.states.get(node, ()):
            if self.ways[state][0] is None:
                return state
        if node in self.split:
            states = ", ".join(map(shown, self.states[node][:8]))
            raise ChainError(f"no run begins at {shown(node)}, which is split by the step before: start at {states}")
        return node

    def walk(self, nodes: Sequence[str]) -> tuple[str, ...]:
        """Return the states of a sequence of nodes that a run comes to."""
        before = (None, *nodes[:-1])
        return tuple(self._named.get(way, way[1]) for way in zip(before, nodes, strict=True))

    @cached_property
    def _named(self) -> dict[Way, str]:
        """The state of a node after another, where it is split."""
        return {way: name for name, way in self.ways.items() if name != way[1]}

    def keys(self, source: str, target: str) -> tuple[str, ...]:
        """Return the topic keys of the graph's arrows between the nodes of two states; empty if undeclared."""
        return () if self.one is None else self.one.keys(self.node(source), self.node(target))

    def sentence(self) -> str:
        """Return which nodes are split, and into what."""
        if not self.split:
            return "No dependence on the step before was found: no node is split."
        parts = []
        for node in self.split[:NAMED]:
            states = self.states[node]
            more = f" and {len(states) - NAMED:,} more" if len(states) > NAMED else ""
            parts.append(f"{shown(node)} is {', '.join(map(shown, states[:NAMED]))}{more}")
        rest = f"; and {counted(len(self.split) - NAMED, 'node')} more" if len(self.split) > NAMED else ""
        return f"History matters: split by the step before, {'; '.join(parts)}{rest}."


def remembering(
    traces: Traces,
    graph: Graph | None = None,
    prior: float = 1.0,
    *,
    nodes: Iterable[str] | None = None,
    rate: float = 0.05,
    seed: int = 0,
    memory: int | None = None,
    counts: Counts | None = None,
) -> Remembering:
    """Estimate a chain that remembers the node before, at the nodes where that matters.

    Parameters
    ----------
    traces
        From `read_traces`, in any format but counts files.
    graph, prior
        As for `estimate`. A state of a node that is split has the chain of order 1 as its prior: one that was seen
        often speaks for itself, one that was seldom seen goes on like its node.
    nodes
        Which nodes to split. If not given, those at which `memory_of` finds that history matters, at `rate`, drawing
        by `seed`.
    memory
        Bytes that joins may hold in memory, as for `count`.
    counts
        What `count` says of the same traces, if that is known: with its latencies, the chain has them too, those of an
        arrow for each of the states of its nodes.

    Returns
    -------
    Remembering
        A chain. Without nodes to split it is that of `estimate`.

    Raises
    ------
    TraceError
        If a file can't be read, holds counts, or says something impossible.
    ChainError
        If there is no node at all, one that is named is not there, or the prior or the rate is none.

    Notes
    -----
    See `second_order`, which does it for all nodes. Events whose sender was not recorded count in the chain of order 1
    only, where their node is split. The traces are read once more than for `count`.

    Examples
    --------
    >>> from flowstat.read.files import parse_graph
    >>> remembering(Traces(()), parse_graph("order -> pay; retry -> pay; pay -> ship"), nodes=["pay"]).names
    ('order', 'pay (after order)', 'pay (after retry)', 'retry', 'ship')
    """
    histories = read_histories(traces, seed=seed, memory=memory)
    chosen = memory_of(histories, rate, seed).nodes if nodes is None else nodes
    base = count(traces, graph, memory=memory) if counts is None else counts
    return split_at(histories, estimate(base, graph, prior), chosen)


def split_at(histories: Histories, one: Chain, nodes: Iterable[str]) -> Remembering:
    """Split a chain of order 1 at some nodes; see `remembering`.

    Raises
    ------
    ChainError
        If a node is not in the chain.
    """
    split = tuple(dict.fromkeys([nodes] if isinstance(nodes, str) else nodes))
    for node in split:
        if node not in one.index:
            few = ", ".join(map(shown, one.names[:8])) + ", ..." * (len(one.names) > 8)
            raise ChainError(f"no node is called {shown(node)!r}: split some of {few}")
    strange = next((event.node for event in histories.events if event.node not in one.index), None)
    if strange is not None:
        raise ChainError(
            f"the traces have a node {shown(strange)!r} that the chain lacks: give the counts of these traces"
        )
    base = one.counts if one.counts is not None else Counts()
    if not split:
        whole = {name: (None, name) for name in one.names}
        return Remembering(one.names, one.P, one.stop, one.start, base, one.graph, one.prior, whole, (), one)
    parts = Splitting(histories, one, frozenset(split), _Naming(one.names))
    ways = {parts.state(*way): way for some in parts.ways.values() for way in some}
    states = {node: tuple(parts.state(*way) for way in some) for node, some in parts.ways.items()}
    counts = replace(
        parts.counts,
        errors=base.errors,
        pending={node: n for node, n in base.pending.items() if node not in parts.nodes},
        dropped=base.dropped,
        undeclared=base.undeclared,
        links=base.links,
        latencies=_spread(base.latencies, parts, states),
        files=base.files,
        problems=base.problems,
    )
    made = estimate(counts, parts.graph(one.graph), one.prior)
    return Remembering(made.names, made.P, made.stop, made.start, counts, made.graph, made.prior, ways, split, one)


class _Naming:
    """What states are called: `pay (after order)`; a name that is there already is numbered."""

    def __init__(self, names: Iterable[str]) -> None:
        self.taken = set(names)
        self.made: dict[Way, str] = {}

    def __call__(self, before: str | None, node: str) -> str:
        way = before, node
        if way not in self.made:
            plain = name = f"{node} (at the start)" if before is None else f"{node} (after {before})"
            k = 1
            while name in self.taken:
                k += 1
                name = f"{plain} {k}"
            self.taken.add(name)
            self.made[way] = name
        return self.made[way]


def _spread(
    latencies: Mapping[tuple[str, str], Latency], parts: Splitting, states: Mapping[str, tuple[str, ...]]
) -> dict[tuple[str, str], Latency]:
    """Return the latencies of arrows between nodes as those of the arrows between their states."""
    found = {}
    for (source, target), latency in latencies.items():
        for state in states.get(source, (source,)):
            found[state, target if target == END else parts.state(source, target)] = latency
    return found
