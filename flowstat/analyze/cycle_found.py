"""The cycles that a search has found, and the weight that others need not be looked at beyond."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from math import fsum, inf

import numpy as np
import numpy.typing as npt

from flowstat.analyze.cycle_order import TIE, first, in_order

__all__ = ["Found"]

Vector = npt.NDArray[np.float64]
Index = npt.NDArray[np.int64]
Cycle = tuple[float, tuple[int, ...]]

LONG = 64
"""From how many nodes on sums of weights are rounded once, lest equal ones differ by what they sum up."""

HELD = 4_000_000
"""From how many nodes of cycles on those that are too heavy are let go."""


class Found:
    """The lightest cycles found, of one search.

    Parameters
    ----------
    arrows
        Sources and targets, sorted by both, and weights of the arrows.
    top
        How many are wanted: the `ceiling` is the weight of one more, which tells that there are more.
    longest
        The longest cycle, in nodes.
    """

    def __init__(self, n: int, arrows: tuple[Index, Index, Vector], top: int, longest: int) -> None:
        self.n, self.top, self.longest = n, top, longest
        self.arrows = arrows
        self.ceiling = inf
        self.best: Vector = np.zeros(0)
        self.costs: list[Vector] = []
        self.paths: list[Index] = []
        self.own = self.sure = (self.costs, self.paths)
        self.held, self.most, self.twice = 0, HELD, False

    def loose(self, level: float) -> float:
        """Return a level, raised by what sums of so many weights may be off by."""
        return level + TIE + 2.0**-52 * self.longest * level

    def keep(self, costs: Vector, paths: Index) -> None:
        """Take cycles in, and lower the ceiling."""
        low = costs <= self.loose(self.ceiling)
        if low.any():
            self.costs.append(costs[low])
            self.paths.append(paths[low])
            self.held += self.paths[-1].size
            self.lower(costs[low])
        if self.held > self.most:
            light = [costs <= self.loose(self.ceiling) for costs in self.costs]
            self.costs = [costs[some] for costs, some in zip(self.costs, light, strict=True)]
            self.paths = [paths[some] for paths, some in zip(self.paths, light, strict=True)]
            self.held = sum(paths.size for paths in self.paths)
            self.most = HELD + 2 * self.held

    def lower(self, costs: Vector) -> None:
        """Lower the ceiling by the weights of different cycles."""
        self.best = np.concatenate([self.best, costs])
        if len(self.best) > self.top:
            self.best = np.partition(self.best, self.top)[: self.top + 1]
            self.ceiling = min(self.ceiling, float(self.best[-1]))

    def again(self) -> None:
        """Begin anew with the cycles of one node; the ceiling stays where it is."""
        self.costs, self.paths = list(self.own[0]), list(self.own[1])
        self.best = np.concatenate([*self.costs, np.zeros(0)])
        self.held = 0

    def settle(self) -> None:
        """Keep what was found up to some level, whatever the search finds when it begins anew."""
        self.sure = self.costs, self.paths

    def finish(self, cycles: list[Cycle], whole: bool) -> None:
        """Take the cycles of another search: they are all there are, or may be among those found and settled before."""
        self.twice = not whole
        if whole:
            self.again()
        self.costs = [*self.costs, *([] if whole else self.sure[0]), *(np.array([cost]) for cost, _ in cycles)]
        self.paths = [*self.paths, *([] if whole else self.sure[1]), *(np.array([path]) for _, path in cycles)]

    @cached_property
    def key(self) -> Index:
        """Return the arrows as numbers, in order."""
        return self.arrows[0] * self.n + self.arrows[1]

    def weight(self, path: tuple[int, ...]) -> float:
        """Return the weight of a cycle, rounded once."""
        ends = np.array(path)
        at = np.searchsorted(self.key, ends * self.n + np.roll(ends, -1))
        return fsum(self.arrows[2][at].tolist())

    def ranked(self, names: Sequence[str]) -> list[tuple[int, ...]]:
        """Return the cycles in order, one more than wanted if there are more."""
        limit = self.loose(self.ceiling)
        entries: list[Cycle] = []
        for costs, paths in zip(self.costs, self.paths, strict=True):
            low = costs <= limit
            each = list(map(tuple, paths[low].tolist()))
            sums = costs[low].tolist() if paths.shape[1] < LONG else map(self.weight, each)
            entries += zip(sums, each, strict=True)
        if self.twice:
            entries = [(cost, path) for path, cost in {first(path): cost for cost, path in entries}.items()]
        return in_order(entries, names, self.top)
