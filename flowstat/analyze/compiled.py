"""The solver's work on many small classes, compiled: what `Solver` does class by class, a million states a second.

A class is eliminated in floats, and its answer mended once by what that leaves, as pairs of floats
(`flowstat.analyze.doubles`), which are passed on to other classes: so that a bound is next to that of rounding the
answer, however slow the classes are and however many follow on one another.

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

from flowstat.analyze import doubles
from flowstat.analyze.elimination import SMALLEST, UNIT

__all__ = ["compiled", "kernels"]


_plus: Any = None  # put in place when the others are compiled
_times: Any = None


@cache
def kernels() -> Any:
    """Return the compiled functions `listed`, `leaving`, `backward`, `visits` and `gaps`; None where there is no numba.

    The last three take a chain as CSR with what `Solver` knows of it, go over some classes, and return the position of
    a class that is too close to closed, or -1.
    """
    try:
        plus, times, _ = doubles.arithmetic()
    except ImportError:
        return None
    if not _is_kept():
        logging.getLogger("flowstat").warning("compiling the solver for large chains: once, for some ten seconds")
    made = SimpleNamespace()
    globals().update(_plus=plus, _times=times)
    for name in ("_factor", "_forth", "_back", "_block"):
        globals()[name] = compiled(globals()[name])
    for function in (_listed, _leaving, _backward, _visits, _gaps):
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


def _listed(indptr, indices, found, number):  # type: ignore[no-untyped-def]
    """Return what `flowstat.analyze.strong.Classes` has, of classes as scipy numbers them, and whether it is right."""
    n = len(found)
    label, states = np.empty(n, np.int64), np.empty(n, np.int64)
    offsets = np.zeros(number + 1, np.int64)
    for i in range(n):
        label[i] = number - 1 - found[i]
        offsets[label[i] + 1] += 1
    for c in range(number):
        offsets[c + 1] += offsets[c]
    free = offsets.copy()
    forward = True
    for i in range(n):
        c = label[i]
        states[free[c]] = i
        free[c] += 1
        for p in range(indptr[i], indptr[i + 1]):
            forward = forward and label[np.uint32(indices[p])] >= c
    return label, states, offsets, forward


def _leaving(indptr, indices, data, leaving, label):  # type: ignore[no-untyped-def]
    """Return the chances to leave each state and its class, and the most arrows out of and into a state."""
    n = len(leaving)
    moving, exits = np.empty(n), np.empty(n)
    into = np.zeros(n, np.int64)
    most = 0
    for i in range(n):
        most = max(most, indptr[i + 1] - indptr[i])
        moving[i] = exits[i] = 0.0
        for p in range(indptr[i], indptr[i + 1]):
            j = np.uint32(indices[p])
            into[j] += 1
            if j != i:
                moving[i] += data[p]
            if label[j] != label[i]:
                exits[i] += data[p]
        moving[i] += leaving[i]
        exits[i] += leaving[i]
    return moving, exits, most, max(0, into.max())


def _factor(A, out, pivots, k, some):  # type: ignore[no-untyped-def]
    """Eliminate the block A, left with the chances `out`; see `flowstat.analyze.elimination.eliminate`.

    `some` holds up to k positions: which rows there are to change is looked up first, for a processor that guesses.
    """
    for m in range(k - 1, 0, -1):
        # Four sums at once are no longer in coming than one.
        a, b, c, d = out[m], 0.0, 0.0, 0.0
        for j in range(0, m - 3, 4):
            a += A[m, j]
            b += A[m, j + 1]
            c += A[m, j + 2]
            d += A[m, j + 3]
        for j in range(m - m % 4, m):
            b += A[m, j]
        pivot = (a + b) + (c + d)
        if pivot < SMALLEST:
            return False
        pivots[m] = pivot
        found = 0
        for i in range(m):
            some[found] = i
            found += A[i, m] != 0.0
        for t in range(found):
            i = some[t]
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
    """Solve `v = inflow + v A` in place, for q columns: they are the rows of v, so that all goes along rows."""
    for d in range(q):
        for m in range(k - 1, 0, -1):
            y = v[d, m] / pivots[m]
            v[d, m] = y
            if y != 0.0:
                for j in range(m):
                    v[d, j] += A[m, j] * y
        v[d, 0] /= pivots[0]
        for i in range(k - 1):
            y = v[d, i]
            if y != 0.0:
                for m in range(i + 1, k):
                    v[d, m] += A[i, m] * y


def _block(chain, classes, c, A, out, home):  # type: ignore[no-untyped-def]
    """Put a class's block in A, what leaves it in `out`, and what leaves each state in `home`, as pairs."""
    indptr, indices, data, stop, _ = chain
    states, offsets, _, label, local, _ = classes
    begin, k = offsets[c], offsets[c + 1] - offsets[c]
    A[:k, :k] = 0.0
    for r in range(k):
        i = states[begin + r]
        out[r] = stop[i]
        h, low = stop[i], 0.0
        for p in range(indptr[i], indptr[i + 1]):
            j = np.uint32(indices[p])
            if label[j] != c:
                out[r] += data[p]
            elif j != i:
                A[r, local[j]] += data[p]
            if j != i:
                h, low = _plus(h, low, data[p], 0.0)
        home[r, 0], home[r, 1] = h, low


def _backward(chain, classes, first, last, gain, doubt, trapped, x, low, bound):  # type: ignore[no-untyped-def]
    """Collect gains in the classes last-1 ... first; see `Solver.backward`."""
    indptr, indices, data, _, unit = chain
    states, offsets, closed, label, _, widest = classes
    q = gain.shape[1]
    fine = unit * 2.0**-47
    A, home = np.zeros((widest, widest)), np.zeros((widest, 2))
    out, pivots, some = np.zeros(widest), np.zeros(widest), np.zeros(widest, np.int64)
    right, rest = np.zeros((widest, q)), np.zeros((widest, q))
    y, z = np.zeros((widest, q)), np.zeros((widest, q))
    for c in range(last - 1, first - 1, -1):
        begin, k = offsets[c], offsets[c + 1] - offsets[c]
        if closed[c]:
            for r in range(k):
                x[states[begin + r]] = trapped
            continue
        _block(chain, classes, c, A, out, home)
        for r in range(k):
            i = states[begin + r]
            for d in range(q):
                h, t, off, size = gain[i, d], 0.0, doubt[i, d], abs(gain[i, d])
                for p in range(indptr[i], indptr[i + 1]):
                    j, share = np.uint32(indices[p]), data[p]
                    if label[j] != c:
                        ph, pl = _times(x[j, d], low[j, d], share, 0.0)
                        h, t = _plus(h, t, ph, pl)
                        off += share * bound[j, d]
                        size += share * abs(x[j, d])
                right[r, d], rest[r, d], y[r, d] = h, t, h
                z[r, d] = off + fine * size
        if not _factor(A, out, pivots, k, some):
            return c
        _back(A, pivots, k, y, q)
        for r in range(k):
            i = states[begin + r]
            for d in range(q):
                x[i, d], low[i, d] = y[r, d], 0.0
        for turn in range(2):
            for r in range(k):
                i = states[begin + r]
                for d in range(q):
                    h, t = _times(x[i, d], low[i, d], home[r, 0], home[r, 1])
                    size = abs(h) + abs(right[r, d])
                    h, t = _plus(right[r, d], rest[r, d], -h, -t)
                    for p in range(indptr[i], indptr[i + 1]):
                        j = np.uint32(indices[p])
                        if label[j] == c and j != i:
                            ph, pl = _times(x[j, d], low[j, d], data[p], 0.0)
                            h, t = _plus(h, t, ph, pl)
                            size += abs(ph)
                    y[r, d] = h
                    if turn:
                        z[r, d] += abs(h) + fine * size
            if turn == 0:
                _back(A, pivots, k, y, q)
                for r in range(k):
                    i = states[begin + r]
                    for d in range(q):
                        x[i, d], low[i, d] = _plus(x[i, d], low[i, d], y[r, d], 0.0)
        _back(A, pivots, k, z, q)
        wrong = unit + 1.01 * k * (k + 2) * (k + 3) * UNIT
        for r in range(k):
            i = states[begin + r]
            for d in range(q):
                bound[i, d] = (1 + 2 * wrong) * z[r, d]
                if not np.isfinite(x[i, d] + bound[i, d]):
                    return c
    return -1


def _visits(chain, classes, first, last, inflow, inlow, into, v, low, bound):  # type: ignore[no-untyped-def]
    """Pass the inflow on through the classes first ... last-1; see `Solver.visits`."""
    indptr, indices, data, _, unit = chain
    states, offsets, closed, label, local, widest = classes
    q = inflow.shape[1]
    fine = unit * 2.0**-47
    A, home = np.zeros((widest, widest)), np.zeros((widest, 2))
    out, pivots, some = np.zeros(widest), np.zeros(widest), np.zeros(widest, np.int64)
    y, z, size = np.zeros((q, widest)), np.zeros((q, widest)), np.zeros((q, widest))
    rest, lost = np.zeros((q, widest)), np.zeros((q, widest))
    for c in range(first, last):
        begin, k = offsets[c], offsets[c + 1] - offsets[c]
        reached = False
        for r in range(k):
            for d in range(q):
                reached = reached or inflow[states[begin + r], d] > 0.0
        if not reached:
            continue
        for r in range(k):
            i = states[begin + r]
            for d in range(q):
                into[i, d] += fine * inflow[i, d]
                y[d, r], z[d, r] = inflow[i, d], into[i, d]
        if closed[c]:
            for d in range(q):
                entered = 0.0
                for r in range(k):
                    entered += y[d, r]
                for r in range(k):
                    v[states[begin + r], d] = np.inf if entered > 0.0 else 0.0
            continue
        _block(chain, classes, c, A, out, home)
        if not _factor(A, out, pivots, k, some):
            return c
        _forth(A, pivots, k, y, q)
        for r in range(k):
            i = states[begin + r]
            for d in range(q):
                v[i, d], low[i, d] = y[d, r], 0.0
        for turn in range(2):
            for r in range(k):
                i = states[begin + r]
                for d in range(q):
                    h, t = _times(v[i, d], low[i, d], home[r, 0], home[r, 1])
                    size[d, r] = abs(h) + inflow[i, d]
                    rest[d, r], lost[d, r] = _plus(inflow[i, d], inlow[i, d], -h, -t)
            for r in range(k):
                i = states[begin + r]
                for p in range(indptr[i], indptr[i + 1]):
                    j = np.uint32(indices[p])
                    if label[j] == c and j != i:
                        to = local[j]
                        for d in range(q):
                            h, t = _times(v[i, d], low[i, d], data[p], 0.0)
                            rest[d, to], lost[d, to] = _plus(rest[d, to], lost[d, to], h, t)
                            size[d, to] += abs(h)
            if turn == 0:
                for d in range(q):
                    y[d, :k] = rest[d, :k]
                _forth(A, pivots, k, y, q)
                for r in range(k):
                    i = states[begin + r]
                    for d in range(q):
                        v[i, d], low[i, d] = _plus(v[i, d], low[i, d], y[d, r], 0.0)
        for r in range(k):
            for d in range(q):
                z[d, r] += abs(rest[d, r]) + fine * size[d, r]
        _forth(A, pivots, k, z, q)
        wrong = unit + 1.01 * k * (k + 2) * (k + 3) * UNIT
        for r in range(k):
            i = states[begin + r]
            for d in range(q):
                bound[i, d] = (1 + 2 * wrong) * z[d, r]
                if not np.isfinite(v[i, d] + bound[i, d]):
                    return c
            for p in range(indptr[i], indptr[i + 1]):
                j = np.uint32(indices[p])
                if label[j] != c:
                    for d in range(q):
                        h, t = _times(v[i, d], low[i, d], data[p], 0.0)
                        inflow[j, d], inlow[j, d] = _plus(inflow[j, d], inlow[j, d], h, t)
                        into[j, d] += data[p] * bound[i, d] + fine * h
    return -1


def _gaps(chain, classes, first, last, gaps, bound):  # type: ignore[no-untyped-def]
    """Find the chance never to come back to each state; see `Solver.return_gaps`."""
    unit = chain[4]
    states, offsets, closed, _, _, widest = classes
    A, home = np.zeros((widest, widest)), np.zeros((widest, 2))
    out, pivots, some = np.zeros(widest), np.zeros(widest), np.zeros(widest, np.int64)
    y = np.zeros((widest, 1))
    for c in range(first, last):
        begin, k = offsets[c], offsets[c + 1] - offsets[c]
        if closed[c] or k == 1:
            continue
        _block(chain, classes, c, A, out, home)
        if not _factor(A, out, pivots, k, some):
            return c
        wrong = unit + 1.01 * k * (k + 2) * (k + 3) * UNIT
        for s in range(k):
            y[:k, 0] = 0.0
            y[s, 0] = 1.0
            _back(A, pivots, k, y, 1)
            gaps[states[begin + s]] = 1.0 / y[s, 0]
            bound[states[begin + s]] = (1 + 2 * wrong) * wrong / y[s, 0]
    return -1
