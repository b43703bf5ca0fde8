"""The lightest cycles of classes one after the other, with a bounded number of shortest ways between two.

The cycles of a class are those through each of some nodes, its roots, without the roots before it. Those through a root
are parted as Lawler parts paths (Management Science 18 (1972)), after Yen (Management Science 17 (1971)): the lightest
is taken out, and the rest falls apart by where a cycle first leaves it. Each part is only looked at when its bound, the
least weight of a way back that may touch the path, comes to be the lowest.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from heapq import heappop, heappush
from itertools import count
from math import inf

import numpy as np
import numpy.typing as npt

from flowstat.analyze.cycle_roots import Roots, Single
from flowstat.analyze.cycle_ways import CELLS

__all__ = ["Class", "Delayed", "by_delay"]

Vector = npt.NDArray[np.float64]
Index = npt.NDArray[np.int64]
Graph = tuple[Index, Index, Vector]
Cycle = tuple[float, tuple[int, ...]]

BUDGET = 3_000_000
"""How many nodes are looked at on shortest ways before the search stops and says so."""

FIRST = 20
"""How many times as many for the first cycle."""

TIES = 2_000
"""How many cycles as heavy as the last one are looked at, to settle which of them are listed."""


@dataclass
class Class:
    """A class: its nodes as they are to be told, its arrows and roots by their places among these."""

    nodes: Index
    graph: Graph
    roots: Roots | Single
    lists: tuple[list[int], list[int], list[float]] | None = None
    ready: dict[int, tuple[Index, Vector]] = field(default_factory=dict)
    """The nodes on light enough cycles through a root, and the least weights of their ways back to it."""
    batch: int = 1
    """For how many roots these are worked out next."""

    def out(self, i: int) -> list[tuple[int, float]]:
        """Return what a node leads to, and the weights."""
        if self.lists is None:
            self.lists = (self.graph[0].tolist(), self.graph[1].tolist(), self.graph[2].tolist())
        indptr, targets, weights = self.lists
        span = slice(indptr[i], indptr[i + 1])
        return list(zip(targets[span], weights[span], strict=True))


@dataclass(frozen=True)
class Delayed:
    """Cycles by weight, lightest first; all of up to a `level` are among them, `inf` if none at all is missing."""

    found: list[Cycle]
    level: float


@dataclass(frozen=True)
class _Root:
    """A root, and the least weights of ways back to it from the nodes that are on light enough cycles through it."""

    home: Class
    node: int
    back: dict[int, float]


@dataclass(frozen=True)
class _Path:
    """A path from a root: its last node, and the path before it."""

    root: _Root
    node: int
    cost: float
    length: int
    before: _Path | None
    closed: bool = False

    def nodes(self) -> list[int]:
        """Return the path from its root on."""
        found, at = [], self
        while True:
            found.append(at.node)
            if at.before is None:
                return found[::-1]
            at = at.before


Loose = Callable[[float], float]


def by_delay(classes: list[Class], known: list[float], top: int, ceiling: float, longest: int, loose: Loose) -> Delayed:
    """Return the lightest cycles of two nodes or more.

    Parameters
    ----------
    classes
        Classes with their roots.
    known
        Weights of cycles of one node, which are listed, too.
    top
        How many are wanted; one more is looked for, and all that are as heavy.
    ceiling
        Weight of a cycle that need not be passed.
    longest
        The longest cycle, in nodes.
    loose
        Raises a weight by as much as equal ones may differ.
    """
    return _Delay(classes, sorted(known), top, ceiling, longest, loose).run()


class _Delay:
    def __init__(
        self, classes: list[Class], known: list[float], top: int, ceiling: float, longest: int, loose: Loose
    ) -> None:
        self.known, self.top, self.loose, self.longest = known, top, loose, longest
        self.free = all(longest >= len(each.nodes) for each in classes)
        if self.free:
            # The lightest cycles through the roots are different ones.
            light = np.concatenate([known, *(each.roots.least for each in classes)])
            if len(light) > top:
                ceiling = min(ceiling, float(np.partition(light, top)[top]))
        self.ceiling = loose(ceiling)
        self.looked = 0
        self.number = count()
        self.heap: list[tuple[float, float, int, tuple[Class, int] | _Path, list[int] | None]] = []
        for each in classes:
            for r, least in enumerate(each.roots.least.tolist()):
                if least < inf:
                    self.put(least, 0, (each, r))

    def put(self, key: float, order: float, item: tuple[Class, int] | _Path, rest: list[int] | None = None) -> None:
        """Queue an item if it is light enough; of equals, those with a way back and the longest paths come first."""
        if key <= self.ceiling:
            heappush(self.heap, (round(key, 11), order, next(self.number), item, rest))

    def run(self) -> Delayed:
        """Take cycles out until there are enough."""
        found: list[Cycle] = []
        beside = settled = 0
        level = inf
        while self.heap and self.heap[0][0] <= self.loose(level):
            key, _, _, item, rest = heappop(self.heap)
            if self.looked > (BUDGET if found else FIRST * BUDGET) or settled > TIES:
                return Delayed(found, 3 * key - 2 * self.loose(key))
            if isinstance(item, tuple):
                self.start(*item)
                continue
            if item.closed:
                found.append((item.cost, self.told(item)))
            elif rest is None:
                way = self.way(item)
                if way is not None:
                    self.put(way[0], -1 - item.length, item, way[1])
                continue
            else:
                found.append(self.take(item, rest))
            settled += level < inf
            while beside < len(self.known) and self.known[beside] <= key:
                beside += 1
            if level == inf and len(found) + beside > self.top:
                level = found[-1][0]
        return Delayed(found, inf)

    def told(self, path: _Path) -> tuple[int, ...]:
        """Return a path's nodes as they are to be told."""
        return tuple(path.root.home.nodes[path.nodes()].tolist())

    def start(self, home: Class, r: int) -> None:
        """Queue the cycles through a root."""
        if r not in home.ready:
            # The ways of those that come next are worked out together: more and more, since so many were needed.
            least = home.roots.least
            order = np.lexsort([np.arange(len(least)), np.round(least, 11)])
            begin = int(np.flatnonzero(order == r)[0])
            which = order[begin : begin + home.batch]
            which = which[(least[which] <= self.ceiling) & (np.arange(len(which)) * len(home.nodes) <= CELLS)]
            home.batch = min(2 * home.batch, 32)
            forth, back = home.roots.ways(which)
            self.looked += len(which) * len(home.graph[1]) // 32
            for k, each in enumerate(which.tolist()):
                sums = forth[:, k] + back[:, k]
                near = np.flatnonzero((sums <= self.ceiling) & (sums < inf))
                home.ready[each] = near, back[near, k]
        near, back = home.ready.pop(r)
        node = int(home.roots.nodes[r])
        root = _Root(home, node, dict(zip(near.tolist(), back.tolist(), strict=True)))
        root.back.pop(node, None)
        self.put(float(home.roots.least[r]), -1, _Path(root, node, 0.0, 1, None))

    def way(self, path: _Path) -> tuple[float, list[int]] | None:
        """Return the least weight of a cycle that begins with a path, and the nodes onward; None if there is none."""
        root, back = path.root.node, path.root.back
        barred = set(path.nodes())
        first = back.get(path.node, 0.0)
        heap: list[tuple[float, float, int, int]] = [(path.cost + first, path.cost, path.node, path.length)]
        lengths: dict[int, int] = {}
        came: dict[tuple[int, int], tuple[int, int]] = {}
        costs: dict[tuple[int, int], float] = {}
        while heap:
            bound, cost, i, length = heappop(heap)
            if bound > self.ceiling:
                return None
            # A way that is no lighter is only of use if it is shorter, and that only if length counts.
            if i in lengths and (self.free or lengths[i] <= length):
                continue
            lengths[i] = length
            self.looked += 1
            if i == root and length > path.length:
                onward, at = [], came[i, length]
                while at != (path.node, path.length):
                    onward.append(at[0])
                    at = came[at]
                return cost, onward[::-1]
            for j, w in path.root.home.out(i):
                if j == root:
                    step = (j, length + 1)
                    reach = cost + w
                elif j in back and j not in barred and length < self.longest:
                    step = (j, length + 1)
                    reach = cost + w + back[j]
                else:
                    continue
                if cost + w < costs.get(step, inf):
                    costs[step] = cost + w
                    came[step] = (i, length)
                    heappush(heap, (reach, cost + w, *step))
            if i == root:
                # The root itself may be come back to: it is where the cycle ends.
                del lengths[i]
        return None

    def take(self, path: _Path, rest: list[int]) -> Cycle:
        """Return the cycle of a path and its way back, and queue all others that begin with the path."""
        root = path.root
        passed = set(path.nodes())
        for onward in [*rest, root.node]:
            chosen = 0.0
            for j, w in root.home.out(path.node):
                if j == onward:
                    chosen = w
                elif j == root.node:
                    if path.length > 1:
                        self.put(path.cost + w, -inf, replace(path, cost=path.cost + w, closed=True))
                elif j in root.back and j not in passed and path.length < self.longest:
                    branch = _Path(root, j, path.cost + w, path.length + 1, path)
                    self.put(branch.cost + root.back[j], -1 - path.length, branch)
            if onward == root.node:
                return path.cost + chosen, self.told(path)
            path = _Path(root, onward, path.cost + chosen, path.length + 1, path)
            passed.add(onward)
        raise AssertionError("a way back ends at its root")
