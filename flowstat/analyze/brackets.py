"""Where the law of a run's time lies: between that with every latency rounded up, and that with all rounded down."""

from __future__ import annotations

from bisect import bisect_left
from math import ceil, inf, log2, sqrt

import numpy as np

from flowstat.analyze.elimination import UNIT
from flowstat.analyze.lattice import FEWEST, FOLDED, Lattice, cells_for
from flowstat.analyze.solve import Solved, Vector
from flowstat.analyze.timed import Timed, Way
from flowstat.errors import AnalysisError
from flowstat.read.words import shown

__all__ = ["Brackets"]

FIRST = 2**10
"""How many cells the grid has on which the first, rough quantile is found."""

LARGEST = 2e8
"""How many numbers a law may hold at all."""

ROUNDS = 8
"""How often the grid is made finer around a quantile."""


class Brackets:
    """The laws of the times of some outcomes of one chain, on as many grids as are asked for.

    Raises
    ------
    AnalysisError
        If the chain is too large for a grid.
    """

    def __init__(self, timed: Timed, ways: list[Way], cells: int | None) -> None:
        self.ways = ways
        self.timed = timed
        possible = cells_for(timed)
        if cells is not None and (cells < FEWEST or cells & (cells - 1)):
            raise AnalysisError(f"a grid has a power of two of cells, at least {FEWEST}, not {cells}")
        self.cells = cells or possible
        if not self.cells or self.cells * timed.solver.n > LARGEST:
            raise AnalysisError(
                "the chain is too large for the law of its times to be known: mean and deviation (timing) are. "
                f"Ask with cells={FEWEST} and time to spare, or about fewer nodes"
            )
        self.chances, self.products = timed.chances(ways)
        self.known: dict[tuple[float, int], tuple[Vector, Vector]] = {}

    def both(self, step: float, cells: int) -> tuple[Vector, Vector]:
        """Return lower and upper bounds of the chance to be there within each number of steps, (k, cells / 2)."""
        if (step, cells) not in self.known:
            lattice = Lattice(self.timed, self.ways, self.chances, cells)
            reach = np.array([[float(w.probability.values), float(w.probability.bound)] for w in self.ways])
            most = np.minimum(1.0, reach.sum(axis=1))[:, None]
            late, off = lattice.law(step, up=True)
            low = np.clip(late - (off + FOLDED * reach.sum(axis=1))[:, None], 0.0, most)
            early, off = lattice.law(step, up=False)
            high = np.clip(early + off[:, None], 0.0, most)
            # A law does not fall: what a bound says holds for all that is later, or earlier.
            low = np.maximum.accumulate(low, axis=1)
            high = np.minimum.accumulate(high[:, ::-1], axis=1)[:, ::-1]
            self.known[step, cells] = low, high
        return self.known[step, cells]

    def horizon(self, k: int, share: float) -> float:
        """Return a time not far beyond that within which a share of the runs with an outcome have come to it."""
        h, g = (Solved(each.values[:, k], each.bound[:, k]) for each in (self.chances, self.products))
        mean, sd = self.timed.moments(self.ways[k], h, g)
        # Cantelli: no more than 1 - share of the runs take longer.
        most = float(mean.values + mean.bound + (sd.values + sd.bound) * sqrt(share / (1 - share)))
        if not np.isfinite(most):
            raise AnalysisError(f"the time to {shown(self.ways[k].outcome)} is not known well enough for its law")
        if not most > 0:
            return 1.0
        cells = min(FIRST, self.cells)
        for _ in range(ROUNDS):
            until = _rounded(most)
            low, _ = self.both(until / (cells // 2 - 2), cells)
            at = self.place(low[k], k, share, 1)
            most = 1.1 * until * at / (cells // 2 - 2) if at else until / 100
            if at is None or most > until / 3:
                return until
        return until

    def quantile(self, k: int, share: float, until: float) -> tuple[float, float]:
        """Return a lower and an upper bound of the time within which a share has come to an outcome."""
        step = until / (self.cells // 2 - 2)
        low, high = self.both(step, self.cells)
        first, last = self.place(high[k], k, share, -1), self.place(low[k], k, share, 1)
        least = (len(high[k]) if first is None else first) * step * (1 - 4 * UNIT)
        return least, inf if last is None else last * step * (1 + 4 * UNIT)

    def place(self, law: Vector, k: int, share: float, side: int) -> int | None:
        """Return after how many steps a law comes to a share of its outcome's chance; None if it does not."""
        reach = self.ways[k].probability
        wanted = share * float(reach.values + side * reach.bound)
        at = bisect_left(law, wanted)
        return at if at < len(law) else None

    def within(self, k: int, until: float, points: int) -> tuple[list[float], list[float]]:
        """Return lower and upper bounds of the chance to have come to an outcome within equal parts of a time."""
        each = (self.cells // 2 - 2) // points
        if not each:
            raise AnalysisError(f"the grid of this chain has {self.cells // 2 - 2} points at most, not {points}")
        # Just below, so that a point lies in the cell that begins there.
        low, high = self.both(until / (each * points) * (1 - 4 * UNIT), self.cells)
        at = each * np.arange(1, points + 1)
        return low[k, at].tolist(), high[k, at].tolist()


def _rounded(time: float) -> float:
    """Return a time not much longer, of which there are few, so that outcomes share grids."""
    return float(2.0 ** (ceil(2 * log2(time)) / 2))
