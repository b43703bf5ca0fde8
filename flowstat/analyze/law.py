"""The stationary law of a small closed class, right to each entry, over however many orders of magnitude.

Elimination without subtraction (Grassmann, Taksar, Heyman, Operations Research 33 (1985)). The chances of the censored
classes are floats, and one that is lost because it is too small is noticed; where the law leaves the range of floats it
is built up from floats with exponents of their own.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import sparse
from scipy.sparse import csgraph

from flowstat.analyze.elimination import SMALLEST, divisor
from flowstat.errors import AnalysisError

__all__ = ["TINY", "eliminated_law"]

Vector = npt.NDArray[np.float64]

TINY = float(np.finfo(np.float64).tiny)
"""Entries below this are no normal floats: they are off by up to this much, absolutely."""


def eliminated_law(A: Vector) -> Vector:
    """Return the stationary law of an irreducible matrix, (n, n); the diagonal is not used, and A is lost.

    Entries are right to `rounding(n)` of `flowstat.analyze.elimination`, those below `TINY` to `TINY`. Cost: n^3/3
    multiplications.

    Raises
    ------
    AnalysisError
        If chances between some states are too small to be told from 0.

    Examples
    --------
    >>> eliminated_law(np.array([[0.5, 0.5], [0.25, 0.75]])).round(12).tolist()
    [0.333333333333, 0.666666666667]
    """
    original = A.copy()
    if _eliminate(A):
        return _law(A)
    # States in the order in which they lead to each other are eliminated with few chances of several steps.
    linked = original + original.T
    np.fill_diagonal(linked, 0.0)
    order = csgraph.reverse_cuthill_mckee(sparse.csr_array(linked), symmetric_mode=True)
    A = original[np.ix_(order, order)]
    if not _eliminate(A):
        raise AnalysisError(
            f"the stationary law of a closed class of {len(A)} nodes spans too many orders of magnitude. "
            "If some of its shares are meant to be 0, set them to 0"
        )
    law = np.empty(len(A))
    law[order] = _law(A)
    return law


def _eliminate(A: Vector) -> bool:
    """Leave above the diagonal the visits per visit to an earlier state; return False if a chance was lost."""
    for k in range(len(A) - 1, 0, -1):
        A[:k, k] /= divisor(A[k, :k].sum())
        if ((A[:k, k] > 0) & (A[:k, k] < TINY)).any():
            return False
        try:
            with np.errstate(under="raise"):
                A[:k, :k] += np.multiply.outer(A[:k, k], A[k, :k])
        except FloatingPointError:
            before = A[:k, :k].copy()
            A[:k, :k] += np.multiply.outer(A[:k, k], A[k, :k])
            possible = (A[:k, k] > 0)[:, None] & (A[k, :k] > 0)
            np.fill_diagonal(possible, False)
            # What is added to a chance far above the smallest floats is not missed.
            if (possible & (A[:k, :k] < SMALLEST) & (A[:k, :k] - before < TINY)).any():
                return False
    return True


def _law(A: Vector) -> Vector:
    n = len(A)
    law = np.zeros(n)
    law[0] = 1.0
    with np.errstate(over="ignore", invalid="ignore"):
        for k in range(1, n):
            law[k] = (law[:k] * A[:k, k]).sum()
    # Below this a factor's own smallest terms might be missing.
    if not (np.isfinite(law.sum()) and law.min() > SMALLEST):
        law = _scaled_law(A)
    stationary: Vector = law / law.sum()
    return stationary


def _scaled_law(A: Vector) -> Vector:
    """Return the law, its largest entry between 1/2 and 1, from entries that have exponents of their own."""
    n = len(A)
    parts, exponents = np.zeros(n), np.zeros(n, np.int64)
    parts[0] = 1.0
    for k in range(1, n):
        terms, shifts = np.frexp(parts[:k] * A[:k, k])
        shifts = shifts + exponents[:k]
        top = int(shifts[terms > 0].max())
        parts[k], shift = np.frexp(_ldexp(terms, shifts - top).sum())
        exponents[k] = top + int(shift)
    return _ldexp(parts, exponents - int(exponents.max()))


def _ldexp(parts: Vector, exponents: npt.NDArray[np.int64]) -> Vector:
    result: Vector = np.ldexp(parts, np.maximum(exponents, -3000).astype(np.int32))
    return result
