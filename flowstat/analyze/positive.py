"""Systems `x = b + A x` of a nonnegative matrix whose radius is below 1, and the proof that it is.

Any s > 0 with `A s < s` proves that the spectral radius of A is below 1 (Collatz and Wielandt; Berman and Plemmons,
Nonnegative Matrices in the Mathematical Sciences (1994), theorem 6.2.3), that `(I - A)^-1` has no negative entry, and
so that an answer with the residual r is off by no more than `s max(|r| / (s - A s))`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy import sparse
from scipy.sparse import csgraph, linalg

from flowstat.analyze.elimination import UNIT
from flowstat.analyze.search import Index, Vector
from flowstat.analyze.solve import Solved
from flowstat.analyze.strong import Classes

__all__ = ["Factors", "Positive", "positive"]

DENSE = 400
"""Up to how many states a system is factorised densely."""

FACTORED = 1000
"""Up to how many states of a class a system is given to sparse LU; beyond, factors fill up, and products come first."""

MOST = 20_000
"""Up to how many states of a class sparse LU is tried where products don't settle."""

FILLING = 200
"""From how many states on the states of a class are put in an order that fills up little."""

SWEEPS = 2000
"""How often a system too large for that is multiplied out."""


class Factors:
    """`shift I - A` solved; nothing is claimed of its answers. (n, n) sparse, A at least 0."""

    def __init__(self, A: sparse.csr_array, shift: float = 1.0, widest: int | None = None) -> None:
        self.A, self.shift, self.n = A, shift, A.shape[0]
        self.widest = self.n if widest is None else min(widest, self.n)
        self._dense: Vector | None = None
        self._lu: Any = None
        self._fits = True
        if self.n <= DENSE:
            dense = np.asarray(A.toarray(), np.float64)
            self._dense = np.asarray(shift * np.eye(self.n) - dense, np.float64)
        elif self.widest <= FACTORED:
            self._factorise()

    def _factorise(self) -> None:
        system = sparse.csr_array(sparse.diags_array(np.full(self.n, self.shift)) - self.A)
        self._order = _order(self.A)
        if self._order is not None:
            system = sparse.csr_array(system[self._order][:, self._order])
        try:
            # The diagonal of an M-matrix needs no pivots.
            self._lu = linalg.splu(
                sparse.csc_array(system),
                permc_spec="COLAMD" if self._order is None else "NATURAL",
                diag_pivot_thresh=0.0,
            )
        except RuntimeError:
            self._fits = False

    def solve(self, right: Vector) -> Vector | None:
        """Return an answer, (n,); None if the matrix is singular or there is no way to one."""
        with np.errstate(all="ignore"):
            if self._dense is not None:
                try:
                    x = np.linalg.solve(self._dense, right).astype(np.float64)
                except np.linalg.LinAlgError:
                    return None
                return x if np.isfinite(x).all() else None
            if self._lu is None:
                if self._fits and self.widest > FACTORED:
                    swept = self._swept(right)
                    if swept is not None:
                        return swept
                    if self.widest <= MOST:
                        self._factorise()
                if self._lu is None:
                    return None
            order = self._order if self._order is not None else slice(None)
            found: Vector = np.empty(len(right))
            found[order] = self._lu.solve(right[order])
        return found if np.isfinite(found).all() else None

    def _swept(self, right: Vector) -> Vector | None:
        x: Vector = right / self.shift
        for _ in range(SWEEPS):
            new: Vector = (right + self.A @ x) / self.shift
            if not np.isfinite(new).all():
                return None
            settled = np.abs(new - x).max() <= 4 * UNIT * np.abs(new).max()
            x = new
            if settled:
                return x
        return None


def _order(A: sparse.csr_array) -> Index | None:
    """Return the states class by class, in topological order: then nothing fills up but within a class.

    None where that does not help: one class has most of the states.
    """
    classes = Classes(A)
    sizes = np.diff(classes.offsets)
    if 2 * sizes.max() > A.shape[0]:
        return None
    order = classes.states.copy()
    for c in np.flatnonzero(sizes > FILLING).tolist():
        part = slice(classes.offsets[c], classes.offsets[c + 1])
        block = A[order[part]][:, order[part]]
        order[part] = order[part][csgraph.reverse_cuthill_mckee(sparse.csr_array(block))]
    return order


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
    Cost: one factorisation, dense up to `DENSE` states.

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
