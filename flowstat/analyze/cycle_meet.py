"""The lightest cycles through roots of a large class: ways on and ways back of half the weight each, joined.

A cycle of weight up to L is written from its first node, the root: it goes on along a path of weight up to L/2, over
one arrow that passes L/2, and comes back along a path that weighs less. Of such halves there are far fewer than of
whole paths: where shares sum to 1, no more than `exp(L/2)` paths of each length begin at a node. Source of the idea:
Pohl, Bi-directional search, Machine Intelligence 6 (1971).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import inf

import numpy as np
import numpy.typing as npt

from flowstat.analyze.cycle_ways import CELLS, ranges

__all__ = ["Arrows", "Met", "meet"]

Vector = npt.NDArray[np.float64]
Index = npt.NDArray[np.int64]
Graph = tuple[Index, Index, Vector]

HELD = 4_000_000
"""How many nodes of paths and arrows on from them are held at once; roots are halved until there are no more."""


@dataclass(frozen=True)
class Arrows:
    """A graph by the sources and by the targets of its arrows: `indptr`, their other ends, their weights."""

    on: Graph
    back: Graph

    @classmethod
    def of(cls, graph: Graph) -> Arrows:
        """Return a graph and the same with all arrows turned round."""
        indptr, targets, weights = graph
        n = len(indptr) - 1
        order = np.argsort(targets, kind="stable")
        begins = np.concatenate([[0], np.cumsum(np.bincount(targets, minlength=n))])
        return cls(graph, (begins, np.repeat(np.arange(n), np.diff(indptr))[order], weights[order]))


@dataclass(frozen=True)
class Met:
    """Cycles from some roots: weights and nodes of each length.

    `beyond` is the least weight of what was left out as too heavy (`inf`: nothing was), `looked` how many arrows and
    pairs of halves were looked at.
    """

    cycles: list[tuple[Vector, Index]]
    beyond: float
    looked: int


def meet(arrows: Arrows, roots: Index, level: float, longest: int, work: int) -> Met | int:
    """Return all cycles of two nodes or more, of up to a weight, from roots over nodes after them.

    Parameters
    ----------
    arrows
        The graph.
    roots
        The first nodes of cycles.
    level
        The largest weight.
    longest
        The longest cycle, in nodes.
    work
        How many arrows and pairs of halves may be looked at.

    Returns
    -------
    Met, or how many were looked at where that was too much: more than the work, or than can be held at once.
    """
    half = level / 2
    on, back = _Paths(roots, work), _Paths(roots, work)
    beyond = inf
    home: list[tuple[Vector, Index]] = []
    across: list[tuple[Index, Index, Index, Vector]] = []

    def forward(paths: Index, first: int, which: Index, to: Index, cost: Vector) -> None:
        nonlocal beyond
        root = paths[which, 0]
        fits = cost <= level
        beyond = min(beyond, float(cost[~fits & (to >= root)].min(initial=inf)))
        ends = np.flatnonzero(fits & (to == root))
        if len(ends):
            home.append((cost[ends], paths[which[ends]]))
        over = np.flatnonzero(fits & (to > root) & (cost > half)) if paths.shape[1] < longest else ends[:0]
        if len(over):
            across.append((first + which[over], root[over], to[over], cost[over]))

    def backward(paths: Index, first: int, which: Index, to: Index, cost: Vector) -> None:
        nonlocal beyond
        heavy = (cost > level - half) & (to > paths[which, 0])
        beyond = min(beyond, half + float(cost[heavy].min(initial=inf)))

    if not on.grow(arrows.on, half, longest, forward):
        return on.looked
    if across and not back.grow(arrows.back, level - half, longest, backward):
        return on.looked + back.looked
    looked = on.looked + back.looked
    if not across:
        return Met(home, beyond, looked)
    ids, root, to, cost = (np.concatenate(each) for each in zip(*across, strict=True))
    key, ends, weights = back.by_end()
    first, last = np.searchsorted(key, root * back.n + to), np.searchsorted(key, root * back.n + to, side="right")
    light = _up_to(weights, first, last, level - cost)
    heavy = light < last
    if heavy.any():
        beyond = min(beyond, float((cost[heavy] + weights[light[heavy]]).min()))
    pairs = int((light - first).sum())
    looked += pairs
    if looked > work:
        return looked
    joined = _joined(on, back, ids, cost, ends, weights, first, light, longest)
    return Met(home + joined, beyond, looked)


Seen = Callable[[Index, int, Index, Index, Vector], None]


class _Paths:
    """Paths from roots, over nodes after these: each is its root, its last node, the path before, its weight."""

    def __init__(self, roots: Index, work: int) -> None:
        self.root, self.node, self.before = [roots], [roots], [np.full(len(roots), -1)]
        self.cost, self.length = [np.zeros(len(roots))], [np.ones(len(roots), np.int64)]
        self.work, self.looked = work, 0

    def grow(self, graph: Graph, half: float, longest: int, seen: Seen) -> bool:
        """Grow paths up to a weight, and show what else they lead to; return whether that was not too much."""
        indptr, ends, weights = graph
        self.n = len(indptr) - 1
        paths, sums = self.root[0][:, None], self.cost[0]
        first = held = 0
        for length in range(1, longest + 1):
            begin, end = indptr[paths[:, -1]], indptr[paths[:, -1] + 1]
            at, which = ranges(begin, end), np.repeat(np.arange(len(paths)), end - begin)
            # Long paths take longer to look at.
            self.looked += len(at) * (1 + length // 8)
            held += len(at) * (length + 3)
            if self.looked > self.work or held > (HELD if len(self.root[0]) > 1 else 8 * HELD):
                return False
            to, cost = ends[at], sums[which] + weights[at]
            seen(paths, first, which, to, cost)
            kept = np.flatnonzero((to > paths[which, 0]) & (cost <= half)) if length < longest else at[:0]
            kept = kept[(paths[which[kept]] != to[kept][:, None]).all(axis=1)]
            if not len(kept):
                break
            self.root.append(paths[which[kept], 0])
            self.node.append(to[kept])
            self.before.append(first + which[kept])
            self.cost.append(cost[kept])
            self.length.append(np.full(len(kept), length + 1))
            first += len(paths)
            paths, sums = np.concatenate([paths[which[kept]], to[kept][:, None]], axis=1), cost[kept]
        return True

    def by_end(self) -> tuple[Index, Index, Vector]:
        """Return the paths in order of root and last node, and of weight: this as a number, which, and weights."""
        key = np.concatenate(self.root) * self.n + np.concatenate(self.node)
        cost = np.concatenate(self.cost)
        order = np.lexsort([cost, key])
        return key[order], order, cost[order]


def _up_to(weights: Vector, first: Index, last: Index, most: Vector) -> Index:
    """Return where in each range of rising weights those of up to a number end."""
    low, high = first.copy(), last.copy()
    while (open_ := np.flatnonzero(low < high)).size:
        middle = (low[open_] + high[open_]) // 2
        fits = weights[middle] <= most[open_]
        low[open_] = np.where(fits, middle + 1, low[open_])
        high[open_] = np.where(fits, high[open_], middle)
    return low


def _joined(
    on: _Paths,
    back: _Paths,
    ids: Index,
    cost: Vector,
    ends: Index,
    weights: Vector,
    first: Index,
    last: Index,
    longest: int,
) -> list[tuple[Vector, Index]]:
    """Return the cycles that paths on and back make which meet and have but the root in common."""
    forth = [np.concatenate(each) for each in (on.node, on.before, on.length)]
    home = [np.concatenate(each) for each in (back.node, back.before, back.length)]
    found = []
    width = len(on.node) + len(back.node)
    counts = last - first
    step = max(1, CELLS // width)
    bounds = np.searchsorted(np.cumsum(counts), np.arange(step, int(counts.sum()) + step, step))
    begin = 0
    for end in (bounds + 1).tolist():
        span = slice(begin, end)
        begin = end
        which = np.repeat(np.arange(len(counts))[span], counts[span])
        there = ranges(first[span], last[span])
        sums, path, way = cost[which] + weights[there], ids[which], ends[there]
        # A path back ends at the root, which the path on has at its beginning.
        lengths = forth[2][path] + home[2][way] - 1
        fits = lengths <= longest
        for length in np.unique(lengths[fits]).tolist():
            for one in np.unique(forth[2][path[lengths == length]]).tolist():
                mine = np.flatnonzero((lengths == length) & (forth[2][path] == one))
                made = np.empty((len(mine), length), np.int64)
                at = path[mine]
                for k in range(one - 1, -1, -1):
                    made[:, k], at = forth[0][at], forth[1][at]
                at = way[mine]
                for k in range(one, length):
                    made[:, k], at = home[0][at], home[1][at]
                apart = np.ones(len(mine), bool)
                for k in range(one, length):
                    apart &= (made[:, :one] != made[:, k, None]).all(axis=1)
                if apart.any():
                    found.append((sums[mine[apart]], made[apart]))
    return found
