"""Mean first passage times between all states of a class, without subtraction, in n^3.

To a target all other states are eliminated, and what was expected of them is passed on. Targets share this: the last
half of the states is eliminated once for all targets in the first, the first half once for those in the last, and so on
within the halves. That is some 3 n^3 operations; each time is right relative to itself (Grassmann, Taksar, Heyman,
Operations Research 33 (1985)). The residual of the answer proves a second bound, often the better one (Berman and
Plemmons, Nonnegative Matrices in the Mathematical Sciences (1994), chapter 6).
"""

from __future__ import annotations

import numpy as np
from scipy import sparse

from flowstat.analyze.elimination import divisor, rounding
from flowstat.analyze.solve import Solved, Vector
from flowstat.errors import AnalysisError

__all__ = ["all_passages"]


def all_passages(block: sparse.csr_array, unit: float) -> Solved:
    """Return the expected steps between all states, and their return times on the diagonal, (n, n).

    Parameters
    ----------
    block : (n, n)
        An irreducible matrix of chances; its diagonal is not used.
    unit
        What rounding may do to a sum over a row.

    Examples
    --------
    >>> ring = sparse.csr_array([[0, 1, 0], [0, 0, 1], [1, 0, 0]], dtype=float)
    >>> all_passages(ring, 1e-15).values.tolist()
    [[3.0, 1.0, 2.0], [2.0, 3.0, 1.0], [1.0, 2.0, 3.0]]
    """
    n = block.shape[0]
    A = block.toarray()
    np.fill_diagonal(A, 0.0)
    lost = False
    with np.errstate(over="ignore", invalid="ignore"):
        try:
            with np.errstate(under="raise"):
                M = _halved(A, np.ones(n))
        except FloatingPointError:
            lost, M = True, _halved(A, np.ones(n))
        if not np.isfinite(M).all():
            raise AnalysisError("some first passage times are too long to be numbers")
        relative = 1.1 * rounding(n) + unit
        # (I - P) m = 1 without the target: the residual, by the largest entry, proves a bound relative to m.
        off = sparse.csr_array(A)
        moving = off.sum(axis=1)[:, None]
        away, inside = moving * M, off @ M
        wrong = np.abs(1 + inside - away) + unit * (1 + inside + away)
        np.fill_diagonal(wrong, 0.0)
        worst = wrong.max(axis=0)
        proven = np.where(worst < 0.5, worst / np.maximum(1 - worst, 0.5), np.inf)
    if lost and not np.isfinite(proven).all():
        raise AnalysisError("first passage times span too many orders of magnitude, and some chances were lost")
    bound = 1.01 * np.minimum(proven, np.inf if lost else relative)[None, :] * M
    returns = 1 + np.diag(inside)
    doubt = np.diag(off @ bound) + unit * returns
    np.fill_diagonal(M, returns)
    np.fill_diagonal(bound, 1.01 * doubt)
    return Solved(M, bound)


def _halved(A: Vector, tau: Vector) -> Vector:
    """Solve `x = 0` at the target, else `sum_j A_ij (x_i - x_j) = tau_i`, for all targets; (m, m)."""
    m = len(tau)
    if m == 1:
        return np.zeros((1, 1))
    keep = m // 2
    found = np.empty((m, m))
    found[:, :keep] = _eliminated(A, tau, keep)
    found[::-1, keep:] = _eliminated(A[::-1, ::-1], tau[::-1], m - keep)[:, ::-1]
    return found


def _eliminated(A: Vector, tau: Vector, keep: int) -> Vector:
    """Solve for the first targets, the other states eliminated; (m, keep)."""
    A, tau = A.copy(), tau.copy()
    m = len(tau)
    pivots = np.zeros(m)
    for k in range(m - 1, keep - 1, -1):
        pivots[k] = divisor(A[k, :k].sum())
        A[:k, k] /= pivots[k]
        A[:k, :k] += np.multiply.outer(A[:k, k], A[k, :k])
        tau[:k] += A[:k, k] * tau[k]
    inner = A[:keep, :keep].copy()
    np.fill_diagonal(inner, 0.0)
    x = np.empty((m, keep))
    x[:keep] = _halved(inner, tau[:keep])
    for k in range(keep, m):
        x[k] = (tau[k] + A[k, :k] @ x[:k]) / pivots[k]
    return x
