"""What a drawing shows: nodes, arrows and components, from a graph or a chain, and the most important of many."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

from flowstat.read.dot import percent
from flowstat.read.graph import Graph
from flowstat.read.topics import ANY_KEY

if TYPE_CHECKING:
    from flowstat.estimate.chain import Chain

__all__ = ["DrawnArrow", "DrawnComponent", "DrawnNode", "Picture", "of_chain", "of_graph"]

MOST_NODES = 200
MOST_ARROWS = 300

STEPS = 200
"""How many events of a run count as traffic; enough to rank what a picture keeps."""


class DrawnNode(NamedTuple):
    """A node, the share of runs that start at it, of its events that stop, and its weight among nodes."""

    name: str
    start: float
    stop: float
    weight: float


class DrawnArrow(NamedTuple):
    """All arrows from one node to another, by the nodes' positions.

    `keys` are what to write; with `apart`, each has its own share in it already.
    """

    source: int
    target: int
    keys: tuple[str, ...]
    share: float | None
    weight: float
    apart: bool = False
    undeclared: bool = False

    @property
    def pair(self) -> tuple[int, int]:
        """The positions of both ends."""
        return self.source, self.target


class DrawnComponent(NamedTuple):
    """A component: its command line, the position of its node, and its routes' targets and keys."""

    command: str
    owner: int | None
    routes: tuple[tuple[int, str], ...]


@dataclass(frozen=True)
class Picture:
    """What to draw; `kept` are the positions of the nodes that are shown.

    `loops` gives each arrow on a loop the number of its loop, `by` says what weights are, `left_out` how
    many nodes and arrows are not shown.
    """

    nodes: tuple[DrawnNode, ...]
    arrows: tuple[DrawnArrow, ...]
    components: tuple[DrawnComponent, ...]
    loops: Mapping[tuple[int, int], int]
    by: str
    kept: tuple[int, ...]
    left_out: tuple[int, int] = (0, 0)

    def reduced(self, nodes: frozenset[int], pairs: frozenset[tuple[int, int]]) -> Picture:
        """Return the picture with no more nodes and arrows than can be read; those given are kept."""
        order = sorted(self.kept, key=lambda k: (k not in nodes, -self.nodes[k].weight, k))
        kept = frozenset(order[: max(MOST_NODES, len(nodes))])
        inside = [a for a in self.arrows if a.source in kept and a.target in kept]
        first = sorted(inside, key=lambda a: (a.pair not in pairs, -a.weight, a.pair))
        chosen = {a.pair for a in first[: max(MOST_ARROWS, len(pairs))]}
        arrows = tuple(a for a in inside if a.pair in chosen)
        left_out = (len(self.nodes) - len(kept), len(self.arrows) - len(arrows))
        return replace(self, arrows=arrows, kept=tuple(k for k in self.kept if k in kept), left_out=left_out)


def of_graph(graph: Graph) -> Picture:
    """Return what to draw of a graph: keys, and shares where the designer gave them."""
    index = {name: k for k, name in enumerate(graph.nodes)}
    texts: dict[tuple[int, int], list[str]] = {}
    shares: dict[tuple[int, int], list[float | None]] = {}
    degree = [0] * len(graph.nodes)
    for source, key, target, share in graph.arrows:
        pair = index[source], index[target]
        parts = [key or '""'] if key != ANY_KEY else []
        parts += [percent(share)] if share is not None else []
        texts.setdefault(pair, []).extend(["  ".join(parts)] if parts else [])
        shares.setdefault(pair, []).append(share)
        for end in pair:
            degree[end] += 1
    arrows = [
        DrawnArrow(*pair, tuple(texts[pair]), _total(given), degree[pair[0]] + degree[pair[1]], apart=True)
        for pair, given in shares.items()
    ]
    starts = set(graph.starts) if len(graph.starts) < len(graph.nodes) else set()
    nodes = [
        DrawnNode(name, float(name in starts), _unspent([a.share for a in graph.outgoing[name]]), degree[k])
        for k, name in enumerate(graph.nodes)
    ]
    return _picture(nodes, arrows, graph, index, "arrows")


def of_chain(chain: Chain) -> Picture:
    """Return what to draw of a chain: its shares, with the keys and components of its graph."""
    import numpy as np

    traffic = np.zeros(len(chain.names))
    law = np.asarray(chain.start, dtype=float)
    for _ in range(STEPS):
        traffic += law
        law = chain.P.T @ law
    sources, targets, values = chain.arrows()
    shares = {(int(i), int(j)): float(p) for i, j, p in zip(sources, targets, values, strict=True) if p > 0}
    index = dict(chain.index)
    keys: dict[tuple[int, int], list[str]] = {}
    for arrow in chain.graph.arrows if chain.graph else ():
        pair = index[arrow.source], index[arrow.target]
        keys.setdefault(pair, []).extend([arrow.key or '""'] if arrow.key != ANY_KEY else [])
    arrows = [
        DrawnArrow(
            *pair,
            tuple(keys.get(pair, ())),
            shares.get(pair, 0.0),
            float(traffic[pair[0]]) * shares.get(pair, 0.0),
            undeclared=chain.graph is not None and pair not in keys,
        )
        for pair in sorted({*shares, *keys})
    ]
    nodes = [
        DrawnNode(name, float(chain.start[k]), float(chain.stop[k]), float(traffic[k]))
        for k, name in enumerate(chain.names)
    ]
    return _picture(nodes, arrows, chain.graph, index, "traffic")


def _picture(
    nodes: Sequence[DrawnNode],
    arrows: Sequence[DrawnArrow],
    graph: Graph | None,
    index: Mapping[str, int],
    by: str,
) -> Picture:
    components = [
        DrawnComponent(
            shlex.join(c.command),
            None if c.node is None else index[c.node],
            tuple((index[r.target], "" if r.key == ANY_KEY else r.key or '""') for r in c.routes),
        )
        for c in (graph.components if graph else ())
    ]
    kept = tuple(range(len(nodes)))
    return Picture(tuple(nodes), tuple(arrows), tuple(components), _loops(arrows), by, kept)


def _loops(arrows: Iterable[DrawnArrow]) -> dict[tuple[int, int], int]:
    """Return the number of its loop for each arrow inside a strongly connected class with a cycle."""
    import networkx as nx

    graph: nx.DiGraph[int] = nx.DiGraph()
    graph.add_edges_from(a.pair for a in arrows if a.share != 0)
    classes = sorted(nx.strongly_connected_components(graph), key=min)
    number = {k: c for c, members in enumerate(classes) for k in members}
    inside = [pair for pair in graph.edges if number[pair[0]] == number[pair[1]]]
    hues = {c: hue for hue, c in enumerate(sorted({number[k] for k, _ in inside}))}
    return {pair: hues[number[pair[0]]] for pair in inside}


def _total(shares: Iterable[float | None]) -> float | None:
    """Return the share of arrows together, if all of it is known."""
    known = list(shares)
    return None if None in known else min(1.0, sum(share for share in known if share is not None))


def _unspent(shares: Sequence[float | None]) -> float:
    """Return the share of a node's events that its arrows leave to stopping."""
    total = _total(shares)
    return 0.0 if total is None else 1 - total
