"""Nodes without which a class has no cycle, and the lightest cycle through each of them, without those before it.

Where all cycles are long, few such nodes are enough: a layer of equal distance from some node parts a class in two, and
so on. What is left without them is gone through in one direction, for all of them at once; the ways among them are
those of Floyd (Communications of the ACM 5 (1962)), the nodes being added from the last to the first, so that the ways
of each one over later ones are there in between. Source of the layers: Even, Naor, Schieber, Sudan, Algorithmica 20
(1998).
"""

from __future__ import annotations

from itertools import pairwise
from math import inf

import numpy as np
import numpy.typing as npt
from scipy import sparse
from scipy.sparse import csgraph

from flowstat.analyze.cycle_ways import CELLS, strong

__all__ = ["Roots", "Single", "feedback"]

Vector = npt.NDArray[np.float64]
Index = npt.NDArray[np.int64]
Graph = tuple[Index, Index, Vector]

NARROW = 16
"""If there are fewer nodes to a step than that, they are gone through one by one."""


def feedback(graph: Graph, most: int) -> Index | None:
    """Return nodes of a class without which it has no cycle, in order; None if more than so many are found.

    Cost: about one search through the class for each time it falls apart.
    """
    indptr, targets, _ = graph
    n = len(indptr) - 1
    whole = sparse.csr_array((np.ones(len(targets)), targets, indptr), shape=(n, n))
    chosen: list[Index] = []
    number = 0
    waiting = [np.arange(n)]
    while waiting:
        nodes = waiting.pop()
        block = sparse.csr_array(whole[nodes][:, nodes]) if len(nodes) < n else whole
        cut = _cut(block)
        chosen.append(nodes[cut])
        number += len(cut)
        if number > most:
            return None
        rest = np.delete(np.arange(len(nodes)), cut)
        if not len(rest):
            continue
        left = sparse.csr_array(block[rest][:, rest])
        label = strong(len(rest), np.repeat(np.arange(len(rest)), np.diff(left.indptr)), left.indices.astype(np.int64))
        order = np.argsort(label, kind="stable")
        waiting += [nodes[rest[some]] for some in np.split(order, _steps(label[order])) if len(some) > 1]
    return np.concatenate(chosen)


def _cut(block: sparse.csr_array) -> Index:
    """Return nodes of a class whose lack parts it: one with very many arrows, a thin layer, or a share of all."""
    n = block.shape[0]
    degrees = np.minimum(np.diff(block.indptr), np.bincount(block.indices, minlength=n))
    at = int(np.argmax(degrees))
    if n <= 16 or degrees[at] > 4 * degrees.mean():
        return np.array([at])
    hops = csgraph.dijkstra(block, unweighted=True, indices=np.array([at]))[0].astype(np.int64)
    sizes = np.bincount(hops)
    within = np.cumsum(sizes)
    # The first layer is the node itself; what leaves the least on one side is no use.
    worth = sizes[1:] / (np.minimum(within[:-1], n - within[1:]) + 1)
    thin = 1 + int(np.argmin(worth))
    if 4 * sizes[thin] < n:
        return np.flatnonzero(hops == thin)
    return np.argsort(-degrees, kind="stable")[: 1 + n // 32]


def _steps(sorted_: Index) -> Index:
    return np.flatnonzero(np.diff(sorted_)) + 1


class _Sweep:
    """Carries least weights against the arrows of a graph from chosen nodes on, through all others, once.

    `values` holds a row for each node, which for a chosen one is what is given, and one more for each chosen node with
    what comes to it.
    """

    def __init__(self, sources: Index, targets: Index, weights: Vector, number: Index) -> None:
        n, t = len(number), int(number.max()) + 1
        self.n, self.t = n, t
        inner = number < 0
        between = inner[sources] & inner[targets]
        depth = _depths(n, sources[between], targets[between])
        depth[~inner] = depth.max() + 1
        self.own = np.where(inner, np.arange(n), n + number)
        order = np.lexsort([sources, depth[sources]])
        sources = sources[order]
        self.targets, self.weights = targets[order], weights[order]
        begins = np.concatenate([[0], _steps(sources)]).astype(np.int64)
        self.begins, self.rows = begins, self.own[sources[begins]]
        edges = np.concatenate([[0], _steps(depth[sources[begins]]), [len(begins)]]).tolist()
        ends = np.append(begins, len(sources)).tolist()
        self.spans = [(a, b, ends[a], ends[b]) for a, b in pairwise(edges)]

    def run(self, values: Vector) -> None:
        """Fill in what is not given, (n + t, c)."""
        if len(self.spans) * NARROW > self.n:
            # So little is there to do at once that it is done one by one.
            targets, weights, rows = self.targets.tolist(), self.weights.tolist(), self.rows.tolist()
            ends = [*self.begins.tolist(), len(targets)]
            for c in range(values.shape[1]):
                column = values[:, c].tolist()
                for row, first, last in zip(rows, ends[:-1], ends[1:], strict=True):
                    column[row] = min([column[targets[k]] + weights[k] for k in range(first, last)])
                values[:, c] = column
            return
        for a, b, first, last in self.spans:
            sums = values[self.targets[first:last]] + self.weights[first:last, None]
            values[self.rows[a:b]] = np.minimum.reduceat(sums, self.begins[a:b] - first)


def _depths(n: int, sources: Index, targets: Index) -> Index:
    """Return how many arrows may follow on each other from a node at most, where there is no cycle."""
    left = np.bincount(sources, minlength=n)
    begins = np.concatenate([[0], np.cumsum(np.bincount(targets, minlength=n))]).tolist()
    before = sources[np.argsort(targets, kind="stable")].tolist()
    depth = [0] * n
    ready = np.flatnonzero(left == 0).tolist()
    waiting = left.tolist()
    for j in ready:
        for i in before[begins[j] : begins[j + 1]]:
            waiting[i] -= 1
            if not waiting[i]:
                depth[i] = depth[j] + 1
                ready.append(i)
    return np.array(depth, np.int64)


class Roots:
    """Nodes of a class without which it has no cycle, and the least weights of ways from and to them.

    Attributes
    ----------
    nodes : (t,)
    least : (t,)
        Weight of the lightest cycle through each that has none of those before it; `inf` if there is none.

    Notes
    -----
    Time: m t for m arrows, and t^3; memory: two tables of t^2.
    """

    def __init__(self, graph: Graph, nodes: Index) -> None:
        indptr, targets, weights = graph
        n, t = len(indptr) - 1, len(nodes)
        self.nodes, self.n = nodes, n
        number = np.full(n, -1)
        number[nodes] = np.arange(t)
        sources = np.repeat(np.arange(n), np.diff(indptr))
        self.back = _Sweep(sources, targets, weights, number)
        self.forth = _Sweep(targets, sources, weights, number)
        D = np.empty((t, t))
        width = max(1, CELLS // (n + t))
        for begin in range(0, t, width):
            end = min(begin + width, t)
            values = np.full((n + t, end - begin), inf)
            values[nodes[begin:end], np.arange(end - begin)] = 0.0
            self.back.run(values)
            D[:, begin:end] = values[n:]
        self.into, self.onto, self.least = np.empty((t, t)), np.empty((t, t)), np.empty(t)
        for r in range(t - 1, -1, -1):
            self.into[r], self.onto[r], self.least[r] = D[:, r], D[r], D[r, r]
            some, others = np.flatnonzero(D[:, r] < inf), np.flatnonzero(D[r] < inf)
            if 4 * len(some) * len(others) < t * t:
                at = np.ix_(some, others)
                D[at] = np.minimum(D[at], D[some, r, None] + D[r, others])
            else:
                np.minimum(D, D[:, r, None] + D[r], out=D)

    def ways(self, which: Index) -> tuple[Vector, Vector]:
        """Return the least weights from some roots to all nodes and back, without the roots before each, (n, c)."""
        found = []
        columns = np.arange(len(which))
        later = np.arange(len(self.nodes))[:, None] > which
        for sweep, given in ((self.forth, self.onto[which].T), (self.back, self.into[which].T)):
            values = np.full((self.n + len(self.nodes), len(which)), inf)
            values[self.nodes] = np.where(later, given, inf)
            values[self.nodes[which], columns] = 0.0
            sweep.run(values)
            found.append(values[: self.n])
        return found[0], found[1]


class Single:
    """One root only: as `Roots`, by two searches."""

    def __init__(self, graph: Graph, node: int) -> None:
        indptr, targets, weights = graph
        n = len(indptr) - 1
        self.nodes = np.array([node])
        one = sparse.csr_array((weights, targets.astype(np.int32), indptr.astype(np.int32)), shape=(n, n))
        back = csgraph.dijkstra(sparse.csr_array(one.T), indices=self.nodes)
        self.found = csgraph.dijkstra(one, indices=self.nodes).T, back.T
        out = slice(indptr[node], indptr[node + 1])
        self.least = np.array([(weights[out] + back[0, targets[out]]).min()])

    def ways(self, which: Index) -> tuple[Vector, Vector]:
        """Return the least weights from the root to all nodes and back, (n, 1)."""
        return self.found
