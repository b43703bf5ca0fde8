"""The work of `flowstat.analyze.sweeps` on a class's arrows, for numba to compile."""

from __future__ import annotations

import logging
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from flowstat.analyze import doubles
from flowstat.analyze.compiled import compiled

__all__ = ["sweeping"]


@cache
def sweeping() -> Any:
    """Return the compiled functions; None where there is no numba."""
    try:
        plus, times, _ = doubles.arithmetic()
    except ImportError:
        return None
    import numba

    if not any((Path(__file__).parent / "__pycache__").glob("sweep_code._*.nbi")):
        logging.getLogger("flowstat").warning("compiling the solver for large classes: once, for some ten seconds")
    globals().update(_plus=plus, _times=times, _row=numba.njit(_new, inline="always"))
    globals().update(_sweep=compiled(_swept))
    made = SimpleNamespace(sweep=_sweep)
    for function in (_follow, _cut, _turned, _scaled, _balance, _improve, _rest, _proven, _worst, _share, _handed):
        setattr(made, function.__name__.removeprefix("_"), compiled(function))
    return made


_plus: Any = None  # put in place when the others are compiled
_times: Any = None
_row: Any = None
_sweep: Any = None


def _follow(indptr, indices, data, states, place):  # type: ignore[no-untyped-def]
    """Put each state after the one that it most often leads to, unless these go round; fill in their places."""
    n = len(place)
    ahead = np.full(n, -1, np.int32)
    for i in states:
        most = 0.0
        for p in range(indptr[i], indptr[i + 1]):
            if data[p] > most and indices[p] != i and place[np.uint32(indices[p])] != -1:
                most, ahead[i] = data[p], indices[p]
    # Those that follow a state, as a list each.
    first, after = np.full(n, -1, np.int32), np.full(n, -1, np.int32)
    for k in range(len(states) - 1, -1, -1):
        i = states[k]
        if ahead[i] >= 0:
            after[i], first[ahead[i]] = first[ahead[i]], i
    order, stack = np.empty(len(states), np.int32), np.empty(len(states), np.int32)
    number = 0
    for s in states:
        if place[s] != -2:
            continue
        # Where the way from here ends, or goes round.
        i = s
        while place[i] == -2:
            place[i] = -3
            if ahead[i] < 0 or place[ahead[i]] != -2:
                break
            i = ahead[i]
        stack[0], top = i, 1
        while top:
            top -= 1
            i = stack[top]
            order[number], place[i] = i, number
            number += 1
            j = first[i]
            while j >= 0:
                if place[j] < -1 and j != stack[0]:
                    stack[top] = j
                    top += 1
                j = after[j]
    return order


def _cut(chain, order, place, begins, to, shares, moving, first, last):  # type: ignore[no-untyped-def]
    """Fill in the arrows of some rows, and the chances to move; an arrow out of the class leads nowhere, with 0."""
    indptr, indices, data, stop = chain
    for r in range(first, last):
        i, m = order[r], begins[r]
        h, low = stop[i], 0.0
        for p in range(indptr[i], indptr[i + 1]):
            j, share = np.uint32(indices[p]), data[p]
            to[m], shares[m] = r, 0.0
            if j != i:
                h, low = _plus(h, low, share, 0.0)
                if place[j] >= 0:
                    to[m], shares[m] = place[j], share
            m += 1
        moving[r, 0], moving[r, 1] = h, low
    return True


def _turned(indptr, indices, shares):  # type: ignore[no-untyped-def]
    """Return a CSR transposed."""
    n = len(indptr) - 1
    begins = np.zeros(n + 1, indptr.dtype)
    for j in indices:
        begins[j + 1] += 1
    for i in range(n):
        begins[i + 1] += begins[i]
    ends = begins[:-1].copy()
    to, values = np.empty_like(indices), np.empty_like(shares)
    for i in range(n):
        for p in range(indptr[i], indptr[i + 1]):
            at = ends[indices[p]]
            to[at], values[at] = i, shares[p]
            ends[indices[p]] = at + 1
    return begins, to, values


def _scaled(indptr, indices, shares, moving):  # type: ignore[no-untyped-def]
    """Return each row by its chance to move, one by that, and whether more leads to states before than after."""
    n = len(moving)
    found, inverse = np.empty(len(shares), np.float32), np.empty(n, np.float32)
    ahead = 0.0
    for i in range(n):
        one = 1.0 / moving[i, 0]
        inverse[i] = one
        for p in range(indptr[i], indptr[i + 1]):
            share = shares[p] * one
            found[p] = share
            ahead += share if indices[p] > i else -share
    return found, inverse, ahead <= 0.0


def _balance(indptr, indices, shares, moving, weights):  # type: ignore[no-untyped-def]
    """Return `weights M` and `M 1`."""
    n = len(moving)
    shape, inward = np.empty(n), np.empty(n)
    for i in range(n):
        shape[i] = weights[i] * moving[i, 0]
    for i in range(n):
        total = 0.0
        for p in range(indptr[i], indptr[i + 1]):
            shape[np.uint32(indices[p])] -= weights[i] * shares[p]
            total += shares[p]
        inward[i] = moving[i, 0] - total
    return shape, inward


def _new(indptr, indices, scaled, t, y, i):  # type: ignore[no-untyped-def]
    """Return the new value of a state: four arrows at a time, which need not wait for each other."""
    p, end = indptr[i], indptr[i + 1]
    total = t[i]
    while end - p >= 4:
        a = scaled[p] * y[np.uint32(indices[p])] + scaled[p + 1] * y[np.uint32(indices[p + 1])]
        b = scaled[p + 2] * y[np.uint32(indices[p + 2])] + scaled[p + 3] * y[np.uint32(indices[p + 3])]
        total += a + b
        p += 4
    while p < end:
        total += scaled[p] * y[np.uint32(indices[p])]
        p += 1
    return total


def _swept(indptr, indices, scaled, t, y, times, upward):  # type: ignore[no-untyped-def]
    """Sweep some times; return the largest change of the last."""
    n = len(y)
    changed = abs(y[0] - y[0])
    for s in range(times):
        last = s == times - 1
        if upward:
            for i in range(n):
                total = _row(indptr, indices, scaled, t, y, i)
                if last:
                    changed = max(changed, abs(total - y[i]))
                y[i] = total
        else:
            for i in range(n - 1, -1, -1):
                total = _row(indptr, indices, scaled, t, y, i)
                if last:
                    changed = max(changed, abs(total - y[i]))
                y[i] = total
    return changed


def _improve(matrix, whole, rest, x, t, y, upward, how):  # type: ignore[no-untyped-def]
    """Add to x what solves for the rest, roughly."""
    indptr, indices, scaled, inverse = matrix
    weights, shape, direction, along = whole
    times, most, enough, finest = how
    n = len(rest)
    largest = full = balance = 0.0
    for i in range(n):
        largest = max(largest, abs(rest[i]) * inverse[i])
        full += weights[i] * along[i]
        balance += weights[i] * rest[i]
    if largest == 0.0:
        return True
    if not (largest < 1e290 and full > 0.0):
        return False
    # The balance first: sweeps have then only to settle how it is spread.
    shift = balance / full
    for i in range(n):
        t[i], y[i] = (rest[i] - shift * along[i]) * inverse[i] / largest, 0.0
    shift /= largest
    balance = 0.0
    for _ in range(0, most, times):
        changed = _sweep(indptr, indices, scaled, t, y, times, upward)
        more, size = balance, 0.0
        for i in range(n):
            more -= shape[i] * y[i]
            size = max(size, abs(y[i]))
        more /= full
        if not np.isfinite(more):
            return False
        shift += more
        if changed <= max(enough, finest * size):
            break
        balance -= more * full
        for i in range(n):
            t[i] -= np.float32(more * along[i]) * inverse[i]
    for i in range(n):
        x[i, 0], x[i, 1] = _plus(x[i, 0], x[i, 1], largest * (y[i] + shift * direction[i]), 0.0)
    return True


def _rest(matrix, b, x, rest, off, fine, first, last):  # type: ignore[no-untyped-def]
    """Find what x leaves of the right side b, and how much that is at most; return whether these are numbers."""
    indptr, indices, shares, moving = matrix
    good = True
    for i in range(first, last):
        h, low = _times(x[i, 0], x[i, 1], moving[i, 0], moving[i, 1])
        size = abs(h) + abs(b[i])
        h, low = _plus(b[i], 0.0, -h, -low)
        for p in range(indptr[i], indptr[i + 1]):
            j = np.uint32(indices[p])
            ph, pl = _times(x[j, 0], x[j, 1], shares[p], 0.0)
            h, low = _plus(h, low, ph, pl)
            size += abs(ph)
        rest[i], off[i] = h, abs(h) + fine * size
        good = good and np.isfinite(off[i])
    return good


def _proven(b, x, rest, off):  # type: ignore[no-untyped-def]
    """Return whether an answer is positive, whether it proves bounds, and what does: see `Proof`."""
    n = len(b)
    values, least, along = np.empty(n), np.empty(n), np.empty(n)
    positive = proven = True
    for i in range(n):
        values[i], least[i], along[i] = x[i, 0] + abs(x[i, 1]), b[i] - off[i], b[i] - rest[i]
        positive = positive and x[i, 0] > 0.0
        proven = proven and least[i] > 0.0
    return positive, proven, values, least, along


def _worst(off, wrong, least, order):  # type: ignore[no-untyped-def]
    """Return the largest of what is off in the order of the rows, or wrong in that of the class, by what proves it."""
    most = 0.0
    for i in range(len(off)):
        most = max(most, off[i] / least[i])
    for i in range(len(order) if len(wrong) else 0):
        most = max(most, wrong[order[i]] / least[i])
    return most


def _share(right, wrong):  # type: ignore[no-untyped-def]
    """Return what share of a right side is wrong at most; infinity if none bounds it."""
    most = 0.0
    for i in range(len(right)):
        if wrong[i] > 0.0:
            most = max(most, wrong[i] / right[i] if right[i] > 0.0 else np.inf)
        if right[i] < 0.0:
            most = np.inf
    return most


def _handed(found, values, ratios, share, order, x, bound):  # type: ignore[no-untyped-def]
    """Put an answer and its bound in the order of the class.

    What is wrong in the right side comes out as what proves it does, or in its share of the answer.
    """
    own, inherited = ratios
    for i in range(len(order)):
        off = values[i] * own + abs(found[i, 1])
        x[order[i]] = found[i, 0]
        more = values[i] * inherited
        if share < np.inf:
            more = min(more, 1.01 * share * (abs(found[i, 0]) + off))
        bound[order[i]] = off + more
