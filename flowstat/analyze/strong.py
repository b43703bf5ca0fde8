"""Strongly connected classes, in the order of the arrows between them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import sparse
from scipy.sparse import csgraph

from flowstat.analyze.connected import is_one_class

__all__ = ["Classes", "strong_classes"]

Index = npt.NDArray[np.int64]


def strong_classes(P: sparse.csr_array) -> list[Index]:
    """Return the strongly connected classes, each sorted, a class before those it leads to."""
    return Classes(P).members()


class Classes:
    """The strongly connected classes of a matrix, numbered so that a class comes before those it leads to.

    Attributes
    ----------
    label : (n,)
        The class of each state.
    states, offsets
        The states class by class, each sorted; those of class c are `states[offsets[c]:offsets[c + 1]]`.
    """

    def __init__(self, P: sparse.csr_array) -> None:
        if is_one_class(P):
            n = P.shape[0]
            self.label, self.states, self.offsets = np.zeros(n, np.int64), np.arange(n), np.array([0, n])
            return
        number, label = csgraph.connected_components(P, directed=True, connection="strong")
        # The search ends with a class only after all that it leads to: so the numbers go against the arrows.
        self.label = number - 1 - label.astype(np.int64)
        rows = np.repeat(self.label, np.diff(P.indptr))
        if (rows > self.label[P.indices]).any():
            self.label = _in_order(rows, self.label[P.indices], number)[self.label]
        self.states = np.argsort(self.label, kind="stable")
        self.offsets = np.concatenate([[0], np.cumsum(np.bincount(self.label, minlength=number))])

    def members(self) -> list[Index]:
        """Return the states of every class."""
        return np.split(self.states, self.offsets[1:-1])


def _in_order(sources: Index, targets: Index, number: int) -> Index:
    """Return a place for each of some classes, by the arrows between them, none of which goes back."""
    arrows = np.unique(np.stack([sources, targets])[:, sources != targets], axis=1)
    waiting = np.bincount(arrows[1], minlength=number)
    begins = np.searchsorted(arrows[0], np.arange(number + 1))
    ready = [int(c) for c in np.flatnonzero(waiting == 0)[::-1]]
    place = np.zeros(number, np.int64)
    for k in range(number):
        c = ready.pop()
        place[c] = k
        for t in arrows[1, begins[c] : begins[c + 1]].tolist():
            waiting[t] -= 1
            if not waiting[t]:
                ready.append(t)
    return place
