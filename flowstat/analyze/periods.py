"""The period of every class, and at which turn of it each state comes: of all classes in one search."""

from __future__ import annotations

import numpy as np
from scipy import sparse

from flowstat.analyze.search import Index, tree, within_classes

__all__ = ["phases"]


def phases(P: sparse.csr_array, members: list[Index]) -> tuple[Index, Index]:
    """Return the period of each class, 0 without a cycle, and each state's turn in it, from the class's first state.

    Parameters
    ----------
    P : (n, n) sparse
        Its stored entries are the arrows.
    members
        The states of every strongly connected class.

    Returns
    -------
    periods : (classes,)
    turns : (n,)
        An arrow within a class leads from turn k to turn k + 1, modulo the period; 0 where the period is 0 or 1.

    Notes
    -----
    The period is the greatest common divisor of `depth(i) + 1 - depth(j)` over the arrows of the class, with the depths
    in any tree that spans it (Denardo, Mathematics of Operations Research 2 (1977)). O(arrows + n log(depth)).

    Examples
    --------
    >>> ring = sparse.csr_array([[0, 1, 0], [0, 0, 1], [1, 0, 0]])
    >>> phases(ring, [np.arange(3)])
    (array([3]), array([0, 1, 2]))
    """
    n, number = P.shape[0], len(members)
    sizes = np.fromiter(map(len, members), np.int64, number)
    label = np.empty(n, np.int64)
    states = np.concatenate(members)
    label[states] = np.repeat(np.arange(number), sizes)
    inner = within_classes(P, label)
    roots = np.zeros(n, bool)
    roots[states[np.cumsum(sizes) - sizes]] = True
    depth = tree(inner, roots).depth
    rows = np.repeat(np.arange(n), np.diff(inner.indptr))
    around = np.abs(depth[rows] + 1 - depth[inner.indices])
    order = np.argsort(label[rows], kind="stable")
    cyclic, first = np.unique(label[rows][order], return_index=True)
    periods = np.zeros(number, np.int64)
    if len(cyclic):
        periods[cyclic] = np.gcd.reduceat(around[order], first)
    turns: Index = depth % np.maximum(periods, 1)[label]
    return periods, turns
