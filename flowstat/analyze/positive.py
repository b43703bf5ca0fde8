"""Systems `x = b + A x` of a nonnegative matrix whose radius is below 1, and the proof that it is.

Any s > 0 with `A s < s` proves that the spectral radius of A is below 1 (Collatz and Wielandt; Berman and Plemmons,
Nonnegative Matrices in the Mathematical Sciences (1994), theorem 6.2.3), that `(I - A)^-1` has no negative entry, and
so that an answer with the residual r is off by no more than `s max(|r| / (s - A s))`.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from scipy import sparse

from flowstat.analyze.elimination import UNIT
from flowstat.analyze.search import Vector
from flowstat.analyze.shifted import Factors
from flowstat.analyze.solve import Solved

__all__ = ["Positive", "positive"]


@dataclass
class Positive:
    """A matrix A, (n, n), whose radius is proven to be below 1: `least <= s - A s`, with all of `least` positive.

    `unit` is what rounding may do to a sum over a row, and to the entries of A themselves.
    """

    A: sparse.csr_array
    s: Vector
    least: Vector
    unit: float
    factors: Factors = field(repr=False)

    def solve(self, right: Vector) -> Solved | None:
        """Return `(I - A)^-1 right`, (n,), and its bound; None if there is no telling."""
        x = self.factors.solve(right)
        if x is None:
            return None
        again = self.factors.solve(right - (x - self.A @ x))
        if again is not None:
            x = x + again
        left = np.abs(right - (x - self.A @ x)) + self.unit * (np.abs(right) + np.abs(x) + self.A @ np.abs(x))
        return Solved(x, 1.01 * self.s * float((left / self.least).max(initial=0.0)))


def positive(A: sparse.csr_array, unit: float) -> Positive | None:
    """Return the proof that a nonnegative matrix has a radius below 1; None if there is none to be found.

    Parameters
    ----------
    A : (n, n) sparse
    unit
        How far its entries may be off, relatively.

    Notes
    -----
    Cost: two solutions of the system; see `flowstat.analyze.shifted`.

    Examples
    --------
    >>> positive(sparse.csr_array([[0.0, 4.0], [0.2, 0.0]]), 0.0).s
    array([25.,  6.])
    >>> positive(sparse.csr_array([[0.0, 4.0], [0.25, 0.0]]), 0.0) is None
    True
    """
    n = A.shape[0]
    most = int(np.diff(A.indptr).max(initial=0))
    unit = 1.01 * (unit + (most + 4) * UNIT)
    factors = Factors(A)
    s = factors.solve(np.ones(n))
    if s is None or not (s > 0).all():
        return None
    inside = A @ s
    least = (s - inside) - unit * (s + inside)
    return Positive(A, s, least, unit, factors) if (least > 0).all() else None
