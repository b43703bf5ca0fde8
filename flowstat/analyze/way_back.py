"""What the way back to the first nodes of cycles costs at least, from the nodes around them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from flowstat.analyze.cycle_ways import ranges
from flowstat.analyze.solve import Index, Vector

__all__ = ["Backs", "Mask", "backs", "evened"]

Mask = npt.NDArray[np.bool_]

SWEEPS = 60
"""How often potentials are lowered before it is said that there are none."""

STEPS = 400
"""How often costs are passed on; what is not settled then is not counted as known."""


@dataclass(frozen=True)
class Backs:
    """The least costs from nodes to roots, as far as they are within a reach of each.

    Attributes
    ----------
    key : (q,)
        `root * n + node`, sorted; the root by its place among those asked for.
    cost : (q,)
        From that node.
    beyond : (roots,)
        From all other nodes, at least: `inf` if there is no way from any.
    """

    n: int
    key: Index
    cost: Vector
    beyond: Vector

    def of(self, root: Index, node: Index) -> Vector:
        """Return what the way back costs at least, from nodes to roots given by their places."""
        if not len(self.key):
            return self.beyond[root]
        asked = root * self.n + node
        at = np.minimum(np.searchsorted(self.key, asked), len(self.key) - 1)
        found: Vector = np.where(self.key[at] == asked, self.cost[at], self.beyond[root])
        return found


def backs(
    into: tuple[Index, Index, Vector, Vector], roots: Index, reach: Vector, most: int, longest: int
) -> tuple[Backs, int]:
    """Return the costs of ways back to roots over nodes after them, and how many arrows and costs were looked at.

    Parameters
    ----------
    into
        Arrows by their targets: `indptr`, their sources, their costs, and what they cost if they are the last.
    roots, reach : (r,)
        The roots, and how far to look from each.
    most
        How many arrows are looked at.
    longest
        How many arrows a way has at most that is asked for.
    """
    indptr, sources, costs, last = into
    n = len(indptr) - 1
    key, cost = np.zeros(0, np.int64), np.zeros(0)
    fresh, value = np.arange(len(roots)) * n + roots, np.zeros(len(roots))
    beyond = np.full(len(roots), np.inf)
    looked = 0
    for step in range(min(longest, STEPS)):
        place, node = fresh // n, fresh % n
        degree = indptr[node + 1] - indptr[node]
        looked += int(degree.sum()) + len(key) // 4
        if looked > most:
            break
        at = ranges(indptr[node], indptr[node + 1])
        which = np.repeat(np.arange(len(fresh)), degree)
        source, root = sources[at], place[which]
        away = value[which] + (costs if step else last)[at]
        later = source > roots[root]
        near = later & (away <= reach[root])
        far = later & ~near
        np.minimum.at(beyond, root[far], away[far])
        new = root[near] * n + source[near]
        order = np.lexsort([away[near], new])
        new, away = new[order], away[near][order]
        first = np.concatenate([np.ones(min(len(new), 1), bool), new[1:] != new[:-1]])
        new, away = new[first], away[first]
        if len(key):
            spot = np.minimum(np.searchsorted(key, new), len(key) - 1)
            old = key[spot] == new
            better = ~old | (away < cost[spot])
            cost[spot[old & better]] = away[old & better]
            added = ~old
        else:
            better = added = np.ones(len(new), bool)
        fresh, value = new[better], away[better]
        if added.any():
            key, cost = np.concatenate([key, new[added]]), np.concatenate([cost, away[added]])
            order = np.argsort(key, kind="stable")
            key, cost = key[order], cost[order]
        if not len(fresh) or step + 1 == longest:
            return Backs(n, key, cost, beyond), looked
    # Not all was looked at: nothing is known that would hold for sure.
    return Backs(n, np.zeros(0, np.int64), np.zeros(0), np.zeros(len(roots))), looked


def evened(rows: Index, targets: Index, costs: Vector) -> tuple[Vector, Index]:
    """Return costs of at least 0 with the same sums around cycles, and nodes of classes in which there are none."""
    n = int(max(rows.max(initial=-1), targets.max(initial=-1))) + 1
    potential = np.zeros(n)
    bad = np.zeros(0, np.int64)
    for _ in range(SWEEPS):
        lowered = potential[rows] + costs
        less = lowered < potential[targets] - 1e-12
        bad = targets[less]
        if not len(bad):
            break
        np.minimum.at(potential, bad, lowered[less])
    return np.maximum(costs + potential[rows] - potential[targets], 0.0), bad
