"""The lightest elementary cycles of a graph with weights of at least 0 on its arrows, without listing all.

Cycles are written from their first node (their root) and grown over nodes after it, many paths at once, as arrays: a
path is dropped when its weight and the least weight of a way back to the root exceed that of the last cycle wanted, as
far as it is known. Sources: Johnson, SIAM Journal on Computing 4 (1975), for the rooting; Hart, Nilsson, Raphael, IEEE
Transactions on Systems Science and Cybernetics 4 (1968), for the bound. The ways back of all roots of a small class are
those of Floyd (Communications of the ACM 5 (1962)), whose states are added from the last to the first, so that each
root's are there in between. Where too many paths lead nowhere, `flowstat.analyze.cycle_delay` takes over.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf, isinf

import numpy as np
import numpy.typing as npt

from flowstat.analyze.cycle_delay import by_delay
from flowstat.analyze.cycle_order import TIE, in_order
from flowstat.analyze.cycle_ways import CELLS, FLOYD, Part, ranges, strong

__all__ = ["Lightest", "lightest"]

Vector = npt.NDArray[np.float64]
Index = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

WORK = 1_500_000
"""How many paths are looked at before the search with a bounded delay takes over; and `PER_ARROW` for each arrow."""

PER_ARROW = 40

LARGE = 2_000
"""From how many arrows on a graph is first cut down to its classes."""


@dataclass(frozen=True)
class Lightest:
    """The lightest cycles, as paths of positions in the order of their list.

    `more` tells whether there are others; `complete` whether the list is known to be right, and not cut short.
    """

    paths: list[tuple[int, ...]]
    more: bool
    complete: bool


def lightest(
    names: Sequence[str],
    arrows: tuple[Index, Index, Vector],
    top: int,
    max_length: int | None = None,
    through: int | None = None,
) -> Lightest:
    """Return the lightest cycles; equals within `TIE` by length, then by names from the alphabetically first node.

    Parameters
    ----------
    names
        The nodes' names.
    arrows
        Sources and targets, sorted by both, and weights of at least 0, (m,).
    top
        How many.
    max_length
        Longest cycle, in nodes.
    through
        Only cycles through this node.

    Notes
    -----
    Time: the paths that are as light as the last cycle listed, bounds included; never more than `WORK` and so many for
    each arrow, and then a number of shortest ways that is polynomial in nodes and cycles. Memory: the arrows, and some
    ten million numbers.

    Examples
    --------
    >>> arrows = np.array([0, 0, 1]), np.array([0, 1, 0]), np.array([2.0, 0.5, 1.0])
    >>> lightest(["a", "b"], arrows, 5).paths
    [(0, 1), (0,)]
    """
    search = _Search(len(names), arrows, top, max_length, through)
    complete = search.run()
    found = search.ranked(names)
    return Lightest(found[:top], len(found) > top or not complete, complete)


class _Search:
    def __init__(
        self, n: int, arrows: tuple[Index, Index, Vector], top: int, max_length: int | None, through: int | None
    ) -> None:
        self.n, self.top, self.through = n, top, through
        self.longest = n if max_length is None else max_length
        rows, columns, weights = arrows
        self.costs: list[Vector] = []
        self.paths: list[Index] = []
        self.ceiling = inf
        self.best: Vector = np.zeros(0)
        loops = rows == columns
        mine = loops if through is None else loops & (rows == through)
        self.keep(weights[mine], rows[mine][:, None])
        self.arrows = rows[~loops], columns[~loops], weights[~loops]

    def keep(self, costs: Vector, paths: Index) -> None:
        """Take cycles in, and lower the ceiling to the weight of the last one that is wanted."""
        low = costs <= self.ceiling + TIE
        if low.any():
            self.costs.append(costs[low])
            self.paths.append(paths[low])
            self.lower(costs[low])

    def lower(self, costs: Vector) -> None:
        """Lower the ceiling by cycles found: one more than wanted tells that there are more."""
        self.best = np.concatenate([self.best, costs])
        if len(self.best) > self.top:
            self.best = np.partition(self.best, self.top)[: self.top + 1]
            self.ceiling = min(self.ceiling, float(self.best[-1]))

    def again(self, own: tuple[list[Vector], list[Index]]) -> None:
        """Begin anew with the cycles of one node; the ceiling stays where it is."""
        self.costs, self.paths = list(own[0]), list(own[1])
        self.best = np.concatenate([*self.costs, np.zeros(0)])

    def run(self) -> bool:
        """Search; return whether it came to an end."""
        if self.longest < 2 or not len(self.arrows[0]):
            return True
        self.label: Index | None = None
        # What comes first is what leaves less to do: in a large graph most arrows may be in no cycle.
        if len(self.arrows[0]) > LARGE:
            self.within()
        self.pairs()
        if isinf(self.ceiling) and self.label is None:
            self.within()
        work = WORK + PER_ARROW * len(self.arrows[0])
        own = list(self.costs), list(self.paths)
        # Large classes are searched under a rising ceiling, lest all of their paths are looked at.
        level = self.ceiling
        if isinf(level) and len(self.arrows[0]) > FLOYD:
            level = 2 * float(np.median(self.arrows[2])) + TIE
        while True:
            self.again(own)
            left = self.pruned(min(level, self.ceiling))
            if left is None:
                cut = isinf(level) or self.ceiling <= level
                if cut or self.whole:
                    return True
            else:
                part, roots = left
                passed = self.grow(part, roots, level, work)
                if passed < 0:
                    return self.slowly(own)
                work = passed
                if self.ceiling <= level or (self.whole and not self.cut):
                    return True
            level = max(1.3 * level, 1e-6)
            if level > 1e5:
                level = inf

    def within(self) -> None:
        """Keep the arrows within strongly connected classes; with `through`, within its class."""
        rows, columns, weights = self.arrows
        label = strong(self.n, rows, columns)
        inside = label[rows] == label[columns]
        if self.through is not None:
            inside &= label[rows] == label[self.through]
        self.arrows, self.label = (rows[inside], columns[inside], weights[inside]), label

    def pairs(self) -> None:
        """Lower the ceiling by the cycles of one and of two nodes."""
        rows, columns, weights = self.arrows
        key, other = rows * self.n + columns, columns * self.n + rows
        at = np.minimum(np.searchsorted(key, other), max(len(key) - 1, 0))
        both = (rows < columns) & (key[at] == other) if len(key) else np.zeros(0, bool)
        if self.through is not None:
            both &= (rows == self.through) | (columns == self.through)
        self.lower((weights + weights[at])[both])

    def pruned(self, level: float) -> tuple[Part, Index] | None:
        """Return what is left without arrows that no cycle of up to a level uses, and its roots; None if nothing."""
        rows, columns, weights = self.arrows
        self.whole = True
        while len(rows):
            if not isinf(level):
                out, into = np.full(self.n, inf), np.full(self.n, inf)
                np.minimum.at(out, rows, weights)
                np.minimum.at(into, columns, weights)
                light = weights + np.maximum(out[columns], into[rows]) <= level + TIE
                if not light.all():
                    self.whole = False
                    rows, columns, weights = rows[light], columns[light], weights[light]
            if self.whole and self.label is not None:
                label = self.label
                break
            label = strong(self.n, rows, columns)
            inside = label[rows] == label[columns]
            if self.through is not None:
                inside &= label[rows] == label[self.through]
            if inside.all():
                break
            rows, columns, weights = rows[inside], columns[inside], weights[inside]
            if isinf(level):
                break
        if not len(rows):
            return None
        # Numbered by class, and by position in it; the node to go through comes first.
        there = np.unique(rows)
        rank = there if self.through is None else np.where(there == self.through, -1, there)
        nodes = there[np.lexsort([rank, label[there]])]
        number = np.full(self.n, -1)
        number[nodes] = np.arange(len(nodes))
        sources, targets = number[rows], number[columns]
        order = np.lexsort([targets, sources])
        indptr = np.concatenate([[0], np.cumsum(np.bincount(sources, minlength=len(nodes)))])
        marks = label[nodes]
        offsets = np.concatenate([[0], np.flatnonzero(np.diff(marks)) + 1, [len(nodes)]])
        own = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
        part = Part(nodes, indptr, targets[order], weights[order], offsets, own)
        return part, np.arange(len(nodes)) if self.through is None else number[[self.through]]

    def grow(self, part: Part, roots: Index, level: float, work: int) -> int:
        """Find all cycles up to a level and the ceiling; return what is left of the work, -1 if there is too much."""
        self.cut = False
        waiting = [(roots[:, None], np.zeros(len(roots)))]
        while waiting:
            paths, costs = waiting.pop()
            last = paths[:, -1]
            degree = part.indptr[last + 1] - part.indptr[last]
            total = int(degree.sum())
            if total * (paths.shape[1] + 1) > CELLS and len(paths) > 1:
                half = len(paths) // 2
                waiting += [(paths[half:], costs[half:]), (paths[:half], costs[:half])]
                continue
            work -= total
            if work < 0:
                return -1
            at = ranges(part.indptr[last], part.indptr[last + 1])
            which = np.repeat(np.arange(len(paths)), degree)
            target, root = part.targets[at], paths[which, 0]
            cost = costs[which] + part.weights[at]
            home = np.flatnonzero(target == root)
            if len(home):
                light = home[cost[home] <= level + TIE]
                self.cut |= len(light) < len(home)
                self.keep(cost[light], part.nodes[paths[which[light]]])
            if paths.shape[1] >= self.longest:
                continue
            on = np.flatnonzero(target > root)
            bound = cost[on] + part.onward(root[on], target[on])
            low = bound <= min(level, self.ceiling) + TIE
            self.cut |= bool((bound[~low] < inf).any())
            on, bound = on[low], bound[low]
            fresh = (paths[which[on]] != target[on][:, None]).all(axis=1)
            on = on[fresh]
            if len(on):
                if len(on) * (paths.shape[1] + 1) > CELLS // 4:
                    on = on[np.argsort(bound[fresh], kind="stable")]
                waiting.append((np.concatenate([paths[which[on]], target[on][:, None]], axis=1), cost[on]))
        return work

    def slowly(self, own: tuple[list[Vector], list[Index]]) -> bool:
        """Search with a bounded delay."""
        self.again(own)
        left = self.pruned(self.ceiling)
        if left is None:
            return True
        part, roots = left
        root = int(roots[0]) if self.through is not None else None
        loops = np.concatenate([*self.costs, np.zeros(0)]).tolist()
        graph = (part.indptr, part.targets, part.weights)
        found, complete = by_delay(graph, part.offsets, loops, self.top, self.ceiling, self.longest, root, TIE)
        for cost, path in found:
            self.costs.append(np.array([cost]))
            self.paths.append(part.nodes[np.array([path])])
        return complete

    def ranked(self, names: Sequence[str]) -> list[tuple[int, ...]]:
        """Return the cycles in order, one more than wanted if there are more."""
        entries: list[tuple[float, tuple[int, ...]]] = []
        for cost, paths in zip(self.costs, self.paths, strict=True):
            low = cost <= self.ceiling + TIE
            entries += zip(cost[low].tolist(), map(tuple, paths[low].tolist()), strict=True)
        return in_order(entries, names, self.top)
