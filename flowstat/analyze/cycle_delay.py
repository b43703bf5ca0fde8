"""The lightest cycles one after the other, with a bounded number of shortest ways between two.

The cycles of a class are those through one of its nodes, the root, and those of the classes that are left without it.
Those through the root are parted as Lawler parts paths (Management Science 18 (1972)), after Yen (Management Science
17 (1971)): the lightest is taken out, and the rest falls apart by where a cycle first leaves it. Each part is only
looked at when its bound, the least weight of a way back that may touch the path, comes to be the lowest.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from heapq import heapify, heappop, heappush
from itertools import count
from math import inf

import numpy as np
import numpy.typing as npt
from scipy import sparse

from flowstat.analyze.cycle_ways import strong

__all__ = ["by_delay"]

Vector = npt.NDArray[np.float64]
Index = npt.NDArray[np.int64]
Graph = tuple[Index, Index, Vector]
Cycle = tuple[float, tuple[int, ...]]

BUDGET = 2_000_000
"""How many nodes are looked at on shortest ways before the search stops and says so."""

TIES = 2_000
"""How many cycles as heavy as the last one are looked at, to settle which of them are listed."""


@dataclass(frozen=True)
class _Root:
    """A node with the ways back to it, of least weight, within a class."""

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


def by_delay(
    graph: Graph,
    offsets: Index,
    known: list[float],
    top: int,
    ceiling: float,
    longest: int,
    through: int | None,
    tie: float,
) -> tuple[list[Cycle], bool]:
    """Return the lightest cycles of two nodes or more, and whether none is missing.

    Parameters
    ----------
    graph
        `indptr`, targets and weights of the arrows, nodes numbered class by class.
    offsets
        Where each class begins.
    known
        Weights of cycles of one node, which are listed, too.
    top
        How many are wanted; one more is looked for, and all that are within `tie` of it.
    ceiling
        Weight of a cycle that need not be passed.
    longest
        The longest cycle, in nodes.
    through
        Only cycles through this node.
    """
    return _Delay(graph, longest, ceiling + tie).run(offsets, sorted(known), top, through, tie)


class _Delay:
    def __init__(self, graph: Graph, longest: int, ceiling: float) -> None:
        indptr, targets, weights = graph
        self.ceiling, self.longest = ceiling, longest
        n = len(indptr) - 1
        self.free = longest >= n
        self.matrix = sparse.csr_array((np.ones(len(targets)), targets, indptr), shape=(n, n))
        self.out: list[list[tuple[int, float]]] = [[] for _ in range(n)]
        self.into: list[list[tuple[int, float]]] = [[] for _ in range(n)]
        rows = np.repeat(np.arange(n), np.diff(indptr))
        for i, j, w in zip(rows.tolist(), targets.tolist(), weights.tolist(), strict=True):
            self.out[i].append((j, w))
            self.into[j].append((i, w))
        self.looked = 0
        self.number = count()
        self.heap: list[tuple[float, float, int, Index | _Path, list[int] | None]] = []

    def put(self, key: float, order: float, item: Index | _Path, rest: list[int] | None = None) -> None:
        """Queue an item if it is light enough; of equals, those with a way back and the longest paths come first."""
        if key <= self.ceiling:
            heappush(self.heap, (round(key, 11), order, next(self.number), item, rest))

    def run(
        self, offsets: Index, known: list[float], top: int, through: int | None, tie: float
    ) -> tuple[list[Cycle], bool]:
        """Take cycles out until there are enough."""
        found: list[Cycle] = []
        for begin, end in zip(offsets[:-1].tolist(), offsets[1:].tolist(), strict=True):
            if through is None:
                self.put(0.0, 0, np.arange(begin, end))
            elif begin <= through < end:
                self.start(np.arange(begin, end), through)
        beside = settled = 0
        level = inf
        while self.heap and self.heap[0][0] <= level + tie:
            if self.looked > BUDGET or settled > TIES:
                return found, False
            key, _, _, item, rest = heappop(self.heap)
            if isinstance(item, np.ndarray):
                self.part(item, key)
                continue
            if item.closed:
                found.append((item.cost, tuple(item.nodes())))
            elif rest is None:
                way = self.way(item)
                if way is not None:
                    self.put(way[0], -1 - item.length, item, way[1])
                continue
            else:
                found.append(self.take(item, rest))
            settled += level < inf
            while beside < len(known) and known[beside] <= key:
                beside += 1
            if level == inf and len(found) + beside > top:
                level = found[-1][0]
        return found, True

    def part(self, nodes: Index, key: float) -> None:
        """Queue the cycles of a class: those through a node with many arrows, and the classes without it."""
        block = sparse.csr_array(self.matrix[nodes][:, nodes])
        degrees = np.minimum(np.diff(block.indptr), np.bincount(block.indices, minlength=len(nodes)))
        at = int(np.argmax(degrees))
        self.looked += len(nodes)
        self.start(nodes, int(nodes[at]))
        rest = np.delete(np.arange(len(nodes)), at)
        if not len(rest):
            return
        left = sparse.coo_array(block[rest][:, rest])
        label = strong(len(rest), left.row.astype(np.int64), left.col.astype(np.int64))
        order = np.argsort(label, kind="stable")
        for group in np.split(order, np.flatnonzero(np.diff(label[order])) + 1):
            if len(group) > 1:
                some = nodes[rest[group]]
                inside = set(some.tolist())
                # No cycle is lighter than the lightest of its arrows and the one after it.
                least = min(w for i in inside for j, w in self.out[i] if j in inside)
                self.put(max(key, 2 * least), 0, some)

    def start(self, nodes: Index, root: int) -> None:
        """Queue the cycles through a root."""
        inside = set(nodes.tolist())
        back: dict[int, float] = {}
        heap = [(w, i) for i, w in self.into[root] if i in inside]
        heapify(heap)
        while heap:
            cost, i = heappop(heap)
            if i in back or i == root or cost > self.ceiling:
                continue
            back[i] = cost
            self.looked += 1
            for j, w in self.into[i]:
                if j in inside and j not in back:
                    heappush(heap, (cost + w, j))
        own = _Path(_Root(root, back), root, 0.0, 1, None)
        least = min((w + back[j] for j, w in self.out[root] if j in back), default=inf)
        if least < inf:
            self.put(least, -1, own)

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
            for j, w in self.out[i]:
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
            for j, w in self.out[path.node]:
                if j == onward:
                    chosen = w
                elif j == root.node:
                    if path.length > 1:
                        self.put(path.cost + w, -inf, replace(path, cost=path.cost + w, closed=True))
                elif j in root.back and j not in passed and path.length < self.longest:
                    branch = _Path(root, j, path.cost + w, path.length + 1, path)
                    self.put(branch.cost + root.back[j], -1 - path.length, branch)
            if onward == root.node:
                return path.cost + chosen, tuple(path.nodes())
            path = _Path(root, onward, path.cost + chosen, path.length + 1, path)
            passed.add(onward)
        raise AssertionError("a way back ends at its root")
