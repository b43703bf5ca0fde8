"""A large class whose states can be put in a line, each leading only to near ones: eliminated in its band.

Such a class may take the square of its length to get through, so that plain numbers lose what is asked for. Here the
elimination (`flowstat.analyze.elimination`) is done in pairs of floats (`flowstat.analyze.doubles`): then its proven
bound is that of rounding the answer, however slow the class is.

Cost: n b^2 operations on pairs for n states of bandwidth b; memory 2 n (b + 1) numbers. Compiled where numba is there.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse
from scipy.sparse import csgraph

from flowstat.analyze import doubles

__all__ = ["NARROW", "bandwidth", "narrow_order", "solve_band", "spreads"]

Vector = npt.NDArray[np.float64]
Index = npt.NDArray[np.int64]

NARROW = 32
"""The largest bandwidth that is eliminated."""

PIECE = 2**16
"""How many rows are looked at together: new memory is dear."""

STEPS = 8
"""How many arrows it is looked ahead for a class that is too wide."""


def bandwidth(block: sparse.csr_array) -> int:
    """Return how far arrows reach at most."""
    widest = 0
    for first in range(0, block.shape[0], PIECE):
        ends = block.indptr[first : first + PIECE + 1]
        rows = np.repeat(np.arange(first, first + len(ends) - 1), np.diff(ends))
        widest = max(widest, int(np.abs(rows - block.indices[ends[0] : ends[-1]]).max(initial=0)))
    return widest


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


def spreads(P: sparse.csr_array, states: Index) -> bool:
    """Return whether a few arrows lead from a state of a class to more of its states than a narrow band has so near.

    Then there is no narrow order; else there may be one.
    """
    inside = np.zeros(P.shape[0], bool)
    inside[states] = True
    for start in states[[0, len(states) // 2, -1]]:
        seen = near = np.array([start])
        for steps in range(1, STEPS + 1):
            to = P[near].indices
            near = np.setdiff1d(to[inside[to]], seen)
            seen = np.union1d(seen, near)
            if len(seen) > 2 * NARROW * steps + 1:
                return True
    return False


def solve_band(
    P: sparse.csr_array, stop: Vector, states: Index, right: Vector, transposed: bool
) -> tuple[Vector, float] | None:
    """Solve `x = right + A x`, or `x = right + x A`, where A is a class's block of a chain.

    Parameters
    ----------
    P, stop : (n, n), (n,)
        The chain: what leads out of the class, or ends there, leaves it.
    states : (k,)
        Those of the class, in an order of a narrow band.
    right : (k, q)
        In the same order.

    Returns
    -------
    The answer, (k, q), and a bound of its error relative to the answer for `|right|`; None without numba, or if a
    state is left with a chance that is none.
    """
    kernels = _kernels()
    if kernels is None:
        return None
    reach, eliminated = kernels
    n = len(states)
    place = np.full(P.shape[0], -1, np.int32)
    place[states] = np.arange(n)
    b = reach(P.indptr, P.indices, states, place)
    x = np.zeros((*right.shape, 2))
    x[..., 0] = right
    if not eliminated((P.indptr, P.indices, P.data, stop), states, place, x, b, transposed):
        return None
    return x[..., 0], 1.01 * n * (n + 2.0) * (6 * b + 30) * doubles.PAIR + 2.0**-52


@cache
def _kernels() -> Any:
    try:
        arithmetic = dict(zip(("_plus", "_times", "_over"), doubles.arithmetic(), strict=True))
    except ImportError:
        return None
    from flowstat.analyze.compiled import compiled

    globals().update(arithmetic)
    globals().update(_row=compiled(_row))
    return compiled(_reach), compiled(_eliminate)


_plus: Any = None  # put in place when this is compiled
_times: Any = None
_over: Any = None


def _reach(indptr, indices, states, place):  # type: ignore[no-untyped-def]
    """Return the bandwidth of a class in an order, 1 at least."""
    b = 1
    for m in range(len(states)):
        for p in range(indptr[states[m]], indptr[states[m] + 1]):
            if place[indices[p]] >= 0:
                b = max(b, abs(place[indices[p]] - m))
    return b


def _row(chain, states, place, m, b, A, out):  # type: ignore[no-untyped-def]
    """Put a state's arrows within the class in the row A, as a band, and what leaves it in `out`: pairs."""
    indptr, indices, data, stop = chain
    i = states[m]
    A[:] = 0.0
    out[0], out[1] = stop[i], 0.0
    for p in range(indptr[i], indptr[i + 1]):
        to = place[indices[p]]
        if to < 0:
            out[0], out[1] = _plus(out[0], out[1], data[p], 0.0)
        elif to != m:
            k = to - m + b
            A[k, 0], A[k, 1] = _plus(A[k, 0], A[k, 1], data[p], 0.0)


def _eliminate(chain, states, place, x, b, transposed):  # type: ignore[no-untyped-def]
    n, q = len(states), x.shape[1]
    # Only the rows that a state is eliminated from are held, in turn; what is kept of them is for going back.
    rows, out = np.zeros((b + 1, 2 * b + 1, 2)), np.zeros((b + 1, 2))
    kept = np.empty((n, b + 1, 2))
    for m in range(n - 1, max(n - 1 - b, 0), -1):
        _row(chain, states, place, m, b, rows[m % (b + 1)], out[m % (b + 1)])
    for m in range(n - 1, -1, -1):
        low = max(0, m - b)
        if m - b >= 0 or m == n - 1:
            _row(chain, states, place, low, b, rows[low % (b + 1)], out[low % (b + 1)])
        A, left = rows[m % (b + 1)], out[m % (b + 1)]
        ph, pl = left[0], left[1]
        for j in range(low, m):
            ph, pl = _plus(ph, pl, A[j - m + b, 0], A[j - m + b, 1])
        if ph < 1e-290:
            return False
        kept[m, b, 0], kept[m, b, 1] = ph, pl
        for i in range(low, m):
            B, away = rows[i % (b + 1)], out[i % (b + 1)]
            k = m - i + b
            fh, fl = B[k, 0], B[k, 1]
            if fh != 0.0:
                fh, fl = _over(fh, fl, ph, pl)
                gh, gl = _times(fh, fl, left[0], left[1])
                away[0], away[1] = _plus(away[0], away[1], gh, gl)
                for j in range(low, m):
                    if j != i and A[j - m + b, 0] != 0.0:
                        gh, gl = _times(fh, fl, A[j - m + b, 0], A[j - m + b, 1])
                        B[j - i + b, 0], B[j - i + b, 1] = _plus(B[j - i + b, 0], B[j - i + b, 1], gh, gl)
                if not transposed:
                    for c in range(q):
                        gh, gl = _times(fh, fl, x[m, c, 0], x[m, c, 1])
                        x[i, c, 0], x[i, c, 1] = _plus(x[i, c, 0], x[i, c, 1], gh, gl)
            j = i - m + b
            kept[m, j, 0], kept[m, j, 1] = (fh, fl) if transposed else (A[j, 0], A[j, 1])
        if transposed:
            for c in range(q):
                x[m, c, 0], x[m, c, 1] = _over(x[m, c, 0], x[m, c, 1], ph, pl)
                for j in range(low, m):
                    if A[j - m + b, 0] != 0.0:
                        gh, gl = _times(A[j - m + b, 0], A[j - m + b, 1], x[m, c, 0], x[m, c, 1])
                        x[j, c, 0], x[j, c, 1] = _plus(x[j, c, 0], x[j, c, 1], gh, gl)
    for m in range(n):
        low = max(0, m - b)
        for c in range(q):
            h, t = x[m, c, 0], x[m, c, 1]
            for j in range(low, m):
                ah, al = kept[m, j - m + b, 0], kept[m, j - m + b, 1]
                if ah != 0.0:
                    gh, gl = _times(ah, al, x[j, c, 0], x[j, c, 1])
                    h, t = _plus(h, t, gh, gl)
            if not transposed:
                h, t = _over(h, t, kept[m, b, 0], kept[m, b, 1])
            x[m, c, 0], x[m, c, 1] = h, t
    return True
