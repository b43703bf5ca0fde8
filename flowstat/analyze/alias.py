"""Drawing where a chain goes next, for many lineages at once: the alias method, built for all rows together."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from flowstat.analyze.solve import Index, Vector

__all__ = ["Alias", "alias"]

WIDEST = 16
"""Rows of up to so many ways are all made equally long, if that does not take much more room."""


@dataclass(frozen=True)
class Alias:
    """Tables to draw from: row i has `width[i]` cells from `begin[i]` on, all equally probable.

    A cell gives its first target (`targets[2 * cell]`) with the chance `keep[cell]`, else its second one. `even` is the
    width of all rows, if they have one.
    """

    begin: Index
    width: Vector
    keep: Vector
    targets: npt.NDArray[np.int64]
    even: int | None

    def draw(self, rows: Index, uniform: Vector) -> Index:
        """Draw one target for each row from a number that is uniform in [0, 1); the numbers are lost.

        Uniform floats have 53 bits: a chance is right to `width * 2^-53`, absolutely.
        """
        if self.even is None:
            np.multiply(uniform, self.width.take(rows), out=uniform)
            cell = uniform.astype(np.int64)
            np.subtract(uniform, cell, out=uniform)
            cell += self.begin.take(rows)
        else:
            np.multiply(uniform, float(self.even), out=uniform)
            cell = uniform.astype(np.int64)
            np.subtract(uniform, cell, out=uniform)
            cell += rows * self.even
        other = uniform >= self.keep.take(cell)
        cell *= 2
        cell += other
        result: Index = self.targets.take(cell)
        return result


def alias(rows: Index, targets: Index, weights: Vector, n: int) -> Alias:
    """Make the tables of n rows.

    Parameters
    ----------
    rows, targets, weights : (m,)
        Each way of a row, sorted by rows, with its weight, more than 0. Every row has at least one.
    n
        How many rows there are.

    Notes
    -----
    Source: Walker, ACM Transactions on Mathematical Software 3 (1977), by a sweep over light and heavy ways as in
    Huebschle-Schneider and Sanders, ESA 2019, section 2. The sweeps go through all rows together, one way a
    step: O(m log m), and as many steps as the longest row has ways.

    Examples
    --------
    >>> table = alias(np.array([0, 0]), np.array([7, 8]), np.array([0.25, 0.75]), 1)
    >>> table.draw(np.zeros(4, np.int64), np.array([0.1, 0.3, 0.6, 0.9])).tolist()
    [7, 8, 8, 8]
    """
    width = np.bincount(rows, minlength=n)
    most = int(width.max())
    even = most if most <= WIDEST and n * most <= 2 * len(rows) + 100_000 else None
    if even is not None:
        # Ways of no weight fill the rows up: they are never taken.
        inside = np.arange(len(rows)) - np.repeat(np.cumsum(width) - width, width)
        filled, where = np.zeros(n * most), np.zeros(n * most, np.int64)
        filled[rows * most + inside], where[rows * most + inside] = weights, targets
        rows, weights, targets, width = np.repeat(np.arange(n), most), filled, where, np.full(n, most)
    begin = np.cumsum(width) - width
    sums = np.bincount(rows, weights=weights, minlength=n)
    # In units of what a cell holds.
    load = weights * (width / sums)[rows]
    by = np.lexsort((load > 1, rows))
    load, targets = load[by], targets[by]
    keep, second = _sweep(load, targets, begin, width)
    return Alias(begin, width.astype(np.float64), keep, np.stack([targets, second], axis=1).ravel(), even)


def _sweep(load: Vector, targets: Index, begin: Index, width: Index) -> tuple[Vector, Index]:
    """Fill up the light cells, first in a row, from the heavy ways; return `keep` and second targets."""
    keep, second = np.ones(len(load)), targets.copy()
    end = begin + width
    light, heavy = begin.copy(), begin + np.add.reduceat((load <= 1).astype(np.int64), begin)
    first_heavy = heavy.copy()
    # Rows without a heavy way hold one unit in each cell, but for rounding.
    rows = np.flatnonzero(heavy < end)
    left = np.zeros(len(begin))
    left[rows] = load[heavy[rows]]
    while len(rows):
        fill = (left[rows] > 1) & (light[rows] < first_heavy[rows])
        some = rows[fill]
        at = light[some]
        keep[at], second[at] = load[at], targets[heavy[some]]
        left[some] -= 1 - load[at]
        light[some] += 1
        # A heavy way with no more than a cell left is light itself: the next heavy one fills up its cell.
        rest = rows[~fill]
        rest = rest[heavy[rest] + 1 < end[rest]]
        at = heavy[rest]
        held = np.minimum(left[rest], 1.0)
        keep[at], second[at] = held, targets[at + 1]
        left[rest] = load[at + 1] - (1 - held)
        heavy[rest] += 1
        rows = np.concatenate([some, rest])
    return keep, second
