"""Reactive flow between two sets of nodes, and the paths that carry most of it (transition path theory)."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

import numpy as np
from scipy import sparse
from scipy.sparse import csgraph

from flowstat.analyze.elimination import UNIT
from flowstat.analyze.passages import Ensemble, Nodes, passages
from flowstat.analyze.solve import Index, Solved, Vector
from flowstat.errors import AnalysisError
from flowstat.estimate.chain import Chain, Start
from flowstat.results import LINEAGES, Result, Row, number

__all__ = ["FlowArrow", "ReactiveFlow", "ReactivePath", "reactive_flow"]


@dataclass(frozen=True)
class FlowArrow:
    """An arrow on passages: `gross` passages along it, and `net` of those against it.

    Per run, or per step in the stationary ensemble; `share` is net by flux.
    """

    source: str
    target: str
    gross: float
    net: float
    share: float
    gross_bound: float = 0.0
    net_bound: float = 0.0


@dataclass(frozen=True)
class ReactivePath:
    """A path from A to B, the net flow that it carries, what share of the flux that is, and its narrowest arrow."""

    nodes: tuple[str, ...]
    flow: float
    share: float
    bottleneck: tuple[str, str]

    @property
    def name(self) -> str:
        """The path as one reads it."""
        return " -> ".join(self.nodes)


@dataclass(frozen=True)
class ReactiveFlow(Result):
    """The dominant paths of the net flow from A to B, widest first, and the arrows that it goes along.

    `flux` is the number of passages per run, or per step in the stationary ensemble; `covered` the share of it on
    the listed paths; `more` whether others carry any that can be told from nothing.
    """

    title: ClassVar[str] = "Reactive flow: the paths that most passages take"
    columns: ClassVar[tuple[str, ...]] = ("path", "length", "flow", "share", "bottleneck")
    a: tuple[str, ...]
    b: tuple[str, ...]
    ensemble: Ensemble
    flux: float
    flux_bound: float
    paths: tuple[ReactivePath, ...]
    arrows: tuple[FlowArrow, ...]
    covered: float
    more: bool
    fans_out: bool = False

    @property
    def error_bound(self) -> float:
        """How far any arrow's flow may be off, proven; a path's is one arrow's, less those of the paths before it."""
        return max((max(f.gross_bound, f.net_bound) for f in self.arrows), default=self.flux_bound)

    def rows(self) -> list[Row]:
        """Return one row a path."""
        return [
            {
                "path": p.name,
                "length": len(p.nodes) - 1,
                "flow": p.flow,
                "share": p.share,
                "bottleneck": " -> ".join(p.bottleneck),
            }
            for p in self.paths
        ]

    def notes(self) -> tuple[str, ...]:
        """Say how much of the flow is listed."""
        per = "a run" if self.ensemble == "runs" else "a step in the long run"
        if not self.paths:
            return ("Nothing passes.",)
        notes = [f"{number(self.flux)} passages {per}; the listed paths carry {number(100 * self.covered)}% of them."]
        if self.more:
            notes.append("There are more paths, none wider: raise top to see them.")
        return (*notes, LINEAGES) if self.fans_out else tuple(notes)


def reactive_flow(chain: Chain, a: Nodes, b: Nodes, top: int = 10, start: Start = None) -> ReactiveFlow:
    """Find the flow between two sets of nodes, and the paths that carry most of it.

    Parameters
    ----------
    chain
        A chain.
    a, b
        A node, or several: from where, and to where. No node is in both.
    top
        How many paths at most; at least 1.
    start
        A node or a law over nodes; the chain's start law if not given.

    Returns
    -------
    ReactiveFlow
        Paths with their net flow and share of the flux, and the flow along each arrow that has any.

    Raises
    ------
    ChainError, AnalysisError
        As `committor`; AnalysisError if `top` is less than 1.

    Notes
    -----
    The net flow along an arrow is what goes along it on passages less what goes against it. The path whose narrowest
    arrow is widest (of such, one with the fewest arrows, by name) is taken out with the flow of that arrow, and so on:
    it is the dominant path, and each takes what the ones before have left (Metzner, Schütte, Vanden-Eijnden, Multiscale
    Modeling and Simulation 7 (2009), section 2.6). Of two arrows against each other a net flow that is less than its
    bound is taken for none. Each path costs some 20 searches of the graph.

    Examples
    --------
    >>> P = [[0, .6, .4, 0], [0, 0, 0, 1], [0, .5, 0, .5], [0, 0, 0, 0]]
    >>> chain = Chain.from_matrix(P, ["in", "x", "y", "out"], stop=[0, 0, 0, 1])
    >>> [(p.name, round(p.share, 12)) for p in reactive_flow(chain, "in", "out").paths]
    [('in -> x -> out', 0.6), ('in -> y -> out', 0.2), ('in -> y -> x -> out', 0.2)]
    """
    if top < 1:
        raise AnalysisError("ask for at least one path")
    found = passages(chain, a, b, start)
    rows, columns, _ = chain.arrows()
    gross, flux = found.gross, found.flux
    net = _net(rows, columns, gross, len(chain.names))
    total = float(flux.values)
    names = chain.names
    # By name, so that which of equal paths comes first does not depend on the chain's order.
    by_name = np.array(sorted(range(len(names)), key=names.__getitem__), np.int64)
    place = np.argsort(by_name)
    ends = place[found.a], place[found.b]
    ranked, more = _widest(len(names), place[rows], place[columns], net, ends, top)
    paths = [([int(by_name[i]) for i in path], flow, narrow) for path, flow, narrow in ranked]
    listed = tuple(
        ReactivePath(tuple(names[i] for i in path), flow, flow / total, (names[path[narrow]], names[path[narrow + 1]]))
        for path, flow, narrow in paths
    )
    flowing = np.flatnonzero(gross.values > 0)
    flowing = flowing[np.argsort(-net.values[flowing], kind="stable")]
    arrows = tuple(
        FlowArrow(names[i], names[j], *values)
        for i, j, *values in zip(
            rows[flowing].tolist(),
            columns[flowing].tolist(),
            gross.values[flowing].tolist(),
            net.values[flowing].tolist(),
            (net.values[flowing] / total if total else np.zeros(len(flowing))).tolist(),
            gross.bound[flowing].tolist(),
            net.bound[flowing].tolist(),
            strict=True,
        )
    )
    return ReactiveFlow(
        tuple(names[i] for i in found.a),
        tuple(names[i] for i in found.b),
        found.ensemble,
        total,
        float(flux.bound),
        listed,
        arrows,
        min(1.0, sum(p.share for p in listed)),
        more,
        chain.fans_out,
    )


def _net(rows: Index, columns: Index, gross: Solved, n: int) -> Solved:
    """Return the net flow along each arrow; 0 where it is against it."""
    forth, back = rows * n + columns, columns * n + rows
    at = np.minimum(np.searchsorted(forth, back), len(forth) - 1)
    both = forth[at] == back if len(forth) else np.zeros(0, bool)
    against = np.where(both, gross.values[at], 0.0)
    doubt = gross.bound + np.where(both, gross.bound[at], 0.0)
    net = gross.values - against
    return Solved(np.maximum(net, 0.0), np.where(against > 0, 1.01 * (doubt + UNIT * np.abs(net)), gross.bound))


def _widest(
    n: int, rows: Index, columns: Index, net: Solved, ends: tuple[Index, Index], top: int
) -> tuple[list[tuple[list[int], float, int]], bool]:
    """Return the widest paths: positions, flow, and which arrow is the narrowest; and whether there are more."""
    left = np.where(net.values > net.bound, net.values, 0.0)
    least = np.maximum(net.bound, 4 * UNIT * net.values)
    paths: list[tuple[list[int], float, int]] = []
    while True:
        path = _path(n, rows, columns, left, ends)
        if path is None or len(paths) == top:
            return paths, path is not None
        along = np.array(path)
        flows = left[along]
        narrow = int(np.argmin(flows))
        flow = float(flows[narrow])
        paths.append(([int(rows[path[0]]), *columns[along].tolist()], flow, narrow))
        left[along] -= flow
        # What is left within the rounding of what was there is nothing.
        left[along[left[along] <= (len(paths) + 1) * least[along]]] = 0.0


def _path(n: int, rows: Index, columns: Index, left: Vector, ends: tuple[Index, Index]) -> list[int] | None:
    """Return the arrows of a path whose narrowest is widest, with the fewest arrows; None if there is none."""
    flowing = np.flatnonzero(left > 0)
    widths = np.unique(left[flowing])
    low, high = 0, len(widths)
    best: list[int] | None = None
    while low < high:
        middle = (low + high) // 2
        found = _search(n, rows, columns, flowing[left[flowing] >= widths[middle]], ends)
        if found is None:
            high = middle
        else:
            best, low = found, middle + 1
    return best


def _search(n: int, rows: Index, columns: Index, arrows: Index, ends: tuple[Index, Index]) -> list[int] | None:
    """Return the arrows of a shortest path among some arrows from one set to the other, breadth first."""
    begin, end = n, n + 1
    sources = np.concatenate([rows[arrows], np.full(len(ends[0]), begin), ends[1]])
    targets = np.concatenate([columns[arrows], ends[0], np.full(len(ends[1]), end)])
    graph = sparse.csr_array((np.ones(len(sources)), (sources, targets)), shape=(n + 2, n + 2))
    graph.sort_indices()
    before = csgraph.breadth_first_order(graph, begin)[1]
    if before[end] < 0:
        return None
    at, nodes = int(before[end]), []
    while at != begin:
        nodes.append(at)
        at = int(before[at])
    nodes.reverse()
    near = np.isin(rows[arrows], nodes)
    places = {(int(rows[k]), int(columns[k])): int(k) for k in arrows[near].tolist()}
    return [places[pair] for pair in pairwise(nodes)]
