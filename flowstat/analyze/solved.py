"""Answers that have a proven bound of their error."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from flowstat.analyze.elimination import UNIT

__all__ = ["Solved", "total"]

Vector = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Solved:
    """An answer and its bound: no entry of `values` is off by more than that of `bound`. Both (n,) or (n, m)."""

    values: Vector
    bound: Vector

    def at(self, some: npt.NDArray[np.int64]) -> Solved:
        """Return the answer at some states, in their order."""
        return Solved(self.values[some], self.bound[some])


def total(of: Solved) -> Solved:
    """Return the sum over the states, and its bound; (1,) numbers or one a column."""
    values = of.values.sum(axis=0)
    rounded = (len(of.values) + 2) * UNIT * np.abs(of.values).sum(axis=0)
    return Solved(values, 1.01 * (of.bound.sum(axis=0) + rounded))
