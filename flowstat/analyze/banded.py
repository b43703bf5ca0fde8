"""A large class whose states can be put in a line, each leading only to near ones: eliminated in its band.

Such a class may take the square of its length to get through, so that plain numbers lose what is asked for. Here the
elimination (`flowstat.analyze.elimination`) is done in pairs of floats (`flowstat.analyze.doubles`): then its proven
bound is that of rounding the answer, however slow the class is.

Cost: n b^2 operations on pairs for n states of bandwidth b; memory 4 n b numbers. Compiled where numba is there.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse
from scipy.sparse import csgraph

from flowstat.analyze import doubles

__all__ = ["NARROW", "bandwidth", "narrow_order", "solve_band"]

Vector = npt.NDArray[np.float64]
Index = npt.NDArray[np.int64]

NARROW = 32
"""The largest bandwidth that is eliminated."""


def bandwidth(block: sparse.csr_array) -> int:
    """Return how far arrows reach at most."""
    rows = np.repeat(np.arange(block.shape[0]), np.diff(block.indptr))
    return int(np.abs(rows - block.indices).max(initial=0))


def narrow_order(block: sparse.csr_array) -> Index | None:
    """Return an order of the states in which a block is a narrow band, or None if none is found."""
    n = block.shape[0]
    if bandwidth(block) <= NARROW:
        return np.arange(n)
    both = sparse.csr_array(block + block.T)
    # As wide as a level of a breadth-first search is about what an order can do.
    if np.bincount(_levels(both)).max() > NARROW:
        return None
    order: Index = csgraph.reverse_cuthill_mckee(both, symmetric_mode=True).astype(np.int64)
    return order if bandwidth(block[order][:, order]) <= NARROW else None


def _levels(both: sparse.csr_array) -> Index:
    order, parents = csgraph.breadth_first_order(both, 0, directed=False)
    level = np.zeros(both.shape[0], np.int64)
    # Parents come before their children, a whole level at a time.
    place = np.empty_like(level)
    place[order] = np.arange(len(order))
    above = place[parents[order[1:]]]
    depth = np.zeros(len(order), np.int64)
    begin = 1
    while begin < len(order):
        # Those whose parents' depths are known already.
        end = begin + int(np.searchsorted(above[begin - 1 :], begin))
        depth[begin:end] = depth[above[begin - 1 : end - 1]] + 1
        if int(depth[end - 1]) and end - begin > 2 * NARROW * (int(depth[end - 1]) - int(depth[begin]) + 1):
            return np.zeros(both.shape[0], np.int64)  # far too wide
        begin = end
    level[order] = depth
    return level


def solve_band(
    block: sparse.csr_array, leaving: Vector, right: Vector, transposed: bool
) -> tuple[Vector, float] | None:
    """Solve `x = right + A x`, or `x = right + x A`, in the order of the states.

    Parameters
    ----------
    block : (n, n)
        Chances within the class; its diagonal is not used.
    leaving : (n,)
        Chance of leaving it.
    right : (n, q)

    Returns
    -------
    The answer, (n, q), and a bound of its error relative to the answer for `|right|`; None without numba, or if a
    state is left with a chance that is none.
    """
    kernel = _kernel()
    if kernel is None:
        return None
    n, b = block.shape[0], max(1, bandwidth(block))
    A = np.zeros((n, 2 * b + 1, 2))
    rows = np.repeat(np.arange(n), np.diff(block.indptr))
    off = rows != block.indices
    A[rows[off], block.indices[off] - rows[off] + b, 0] = block.data[off]
    out, x = np.zeros((n, 2)), np.zeros((*right.shape, 2))
    out[:, 0], x[..., 0] = leaving, right
    if not kernel(A, out, x, n, b, right.shape[1], transposed):
        return None
    return x[..., 0], 1.01 * n * (n + 2.0) * (6 * b + 30) * doubles.PAIR + 2.0**-52


@cache
def _kernel() -> Any:
    try:
        arithmetic = dict(zip(("_plus", "_times", "_over"), doubles.arithmetic(), strict=True))
    except ImportError:
        return None
    from flowstat.analyze.compiled import compiled

    globals().update(arithmetic)
    return compiled(_eliminate)


_plus: Any = None  # put in place when this is compiled
_times: Any = None
_over: Any = None


def _eliminate(A, out, x, n, b, q, transposed):  # type: ignore[no-untyped-def]
    for m in range(n - 1, -1, -1):
        low = max(0, m - b)
        ph, pl = out[m, 0], out[m, 1]
        for j in range(low, m):
            ph, pl = _plus(ph, pl, A[m, j - m + b, 0], A[m, j - m + b, 1])
        if ph < 1e-290:
            return False
        # The diagonal has no other use: it keeps the pivot.
        A[m, b, 0], A[m, b, 1] = ph, pl
        for i in range(low, m):
            k = m - i + b
            if A[i, k, 0] != 0.0:
                fh, fl = _over(A[i, k, 0], A[i, k, 1], ph, pl)
                A[i, k, 0], A[i, k, 1] = fh, fl
                gh, gl = _times(fh, fl, out[m, 0], out[m, 1])
                out[i, 0], out[i, 1] = _plus(out[i, 0], out[i, 1], gh, gl)
                for j in range(low, m):
                    if j != i and A[m, j - m + b, 0] != 0.0:
                        gh, gl = _times(fh, fl, A[m, j - m + b, 0], A[m, j - m + b, 1])
                        A[i, j - i + b, 0], A[i, j - i + b, 1] = _plus(A[i, j - i + b, 0], A[i, j - i + b, 1], gh, gl)
                if not transposed:
                    for c in range(q):
                        gh, gl = _times(fh, fl, x[m, c, 0], x[m, c, 1])
                        x[i, c, 0], x[i, c, 1] = _plus(x[i, c, 0], x[i, c, 1], gh, gl)
        if transposed:
            for c in range(q):
                x[m, c, 0], x[m, c, 1] = _over(x[m, c, 0], x[m, c, 1], ph, pl)
                for j in range(low, m):
                    if A[m, j - m + b, 0] != 0.0:
                        gh, gl = _times(A[m, j - m + b, 0], A[m, j - m + b, 1], x[m, c, 0], x[m, c, 1])
                        x[j, c, 0], x[j, c, 1] = _plus(x[j, c, 0], x[j, c, 1], gh, gl)
    for m in range(n):
        low = max(0, m - b)
        for c in range(q):
            h, t = x[m, c, 0], x[m, c, 1]
            for j in range(low, m):
                k = m - j + b
                ah, al = (A[j, k, 0], A[j, k, 1]) if transposed else (A[m, j - m + b, 0], A[m, j - m + b, 1])
                if ah != 0.0:
                    gh, gl = _times(ah, al, x[j, c, 0], x[j, c, 1])
                    h, t = _plus(h, t, gh, gl)
            if not transposed:
                h, t = _over(h, t, A[m, b, 0], A[m, b, 1])
            x[m, c, 0], x[m, c, 1] = h, t
    return True
