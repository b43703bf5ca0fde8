"""The cycles of which bounds say that they may count for enough, many paths at once.

Cycles are written from the node that runs come to most, and grown over nodes after it. A path is dropped when a bound
of all cycles that begin with it (`flowstat.analyze.flux_bounds`) is less than what is sought: the product over its
arrows and the least way back, or the chance that runs leave it in their loop-erasure, as of `flowstat.analyze.flows`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import inf, log
from typing import Any

import numpy as np
from scipy import sparse
from scipy.sparse import csgraph

from flowstat.analyze.cycle_ways import ranges
from flowstat.analyze.elimination import UNIT
from flowstat.analyze.flux_bounds import MARGIN, Inverses, Limits
from flowstat.analyze.solve import Index, Vector
from flowstat.analyze.way_back import Mask, backs, evened

__all__ = ["Sought", "Ways"]

CELLS = 200_000
"""How many numbers are held in one array."""

CHUNK, ROOTS = 64, 4_000
"""From how many nodes on cycles are grown together, at first and at most."""

EXACT = 16
"""Up to how many nodes the visits along a path are worked out together."""

DEAR = 2
"""How many arrows it costs to work out the visits of a path, for each pair of its nodes."""

UNKNOWN = 300
"""Of how many nodes nothing may be known: from more, there is no end to the paths."""

MANY = 20_000
"""How many cycles are kept that may count for enough; and `EACH` more for each one that is listed."""

EACH = 20


@dataclass
class Sought:
    """What is sought, and what was found of it.

    Attributes
    ----------
    level
        -log of what cycles are to count for.
    top
        How many are listed: the ceiling falls to what the last one, and one more, counts for at least.
    work
        How many arrows are yet to be looked at; negative if there were too many.
    ceiling
        Above it no cycle is wanted: as `level`.
    cut
        Whether any cycles were left out.
    most, least, paths
        -log of what cycles found count for at most, and at least, and their nodes.
    """

    level: float
    top: int
    work: int
    ceiling: float = inf
    cut: bool = False
    most: list[Vector] = field(default_factory=list)
    least: list[Vector] = field(default_factory=list)
    paths: list[tuple[int, ...]] = field(default_factory=list)
    best: Vector = field(default_factory=lambda: np.zeros(0))

    @property
    def limit(self) -> float:
        """What the bound of a cycle that is looked for may be."""
        return min(self.level, self.ceiling) + MARGIN

    def add(self, most: Vector, least: Vector, paths: Index) -> None:
        """Take cycles in, (q, length)."""
        if len(most):
            self.most.append(most)
            self.least.append(least)
            self.paths += map(tuple, paths.tolist())
            self.best = np.concatenate([self.best, least])
            if len(self.best) > self.top:
                self.best = np.partition(self.best, self.top)[: self.top + 1]
                self.ceiling = min(self.ceiling, float(self.best[-1]))
            if len(self.paths) > MANY + EACH * self.top:
                self.work = -1


class Ways:
    """What is left of a graph: arrows between different nodes, numbered by class and then by how much comes to them.

    Parameters
    ----------
    limits
        Of all nodes, and of these arrows.
    label : (n,)
        The class of each node.
    rows, columns, jumps, times : (m,)
        The arrows, -log of the share of each among those that lead away, and what it takes; `times` may be empty.
    longest
        Of cycles, in nodes.
    """

    def __init__(
        self, limits: Limits, label: Index, rows: Index, columns: Index, jumps: Vector, times: Vector, longest: int
    ) -> None:
        there = np.unique(rows)
        self.nodes = there[np.lexsort([there, -limits.order[there], label[there]])]
        number = np.full(len(label), -1)
        number[self.nodes] = np.arange(len(self.nodes))
        order = np.lexsort([number[columns], number[rows]])
        self.rows, self.targets = number[rows][order], number[columns][order]
        self.indptr = np.concatenate([[0], np.cumsum(np.bincount(self.rows, minlength=len(self.nodes)))])
        self.jumps, self.times, self.longest = jumps[order], times[order] if len(times) else times, longest
        self.again, self.missed = limits.again[order], limits.missed[order]
        self.most, self.all_in = limits.most[self.nodes].copy(), limits.all_in[self.nodes].copy()
        self.order = limits.order[self.nodes]
        self.least, self.away = limits.least[self.nodes], limits.away[self.nodes]
        self.inverses: Inverses = limits.inverses
        self.known = limits.inverses.base[self.nodes] >= 0
        self.label = label[self.nodes]
        self.gain = self.slow = 0.0
        self._potentials()
        # The least that the way back to a node may cost, from a node after it.
        home = np.full(len(self.nodes), np.inf)
        later = self.rows > self.targets
        np.minimum.at(home, self.targets[later], (self.costs + self.closing)[later])
        self.home = home
        turned = np.lexsort([self.rows, self.targets])
        number_in = np.bincount(self.targets, minlength=len(self.nodes))
        indptr = np.concatenate([[0], np.cumsum(number_in)])
        self.into = indptr, self.rows[turned], self.costs[turned], (self.costs + self.closing)[turned]
        self.aim = -1
        # The least that the way to the node to pass, and from it, may cost.
        self.to, self.fro = np.zeros((2, len(self.nodes)))

    def pass_through(self, node: int) -> None:
        """Look for cycles through a node only."""
        self.aim = int(np.flatnonzero(self.nodes == node)[0])
        graph = sparse.csr_array((self.costs, self.targets, self.indptr), shape=(len(self.nodes),) * 2)
        search: Any = csgraph.dijkstra
        self.fro, self.to = (search(each, indices=self.aim) for each in (graph, sparse.csr_array(graph.T)))

    def _potentials(self) -> None:
        """Set costs of at least 0 on arrows, with the same sum around each cycle."""
        raw = self.jumps - self.missed - self.again
        unknown = np.zeros(int(self.label.max(initial=0)) + 1, bool)
        unknown[self.label[self.rows[~np.isfinite(raw)]]] = True
        each = np.where(unknown[self.label[self.rows]], 0.0, raw)
        bad = np.ones(0, bool)
        if len(self.times):
            # No more than the time of a cycle is e^(time / gain - 1) gain, for any gain; and than that of all arrows.
            most = min(int(np.bincount(self.label).max()), self.longest)
            self.slow = log(max(most * float(self.times.max()), 1e-300))
            mean = max(float(self.times.mean()), 1e-300)
            for gain in (mean * 2.5 * 2.0**k for k in range(8)):
                self.costs, bad = self._evened(each - self.times / gain)
                if not (bad & ~unknown).any():
                    self.gain, bad = gain, unknown
                    self.most += log(gain) - 1
                    break
        if not self.gain:
            self.costs, bad = self._evened(each)
            self.most += self.slow
        off = (unknown | bad)[self.label]
        self.most[off] = np.inf
        self.costs = np.where(off[self.rows], 0.0, self.costs)
        self.closing = np.where(off[self.rows], 0.0, np.where(np.isfinite(self.again), self.again, 0.0))

    def _evened(self, costs: Vector) -> tuple[Vector, Mask]:
        """Return costs with potentials, and the classes where there are none."""
        even, bad = evened(self.rows, self.targets, costs)
        return even, np.bincount(self.label[bad], minlength=int(self.label.max(initial=0)) + 1) > 0

    def grow(self, sought: Sought) -> None:
        """Add the cycles that may count for `e^-level`."""
        there = np.isfinite(self.home)
        if (there & np.isinf(np.minimum(self.most, self.all_in))).sum() > UNKNOWN:
            sought.work = -1
        way = np.maximum(np.where(there, self.home, 0.0), self.to + self.fro)
        high = np.minimum(self.most - way, self.all_in + self.slow)
        roots = np.flatnonzero(there)
        roots = roots[np.argsort(-high[roots], kind="stable")]
        begin, step = 0, CHUNK
        while begin < len(roots) and sought.work >= 0:
            some = roots[begin : begin + step]
            begin += step
            near = some[high[some] >= -sought.limit]
            if len(near) < len(some):
                sought.cut = True
                begin = len(roots)  # those that follow are farther away
            if len(near):
                size = self._around(near, sought)
                step = max(1, step // 2 if size > CELLS // 4 else min(2 * step, ROOTS) if size < CELLS // 16 else step)

    def _around(self, roots: Index, sought: Sought) -> int:
        """Add the cycles from some roots; return how much is known of the ways back to them."""
        reach = (sought.limit + self.most[roots]) / 2
        reach = np.where(np.isfinite(reach), reach, -1.0)
        back, looked = backs(self.into, roots, reach, max(sought.work, 0), self.longest - 1)
        back.beyond[reach < 0] = 0.0
        sought.work -= looked
        waiting = [
            (np.arange(len(roots)), roots[:, None], -self.most[roots], *np.zeros((5, len(roots))), np.ones(len(roots)))
        ]
        while waiting:
            state = waiting.pop()
            place, paths, cost, passed, again, ahead, taken, missed, hits = state
            length, last = paths.shape[1], paths[:, -1]
            degree = self.indptr[last + 1] - self.indptr[last]
            total = int(degree.sum())
            if total * (length + 8) > CELLS and len(paths) > 1:
                half = len(paths) // 2
                waiting += [tuple(x[half:] for x in state), tuple(x[:half] for x in state)]
                continue
            dear = int(self.known[paths[:, 0]].sum()) if 1 < length <= EXACT + 1 else 0
            sought.work -= total * (1 + length // 3) + DEAR * length * length * dear
            if sought.work < 0:
                break
            again = self._visits(paths, again + ahead) if length > 1 else again
            at = ranges(self.indptr[last], self.indptr[last + 1])
            which = np.repeat(np.arange(len(paths)), degree)
            target, root = self.targets[at], paths[which, 0]
            onward = cost[which] + self.costs[at]
            left_out, hit = missed[which] + self.missed[at], hits[which]
            if length > 1:
                hit = hit + np.exp(self.order[last] - self.order[paths[:, 0]])[which] * np.expm1(self.missed[at])
            less = left_out - np.log(hit)
            so_far = passed[which] + self.jumps[at]
            whole = so_far - again[which] - self.all_in[root]
            time = taken[which] + self.times[at] if len(self.times) else taken[which]
            home = np.flatnonzero(target == root)
            seen = np.ones(len(which), bool)
            if self.aim >= 0:
                seen = (paths == self.aim).any(axis=1)[which]
                home = home[seen[home]]
                seen |= target == self.aim
            if len(home):
                kept, most, least = self._closed(
                    home, (onward + less, whole, so_far, time), self.closing[at], root, sought
                )
                sought.add(most, least, self.nodes[paths[which[kept]]])
            if length >= self.longest:
                continue
            on = np.flatnonzero(target > root)
            way = np.maximum(self.home[root[on]], np.where(seen[on], 0.0, self.to[target[on]]))
            way = np.maximum(way, back.of(place[which[on]], target[on]))
            bound = np.maximum((onward + less)[on] + way, whole[on] - self.slow)
            low = bound <= sought.limit
            sought.cut |= bool((bound[~low] < np.inf).any())
            on = on[low]
            on = on[(paths[which[on]] != target[on][:, None]).all(axis=1)]
            if len(on):
                grown = np.concatenate([paths[which[on]], target[on][:, None]], axis=1)
                step = (onward[on], so_far[on], again[which[on]], self.again[at[on]], time[on], left_out[on], hit[on])
                waiting.append((place[which[on]], grown, *step))
        return len(back.key)

    def _closed(
        self, home: Index, sums: tuple[Vector, Vector, Vector, Vector], closing: Vector, root: Index, sought: Sought
    ) -> tuple[Index, Vector, Vector]:
        """Return which cycles are kept, and what they count for at most and at least."""
        onward, whole, so_far, time = (each[home] for each in sums)
        most, worth = onward + closing[home], np.zeros(len(home))
        if len(self.times):
            with np.errstate(divide="ignore"):
                worth = np.log(time)
            most = most + (time / self.gain + log(self.gain) - 1 if self.gain else self.slow) - worth
        most = np.maximum(most, whole - worth)
        least = so_far - self.least[root[home]] - worth
        kept = most <= sought.limit
        sought.cut |= bool((most[~kept] < np.inf).any())
        return home[kept], most[kept], least[kept]

    def _visits(self, paths: Index, known: Vector) -> Vector:
        """Return log of the visits along paths, without those of their first nodes: no more than what is known."""
        k = paths.shape[1] - 1
        some = np.flatnonzero(self.known[paths[:, 0]]) if k <= EXACT else np.zeros(0, np.int64)
        if not len(some):
            return known
        nodes = self.nodes[paths[some]]
        r, rest = np.repeat(nodes[:, 0], k * k), nodes[:, 1:]
        j, i = np.repeat(rest, k, axis=1).ravel(), np.tile(rest, (1, k)).ravel()
        value, doubt = self.inverses.among(r, j, i)
        N, off = value.reshape(-1, k, k), doubt.reshape(-1, k * k).max(axis=1)
        sign, size = np.linalg.slogdet(N)
        # The inverse has no row whose entries' sizes sum to more than 2.
        slack = 2.2 * k * off + 32 * k * k * k * UNIT * N.max(axis=(1, 2))
        good = (sign > 0) & (slack < 0.01)
        away = self.away[paths[some][:, 1:]].sum(axis=1)
        known = known.copy()
        known[some[good]] = np.minimum(known[some[good]], (size + slack + away)[good])
        return known
