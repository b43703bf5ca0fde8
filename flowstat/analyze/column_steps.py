"""Columns of `N = (I - P)^-1` of a large class that mixes fast, by steps back in time.

With r_k = P^k r, `N r = r_0 + ... + r_(k-1) + N r_k`, and r_k soon has the shape h that such steps leave last:
`N r_k = a N h + N e`, with N h solved for once, and `|N e| <= max |e| N 1`. All are sums of what is not negative, so
rounding is in proportion. For rows of N: the same with P transposed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from scipy import sparse

from flowstat.analyze.elimination import UNIT
from flowstat.analyze.solve import Index, Solved, Solver, Vector

__all__ = ["Steps"]

STEPS = 600
"""Steps after which a class is said to mix too slowly."""

ROUND = 8
"""Steps between two looks at how far that is."""

LEFT = 1e-14
"""What may be left to the bound of an entry, beside rounding; `ENOUGH` where it does not get less."""

ENOUGH = 1e-10

LEAST = 1e-300
"""More than numbers lose that are too small to be told."""


@dataclass(frozen=True)
class _Shape:
    """What steps leave last, h; N h and N 1."""

    h: Vector
    onward: Solved
    stay: Solved


class Steps:
    """A class of k states, made ready for columns of its N, or for rows.

    Parameters
    ----------
    solver
        Of the class alone.
    transposed
        Whether rows are wanted.
    """

    def __init__(self, solver: Solver, transposed: bool = False) -> None:
        self.P: Any = sparse.csr_array(solver.P.T) if transposed else solver.P
        self.unit = (solver.inward if transposed else solver.unit) + 2 * UNIT
        self.solve: Callable[[Vector], Solved] = (lambda b: solver.visits(b)[0]) if transposed else solver.backward

    def columns(self, right: Vector, places: Index | slice) -> Solved | None:
        """Return `N right`, at some places; None if it takes too long to forget where it began.

        Parameters
        ----------
        right : (k,) or (k, q)
            At least 0.

        Notes
        -----
        Time: some fifty steps over the arrows where each state leads to three or four others at random.
        """
        shape = self._shape
        if shape is None:
            return None
        R, h = right, shape.h
        N = np.zeros_like(right[places])
        most = shape.stay.values + shape.stay.bound
        longest, least = float(most.max()), np.inf
        for steps in range(ROUND, STEPS + 1, ROUND):
            for _ in range(ROUND):
                N += R[places]
                R = self.P @ R
            share = (h @ R) / (h @ h)
            rest = np.abs(R - np.multiply.outer(h, share)).max(axis=0)
            rounded = steps * self.unit
            left = float(rest.max()) * longest
            if left <= LEFT + rounded * float(share.max()) * longest or left > 0.7 * least:
                break
            least = left
        if not left <= ENOUGH * (1 + float(share.max()) * longest):
            return None
        N += np.multiply.outer(shape.onward.values[places], share)
        off = np.multiply.outer(shape.onward.bound[places], share) + (rounded + 16 * UNIT) * N
        off += np.multiply.outer(most[places], rest * (1 + 2 * rounded) + LEAST)
        return Solved(N, 1.01 * off)

    @cached_property
    def _shape(self) -> _Shape | None:
        """What steps leave; None if they take too long."""
        h: Vector = np.ones(self.P.shape[0])
        for _ in range(0, STEPS, ROUND):
            before = h
            for _ in range(ROUND):
                h = self.P @ h
            most = float(h.max(initial=0.0))
            if not most > 1e-200:
                return None
            h /= most
            if float(np.abs(h - before).max()) <= ROUND * self.unit:
                both = self.solve(np.stack([h, np.ones(len(h))], axis=1))
                onward, stay = (Solved(both.values[:, k], both.bound[:, k]) for k in (0, 1))
                good = bool(np.isfinite(both.values + both.bound).all())
                return _Shape(h, onward, stay) if good else None
        return None
