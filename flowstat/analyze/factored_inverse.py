"""The inverse of a class's deflated matrix less 1 or -1, from sparse factors: its largest eigenvalues are nearest."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import sparse
from scipy.sparse import csgraph
from scipy.sparse.linalg import LinearOperator, splu

from flowstat.analyze.perron import Part
from flowstat.analyze.scaled import Scaled
from flowstat.analyze.solve import Index, Vector
from flowstat.analyze.strong import Classes

__all__ = ["good_order", "inverse"]

FACTORS = 3e7
"""How many numbers the factors may have."""


def good_order(part: Part, matrix: sparse.csr_array) -> Index | None:
    """Return an order of the states in which the factors are not much larger than the matrix; None if there is none.

    Such is one with a narrow band, or, of a class that falls into small ones without one state that many others lead
    to, one that goes through these. The last state is one that may be pinned.
    """
    n = matrix.shape[0]
    both = sparse.csr_array(matrix + matrix.T)
    order = csgraph.reverse_cuthill_mckee(both, symmetric_mode=True).astype(np.int64)
    place = np.argsort(order)
    rows = np.repeat(np.arange(n), np.diff(both.indptr))
    first = np.arange(n)
    np.minimum.at(first, place[rows], place[both.indices])
    visited = int(np.argmax(part.left))
    if 2.0 * float((np.arange(n) - first).sum()) <= FACTORS:
        return np.append(order[order != visited], visited) if part.closed else order
    for home in (int(np.argmax(np.bincount(part.off.indices, minlength=n))), visited):
        others = np.delete(np.arange(n), home)
        falls = Classes(sparse.csr_array(matrix[others][:, others]))
        if float((np.diff(falls.offsets).astype(np.float64) ** 2).sum()) <= FACTORS:
            return np.append(others[falls.states], home)
    return None


def inverse(part: Part, scaled: Scaled, end: float, order: Index, transposed: bool = False) -> LinearOperator:
    """Return the inverse of the deflated matrix less 1 or -1; what was deflated is 0 times itself, and split off.

    Parameters
    ----------
    end
        1 or -1.
    order
        Of the states, from `good_order`.
    transposed
        The transpose is wanted.
    """
    n = len(part.moving)
    matrix = sparse.csc_array(sparse.eye_array(n) - end * scaled.matrix)
    # The matrix of a closed class may be singular, and one that is hardly left nearly so: one state is pinned.
    pinned = part.closed and (end == 1.0 or scaled.period % 2 == 0)
    keep = order[:-1] if pinned else order
    # Large on the diagonal, so that no pivot is sought elsewhere, and the order holds.
    lu: Any = splu(sparse.csc_array(matrix[keep][:, keep]), permc_spec="NATURAL", diag_pivot_thresh=0.0)
    right = scaled.right / part.root
    off = part.off.tocoo()

    def deflated(v: Vector) -> Vector:
        one, other = (right, scaled.left) if not transposed else (scaled.left, right)
        sums = np.bincount(scaled.phase, weights=other * v, minlength=scaled.period)
        return np.asarray(one * sums[scaled.phase])

    def solved(v: Vector) -> Vector:
        y = np.zeros(n)
        y[keep] = lu.solve(v[keep], "T" if transposed else "N")
        return y - deflated(y)

    def solve(v: Vector) -> Vector:
        v = np.asarray(v, np.float64).ravel()
        there = deflated(v)
        y = solved(v - there)
        if end == 1.0 and not transposed:
            # The residual by differences: the rounding of the factors is undone.
            f = y / scaled.d
            change = np.bincount(off.row, weights=off.data * (f[off.row] - f[off.col]), minlength=n)
            y += solved(v - there - scaled.d * (change + part.exits * f))
        return np.asarray(-end * (y + there))

    return LinearOperator((n, n), matvec=solve, dtype=np.float64)
