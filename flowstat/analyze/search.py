"""Which states lead where, and how far: searches from many states at once, without a Python loop over states."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import sparse
from scipy.sparse import csgraph

__all__ = ["Tree", "backwards", "cut", "reachable", "tree", "within_classes"]

Index = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]
Vector = npt.NDArray[np.float64]

FAR = np.iinfo(np.int64).max
"""The depth of a state that is not in a tree."""


@dataclass(frozen=True)
class Tree:
    """A breadth-first forest: `depth` of each state (`FAR` outside), its `parent` (itself if a root or outside)."""

    depth: Index
    parent: Index

    @property
    def inside(self) -> Mask:
        """The states that are reached, (n,)."""
        result: Mask = self.depth < FAR
        return result


def tree(P: sparse.csr_array, roots: Mask) -> Tree:
    """Search breadth first from all of some states at once.

    Parameters
    ----------
    P : (n, n) sparse
        Its stored entries are the arrows.
    roots : (n,)
        Where to start: their depth is 0.

    Notes
    -----
    Parents come from one search from a state beside that leads to all roots, depths by doubling: each round every state
    adds the depth of the state it points to, and points twice as far. O(arrows + n log(depth)).

    Examples
    --------
    >>> line = sparse.csr_array([[0, 1, 0], [0, 0, 1], [0, 0, 0]])
    >>> tree(line, np.array([True, False, False])).depth
    array([0, 1, 2])
    """
    n = P.shape[0]
    own = np.arange(n)
    first = np.flatnonzero(roots)
    if not len(first):
        return Tree(np.full(n, FAR), own)
    indptr = np.concatenate([P.indptr, [P.indptr[-1] + len(first)]])
    indices = np.concatenate([P.indices, first]).astype(P.indices.dtype)
    beside = sparse.csr_array((np.ones(len(indices)), indices, indptr), shape=(n + 1, n + 1))
    _, before = csgraph.breadth_first_order(beside, n, directed=True, return_predecessors=True)
    before = before[:n].astype(np.int64)
    outside = before < 0
    parent = np.where(outside | (before == n), own, before)
    depth = (parent != own).astype(np.int64)
    onward = parent
    while True:
        added = depth[onward]
        if not added.any():
            break
        depth += added
        onward = onward[onward]
    depth[outside] = FAR
    return Tree(depth, parent)


def reachable(P: sparse.csr_array, roots: Mask) -> Mask:
    """Return which states some states lead to, in any number of steps, themselves included; (n,)."""
    if roots.all() or not roots.any():
        return roots.copy()
    return tree(P, roots).inside


def backwards(P: sparse.csr_array, targets: Mask) -> Tree:
    """Return the forest of the states that lead to some states: `depth` is their distance in steps."""
    return tree(sparse.csr_array(P.T), targets)


def cut(P: sparse.csr_array, rows: Mask) -> sparse.csr_array:
    """Return the matrix without the arrows that leave some states."""
    lengths = np.diff(P.indptr)
    keep = np.repeat(~rows, lengths)
    indptr = np.concatenate([[0], np.cumsum(np.where(rows, 0, lengths))]).astype(P.indptr.dtype)
    return sparse.csr_array((P.data[keep], P.indices[keep], indptr), shape=P.shape)


def within_classes(P: sparse.csr_array, label: Index) -> sparse.csr_array:
    """Return the matrix with the arrows only that stay in the class of their source; `label` tells classes, (n,)."""
    rows = np.repeat(np.arange(P.shape[0]), np.diff(P.indptr))
    keep = label[rows] == label[P.indices]
    indptr = np.concatenate([[0], np.cumsum(np.bincount(rows[keep], minlength=P.shape[0]))])
    return sparse.csr_array((P.data[keep], P.indices[keep], indptr.astype(P.indptr.dtype)), shape=P.shape)
