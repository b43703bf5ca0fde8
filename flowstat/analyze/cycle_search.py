"""The lightest elementary cycles of a graph with weights of at least 0 on its arrows, without listing all.

Cycles are written from their first node (their root) and grown over nodes after it, many paths at once, as arrays, up
to a level that rises until there are enough: a path is dropped when its weight and the least weight of a way back to
the root exceed it, or that of the last cycle wanted, as far as it is known. Sources: Johnson, SIAM Journal on Computing
4 (1975), for the rooting; Hart, Nilsson, Raphael, IEEE Transactions on Systems Science and Cybernetics 4 (1968), for
the bound. The ways back of all roots of a small class are those of Floyd (Communications of the ACM 5 (1962)), whose
states are added from the last to the first, so that each root's are there in between; in large classes two halves of a
cycle are grown, and joined (`flowstat.analyze.cycle_meet`). Where too many paths lead nowhere, few roots are sought
whose lack leaves no cycle (`flowstat.analyze.cycle_roots`), and the cycles through them taken one by one
(`flowstat.analyze.cycle_delay`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf, isinf

import numpy as np
import numpy.typing as npt

from flowstat.analyze.cycle_delay import Class, Delayed, by_delay
from flowstat.analyze.cycle_found import Found
from flowstat.analyze.cycle_meet import Arrows, meet
from flowstat.analyze.cycle_prune import Pruner
from flowstat.analyze.cycle_roots import Roots, Single, feedback
from flowstat.analyze.cycle_ways import CELLS, FLOYD, Part, ranges

__all__ = ["Lightest", "lightest"]

Vector = npt.NDArray[np.float64]
Index = npt.NDArray[np.int64]
Graph = tuple[Index, Index, Vector]

WORK = 1_500_000, 40
"""How many paths are looked at, and how many for each arrow, before few roots are sought whose lack leaves no cycle."""

MORE = 60_000_000, 400
"""How many more where there are none."""

ROOTS = 400, 2_000
"""How many roots are few, and how many are taken where there are too many paths all the same."""

LARGE = 2_000
"""From how many arrows on a graph is first cut down to its classes."""

AT_ONCE = 2_000
"""How many roots of large classes are begun with together."""

SEVERAL = 64
"""Through how many nodes the lightest cycle is sought where nothing else is left to do."""


@dataclass(frozen=True)
class Lightest:
    """The lightest cycles, as paths of positions in the order of their list.

    `more` tells whether there are others; `complete` whether the list is known to be right, and not cut short. If not,
    its first `sure` are right, and all others weigh more than `level`.
    """

    paths: list[tuple[int, ...]]
    more: bool
    complete: bool
    sure: int = 0
    level: float = -inf
    endless: bool = False
    """Whether `level` is of cycles of closed classes, where these are put first: see `flux_search`."""


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
    Time: with L the weight of the last cycle listed, all paths of up to L/2 in large classes; in small ones the paths
    that are as light as that cycle, bounds included. Where these are too many (`WORK`, `MORE`), m t + t^3 for m arrows
    and t nodes whose lack leaves no cycle, and for each cycle listed no more than one shortest way for each of its
    arrows. Where there are more such nodes than `ROOTS`, too, or more than `cycle_delay.BUDGET` is looked at on these
    ways, or equals are too many to be told apart, the list is not complete, and says how far it is right. Memory: the
    arrows, and some ten million numbers.

    Examples
    --------
    >>> arrows = np.array([0, 0, 1]), np.array([0, 1, 0]), np.array([2.0, 0.5, 1.0])
    >>> found = lightest(["a", "b"], arrows, 5)
    >>> found.paths, found.sure
    ([(0, 1), (0,)], 2)
    """
    found = Found(len(names), arrows, top, len(names) if max_length is None else max_length)
    level = _Search(found, arrows, through).run()
    ranked = found.ranked(names)
    sure = sum(found.weight(path) <= level for path in ranked[:top]) if level < inf else min(top, len(ranked))
    return Lightest(ranked[:top], len(ranked) > top or level < inf, level == inf, sure, level)


class _Search:
    def __init__(self, found: Found, arrows: tuple[Index, Index, Vector], through: int | None) -> None:
        rows, columns, weights = arrows
        self.found, self.longest, self.through = found, found.longest, through
        loops = rows == columns
        mine = np.flatnonzero(loops if through is None else loops & (rows == through))
        found.keep(weights[mine], rows[mine][:, None])
        others = np.flatnonzero(~loops)
        self.pruner = Pruner(found.n, (rows[others], columns[others], weights[others]), through)
        self.known, self.beyond = -inf, inf
        self.few: list[Class] | None = None
        self.tried = False

    def run(self) -> float:
        """Search; return up to what weight all cycles are found, `inf` if no more are wanted."""
        found, pruner = self.found, self.pruner
        number = len(pruner.arrows[0])
        if self.longest < 2 or not number:
            return inf
        if number > LARGE:
            pruner.within()
        found.lower(pruner.pairs())
        if isinf(found.ceiling):
            pruner.within()
        weights = pruner.arrows[2]
        # Large classes are searched under a rising ceiling, lest all of their paths are looked at.
        self.level = found.ceiling
        if isinf(self.level) and len(weights) > FLOYD:
            self.level = float(np.median(weights))
        self.left = WORK[0] + WORK[1] * len(weights)
        if self.rise():
            return inf
        chosen = self.chosen(ROOTS[1]) if self.few is None else self.few
        delayed = self.delayed(chosen) if chosen is not None else self.some()
        found.finish(delayed.found, delayed.level == inf)
        return max(self.known, delayed.level)

    def spend(self, work: int) -> bool:
        """Take so much from what work is left, which may be raised once; return whether that was enough."""
        self.left -= work
        if self.left < 0 and not self.tried:
            self.tried = True
            self.few = self.chosen(ROOTS[0])
            if self.few is None:
                self.left += MORE[0] + MORE[1] * len(self.pruner.arrows[2])
        return self.left >= 0

    def rise(self) -> bool:
        """Search up to a level that rises; return whether that came to its end."""
        found = self.found
        while True:
            found.again()
            part, roots, self.beyond = self.pruner.run(found.loose(min(self.level, found.ceiling)))
            if part is not None and not self.part(part, roots):
                return False
            if found.ceiling <= self.level or isinf(self.beyond):
                return True
            self.known = self.level
            found.settle()
            self.level = max(1.3 * self.level, self.beyond)

    def part(self, part: Part, roots: Index) -> bool:
        """Find all cycles up to the level and the ceiling; return whether the work was enough."""
        small = part.base[part.label[roots]] >= 0
        if small.any() and not self.grow(part, roots[small]):
            return False
        roots = roots[~small]
        if not len(roots):
            return True
        arrows = Arrows.of((part.indptr, part.targets, part.weights))
        begin, number = 0, AT_ONCE
        while begin < len(roots):
            some = roots[begin : begin + number]
            level = self.found.loose(min(self.level, self.found.ceiling))
            met = meet(arrows, some, level, self.longest, self.left)
            if isinstance(met, int):
                if not self.spend(met) or len(some) == 1:
                    return False
                number = max(1, len(some) // 2)
                continue
            self.left -= met.looked
            self.beyond = min(self.beyond, met.beyond)
            for costs, paths in met.cycles:
                self.found.keep(costs, part.nodes[paths])
            begin += number
            number = min(2 * number, 16 * AT_ONCE)
        return True

    def grow(self, part: Part, roots: Index) -> bool:
        """Find the cycles of small classes, by what ways back weigh at least."""
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
            if not self.spend(total):
                return False
            at = ranges(part.indptr[last], part.indptr[last + 1])
            which = np.repeat(np.arange(len(paths)), degree)
            target, root = part.targets[at], paths[which, 0]
            cost = costs[which] + part.weights[at]
            level = self.found.loose(min(self.level, self.found.ceiling))
            home = np.flatnonzero(target == root)
            if len(home):
                light = cost[home] <= level
                self.beyond = min(self.beyond, float(cost[home[~light]].min(initial=inf)))
                self.found.keep(cost[home[light]], part.nodes[paths[which[home[light]]]])
            if paths.shape[1] >= self.longest:
                continue
            on = np.flatnonzero(target > root)
            bound = cost[on] + part.onward(root[on], target[on])
            low = bound <= level
            self.beyond = min(self.beyond, float(bound[~low].min(initial=inf)))
            on, bound = on[low], bound[low]
            fresh = (paths[which[on]] != target[on][:, None]).all(axis=1)
            on = on[fresh]
            if len(on):
                if len(on) * (paths.shape[1] + 1) > CELLS // 4:
                    on = on[np.argsort(bound[fresh], kind="stable")]
                waiting.append((np.concatenate([paths[which[on]], target[on][:, None]], axis=1), cost[on]))
        return True

    def chosen(self, most: int) -> list[Class] | None:
        """Return the classes with cycles, with few roots whose lack leaves none; None if these are too many."""
        part, _, _ = self.pruner.run(self.found.loose(self.found.ceiling))
        some: list[tuple[Index, Graph, Index]] = []
        for nodes, graph in [] if part is None else part.classes():
            if self.through is not None:
                return [Class(nodes, graph, Single(graph, 0))]
            roots = feedback(graph, most)
            if roots is None:
                return None
            most -= len(roots)
            some.append((nodes, graph, roots))
        return [Class(nodes, graph, Roots(graph, roots)) for nodes, graph, roots in some]

    def delayed(self, classes: list[Class], top: int | None = None) -> Delayed:
        """Take the cycles of classes one by one."""
        found = self.found
        known = np.concatenate([*found.own[0], np.zeros(0)]).tolist() if top is None else []
        return by_delay(classes, known, found.top if top is None else top, found.ceiling, self.longest, found.loose)

    def some(self) -> Delayed:
        """Find at least the lightest cycles through some nodes of each class, if they are light enough."""
        part, _, _ = self.pruner.run(self.found.loose(self.found.ceiling))
        cycles = []
        for nodes, graph in [] if part is None else part.classes():
            number = min(len(nodes), max(1, SEVERAL * len(nodes) // self.found.n))
            for at in np.argsort(-np.diff(graph[0]), kind="stable")[:number].tolist():
                cycles += self.delayed([Class(nodes, graph, Single(graph, at))], 1).found[:1]
        return Delayed(cycles, -inf)
