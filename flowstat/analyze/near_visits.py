"""How often a state of a large class is come back to, at most, found by looking no farther than needed.

A column of `N = (I - P)^-1` is `x + N r`: at first x is 0 and r a unit vector, and what r holds at a state is moved to
x, and along the arrows that lead there to r. What is left of r lies ever farther away and thinner, and `N r` is no more
than its largest entry times the longest stay. So x is a lower bound of the column, and with that an upper one. The
cost of a column does not grow with the class. Source: Andersen et al., Local computation of PageRank contributions
(WAW 2007).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from scipy import sparse

from flowstat.analyze.compiled import compiled
from flowstat.analyze.solve import Index, Vector

__all__ = ["Near", "near_visits"]

MOST = 20_000
"""How many arrows are looked at for a state, and what is left then is left to the bound."""

ALL = 600_000_000
"""How many are looked at for all together: fewer each, of a class of more than 30,000 states."""

COMPILED = 1_000
"""From how many states on compiled code looks: below, compiling would take longer."""

SLOWER = 10
"""How much slower it is without compiled code: so many times fewer arrows are looked at."""

COLUMNS = 1_024
"""How many columns are worked on at a time without compiled code."""

MARGIN = 1e-9
"""By how much upper bounds are raised, relatively, and lower ones lowered: more than rounding takes away."""


@dataclass(frozen=True)
class Near:
    """Bounds of `N = (I - P)^-1` of a class.

    Attributes
    ----------
    most : (k,)
        Upper bounds of the diagonal.
    forth, back : (m,)
        Lower bounds of `N_ij` and of `N_ji` for each arrow i -> j of the block, in its order.
    """

    most: Vector
    forth: Vector
    back: Vector


def near_visits(block: sparse.csr_array, stay: Vector, little: float) -> Near:
    """Return bounds of the visits of a class of k states.

    Parameters
    ----------
    block : (k, k)
        Chances within the class, with sorted indices.
    stay : (k,)
        How long runs stay from each state on, at most: row sums of N.
    little
        What may be left to the bounds of the visits.

    Notes
    -----
    At most `MOST` arrows a state, and some thousands where runs are spread soon.

    Examples
    --------
    >>> block = sparse.csr_array(np.array([[0.5, 0.25], [0.25, 0.0]]))
    >>> near_visits(block, np.array([3.0, 2.0]), 0.1).most >= [16 / 7, 8 / 7]
    array([ True,  True])
    """
    k = block.shape[0]
    into = sparse.csc_array(block)
    into.sort_indices()
    thin, most = little / stay, min(MOST, max(1, ALL // k))
    kernel = _kernel() if k >= COMPILED else None
    if kernel is None:
        x, rest, forth, back = _together(block, thin, most if k < COMPILED else most // SLOWER)
    else:
        x, rest = np.empty(k), np.empty(k)
        forth, back = np.empty(block.nnz), np.empty(block.nnz)
        arrows = (into.indptr, into.indices, into.data), (block.indptr, block.indices)
        kernel(*arrows, thin, most, x, rest, forth, back)
        forth[:] = forth[_places(block)]
    return Near((x + rest * stay) * (1 + MARGIN), forth * (1 - MARGIN), back * (1 - MARGIN))


def _places(block: sparse.csr_array) -> Index:
    """Return where each arrow is in the order of columns."""
    rows: Index = np.repeat(np.arange(block.shape[0]), np.diff(block.indptr))
    places = np.empty(block.nnz, np.int64)
    places[np.lexsort((rows, block.indices))] = np.arange(block.nnz)
    return places


def _together(block: sparse.csr_array, thin: Vector, most: int) -> tuple[Vector, Vector, Vector, Vector]:
    """Return the diagonal of x, the largest of r, and x along arrows, many columns at a time."""
    k = block.shape[0]
    marks = sparse.csr_array((np.arange(1.0, block.nnz + 1), block.indices, block.indptr), shape=(k, k))
    diagonal, rest = np.zeros(k), np.zeros(k)
    forth, back = np.zeros(block.nnz), np.zeros(block.nnz)
    for begin in range(0, k, COLUMNS):
        some = np.arange(begin, min(begin + COLUMNS, k))
        width, done = len(some), np.zeros(len(some))
        R = sparse.csc_array((np.ones(width), (some, np.arange(width))), shape=(k, width))
        X = sparse.csc_array((k, width))
        while True:
            column = np.repeat(np.arange(width), np.diff(R.indptr))
            large = (R.data > thin[some[column]]) & (done[column] < most)
            if not large.any():
                break
            moved = R.copy()
            moved.data[~large] = 0.0
            moved.eliminate_zeros()
            done += np.bincount(column[large], minlength=width) * max(1.0, block.nnz / k)
            X = X + moved
            R = sparse.csc_array(R - moved + block @ moved)
            R.eliminate_zeros()
        np.maximum.at(rest, some[np.repeat(np.arange(width), np.diff(R.indptr))], R.data)
        dense = sparse.csr_array(X)
        diagonal[some] = dense[some, np.arange(width)]
        for place, along in ((forth, marks[:, some]), (back, sparse.csr_array(marks[some].T))):
            each = sparse.coo_array(along)
            there = each.data.astype(np.int64) - 1
            place[there] = np.asarray(dense[each.row, each.col]).ravel()
    return diagonal, rest, forth, back


@cache
def _kernel() -> Any:
    try:
        return compiled(_looked)
    except ImportError:
        return None


def _looked(into, onward, thin, most, x_own, rest, forth, back):  # type: ignore[no-untyped-def]
    """Do as `_together`, a column at a time; `forth` is in the order of columns."""
    indptr, sources, data = into
    starts, targets = onward
    k = len(thin)
    x, r = np.zeros(k), np.zeros(k)
    known, waits = np.zeros(k, np.bool_), np.zeros(k, np.bool_)
    touched, queue = np.empty(k, np.int64), np.empty(k, np.int64)
    for j in range(k):
        r[j], known[j], waits[j] = 1.0, True, True
        touched[0], queue[0] = j, j
        number, head, length, work, level = 1, 0, 1, 0, max(thin[j], 0.25)
        while work < most:
            while length > 0 and work < most:
                i = queue[head]
                head = (head + 1) % k
                length -= 1
                waits[i] = False
                a = r[i]
                r[i] = 0.0
                x[i] += a
                for p in range(indptr[i], indptr[i + 1]):
                    u = sources[p]
                    work += 1
                    if not known[u]:
                        known[u] = True
                        touched[number] = u
                        number += 1
                    r[u] += data[p] * a
                    if r[u] > level and not waits[u]:
                        waits[u] = True
                        queue[(head + length) % k] = u
                        length += 1
            if level <= thin[j]:
                break
            # What is thick first: where the work ends, nothing thick is left.
            level = max(0.25 * level, thin[j])
            for t in range(number):
                u = touched[t]
                if r[u] > level and not waits[u]:
                    waits[u] = True
                    queue[(head + length) % k] = u
                    length += 1
        x_own[j] = x[j]
        for p in range(indptr[j], indptr[j + 1]):
            forth[p] = x[sources[p]]
        for p in range(starts[j], starts[j + 1]):
            back[p] = x[targets[p]]
        largest = 0.0
        for t in range(number):
            u = touched[t]
            largest = max(largest, r[u])
            x[u], r[u], known[u], waits[u] = 0.0, 0.0, False, False
        rest[j] = largest
