"""The solver's work on many small classes, compiled: what `Solver` does class by class, a million states a second.

Needs numba (`pip install 'flowstat[fast]'`); without it large chains are solved in the same way, only slower. Compiled
code is kept beside this file, or in the user's cache, so that compiling happens once on a machine.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import cache
from types import SimpleNamespace
from typing import Any

import numpy as np

from flowstat.analyze.elimination import SMALLEST, UNIT

__all__ = ["compiled", "kernels"]


@cache
def kernels() -> Any:
    """Return the compiled functions `backward`, `visits` and `gaps`; None where there is no numba.

    All of them take a chain as CSR with what `Solver` knows of it, go over some classes, and return the position of a
    class that is too close to closed, or -1.
    """
    try:
        import numba  # noqa: F401
    except ImportError:
        return None
    if not _is_kept():
        logging.getLogger("flowstat").warning("compiling the solver for large chains: once, for some ten seconds")
    made = SimpleNamespace()
    for name in ("_factor", "_forth", "_back"):
        globals()[name] = compiled(globals()[name])
    for function in (_backward, _visits, _gaps):
        setattr(made, function.__name__.removeprefix("_"), compiled(function))
    return made


def compiled(function: Callable[..., Any]) -> Any:
    """Return a function compiled by numba, and kept where there is a place for it."""
    import numba

    try:
        return numba.njit(function, cache=True, nogil=True)
    except RuntimeError:
        return numba.njit(function, nogil=True)


def _is_kept() -> bool:
    from pathlib import Path

    return any((Path(__file__).parent / "__pycache__").glob("compiled._*.nbi"))


def _factor(A, out, pivots, k):  # type: ignore[no-untyped-def]
    """Eliminate the block A, left with the chances `out`; see `flowstat.analyze.elimination.eliminate`."""
    for m in range(k - 1, 0, -1):
        pivot = out[m]
        for j in range(m):
            pivot += A[m, j]
        if pivot < SMALLEST:
            return False
        pivots[m] = pivot
        for i in range(m):
            if A[i, m] != 0.0:
                f = A[i, m] / pivot
                A[i, m] = f
                out[i] += f * out[m]
                for j in range(m):
                    A[i, j] += f * A[m, j]
    pivots[0] = out[0]
    return out[0] >= SMALLEST


def _back(A, pivots, k, x, q):  # type: ignore[no-untyped-def]
    """Solve `x = gain + A x` in place, for q columns."""
    for m in range(k - 1, 0, -1):
        for i in range(m):
            f = A[i, m]
            if f != 0.0:
                for c in range(q):
                    x[i, c] += f * x[m, c]
    for c in range(q):
        x[0, c] /= pivots[0]
    for m in range(1, k):
        for j in range(m):
            f = A[m, j]
            if f != 0.0:
                for c in range(q):
                    x[m, c] += f * x[j, c]
        for c in range(q):
            x[m, c] /= pivots[m]


def _forth(A, pivots, k, v, q):  # type: ignore[no-untyped-def]
    """Solve `v = inflow + v A` in place, for q columns."""
    for m in range(k - 1, 0, -1):
        for j in range(m):
            f = A[m, j] / pivots[m]
            if f != 0.0:
                for c in range(q):
                    v[j, c] += f * v[m, c]
    for c in range(q):
        v[0, c] /= pivots[0]
    for m in range(1, k):
        for c in range(q):
            v[m, c] /= pivots[m]
        for i in range(m):
            f = A[i, m]
            if f != 0.0:
                for c in range(q):
                    v[m, c] += f * v[i, c]


def _backward(chain, classes, first, last, gain, doubt, trapped, x, bound):  # type: ignore[no-untyped-def]
    """Collect gains in the classes last-1 ... first; see `Solver.backward`."""
    indptr, indices, data, stop, moving, unit = chain
    states, offsets, closed, label, local, widest = classes
    q = gain.shape[1]
    A = np.zeros((widest, widest))
    out, pivots = np.zeros(widest), np.zeros(widest)
    right = np.zeros((widest, q))
    y, z = np.zeros((widest, 2 * q)), np.zeros((widest, 2 * q))
    for c in range(last - 1, first - 1, -1):
        begin, k = offsets[c], offsets[c + 1] - offsets[c]
        if closed[c]:
            for r in range(k):
                x[states[begin + r]] = trapped
                bound[states[begin + r]] = 0.0
            continue
        A[:k, :k] = 0.0
        for r in range(k):
            i = states[begin + r]
            out[r] = stop[i]
            for d in range(q):
                right[r, d] = gain[i, d]
                z[r, d] = doubt[i, d]
                z[r, q + d] = abs(gain[i, d])
            for p in range(indptr[i], indptr[i + 1]):
                j, share = indices[p], data[p]
                if label[j] == c:
                    if j != i:
                        A[r, local[j]] += share
                else:
                    out[r] += share
                    for d in range(q):
                        right[r, d] += share * x[j, d]
                        z[r, d] += share * bound[j, d]
                        z[r, q + d] += share * abs(x[j, d])
            for d in range(q):
                z[r, d] += unit * z[r, q + d]
                y[r, d] = right[r, d]
                y[r, q + d] = abs(right[r, d])
        if not _factor(A, out, pivots, k):
            return c
        _back(A, pivots, k, y, 2 * q)
        for r in range(k):
            i = states[begin + r]
            for d in range(q):
                inside, size = 0.0, 0.0
                for p in range(indptr[i], indptr[i + 1]):
                    j = indices[p]
                    if label[j] == c and j != i:
                        inside += data[p] * y[local[j], d]
                        size += data[p] * abs(y[local[j], d])
                away = moving[i] * y[r, d]
                size += abs(away) + abs(right[r, d])
                z[r, q + d] = z[r, d] + abs(right[r, d] - (away - inside)) + unit * size
        _back(A, pivots, k, z, 2 * q)
        wrong = unit + 1.01 * k * (k + 2) * (k + 3) * UNIT
        for r in range(k):
            i = states[begin + r]
            for d in range(q):
                x[i, d] = y[r, d]
                bound[i, d] = (1 + 2 * wrong) * min(z[r, d] + wrong * y[r, q + d], z[r, q + d])
                if not np.isfinite(bound[i, d]):
                    return c
    return -1


def _visits(chain, classes, first, last, inflow, into, v, bound):  # type: ignore[no-untyped-def]
    """Pass the inflow on through the classes first ... last-1; see `Solver.visits`."""
    indptr, indices, data, stop, moving, unit = chain
    states, offsets, closed, label, local, widest = classes
    q = inflow.shape[1]
    A = np.zeros((widest, widest))
    out, pivots = np.zeros(widest), np.zeros(widest)
    y, z = np.zeros((widest, q)), np.zeros((widest, 2 * q))
    rest = np.zeros((widest, 2 * q))
    for c in range(first, last):
        begin, k = offsets[c], offsets[c + 1] - offsets[c]
        reached = False
        for r in range(k):
            for d in range(q):
                reached = reached or inflow[states[begin + r], d] > 0.0
        if not reached:
            continue
        A[:k, :k] = 0.0
        for r in range(k):
            i = states[begin + r]
            out[r] = stop[i]
            for p in range(indptr[i], indptr[i + 1]):
                j = indices[p]
                if label[j] != c:
                    out[r] += data[p]
                elif j != i:
                    A[r, local[j]] += data[p]
            for d in range(q):
                into[i, d] += unit * inflow[i, d]
                y[r, d] = inflow[i, d]
                z[r, d] = into[i, d]
        if closed[c]:
            for d in range(q):
                entered = 0.0
                for r in range(k):
                    entered += y[r, d]
                for r in range(k):
                    v[states[begin + r], d] = np.inf if entered > 0.0 else 0.0
            continue
        if not _factor(A, out, pivots, k):
            return c
        _forth(A, pivots, k, y, q)
        for r in range(k):
            for d in range(q):
                rest[r, d] = 0.0
                rest[r, q + d] = 0.0
        for r in range(k):
            i = states[begin + r]
            for p in range(indptr[i], indptr[i + 1]):
                j = indices[p]
                if label[j] == c and j != i:
                    for d in range(q):
                        rest[local[j], d] += data[p] * y[r, d]
        for r in range(k):
            i = states[begin + r]
            for d in range(q):
                away = moving[i] * y[r, d]
                size = inflow[i, d] + away + rest[r, d]
                z[r, q + d] = z[r, d] + abs(inflow[i, d] - (away - rest[r, d])) + unit * size
        _forth(A, pivots, k, z, 2 * q)
        wrong = unit + 1.01 * k * (k + 2) * (k + 3) * UNIT
        for r in range(k):
            i = states[begin + r]
            for d in range(q):
                v[i, d] = y[r, d]
                bound[i, d] = (1 + 2 * wrong) * min(z[r, d] + wrong * y[r, d], z[r, q + d])
                if not np.isfinite(bound[i, d]):
                    return c
            for p in range(indptr[i], indptr[i + 1]):
                j = indices[p]
                if label[j] != c:
                    for d in range(q):
                        inflow[j, d] += data[p] * y[r, d]
                        into[j, d] += data[p] * (bound[i, d] + 2 * UNIT * y[r, d])
    return -1


def _gaps(chain, classes, first, last, gaps, bound):  # type: ignore[no-untyped-def]
    """Find the chance never to come back to each state; see `Solver.return_gaps`."""
    indptr, indices, data, stop, _, unit = chain
    states, offsets, closed, label, local, widest = classes
    A = np.zeros((widest, widest))
    out, pivots = np.zeros(widest), np.zeros(widest)
    y = np.zeros((widest, 1))
    for c in range(first, last):
        begin, k = offsets[c], offsets[c + 1] - offsets[c]
        if closed[c] or k == 1:
            continue
        A[:k, :k] = 0.0
        for r in range(k):
            i = states[begin + r]
            out[r] = stop[i]
            for p in range(indptr[i], indptr[i + 1]):
                j = indices[p]
                if label[j] != c:
                    out[r] += data[p]
                elif j != i:
                    A[r, local[j]] += data[p]
        if not _factor(A, out, pivots, k):
            return c
        wrong = unit + 1.01 * k * (k + 2) * (k + 3) * UNIT
        for s in range(k):
            y[:k, 0] = 0.0
            y[s, 0] = 1.0
            _back(A, pivots, k, y, 1)
            gaps[states[begin + s]] = 1.0 / y[s, 0]
            bound[states[begin + s]] = (1 + 2 * wrong) * wrong / y[s, 0]
    return -1
