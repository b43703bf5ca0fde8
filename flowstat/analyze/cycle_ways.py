"""What a way back to the first node of a cycle weighs at least, for all nodes of small classes at once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from math import inf

import numpy as np
import numpy.typing as npt
from scipy import sparse
from scipy.sparse import csgraph

__all__ = ["CELLS", "FLOYD", "Part", "ranges", "strong"]

Vector = npt.NDArray[np.float64]
Index = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

CELLS = 2_000_000
"""How many numbers are held in one array."""

FLOYD = 256
"""Up to how many states of a class the ways back of all its roots are worked out."""

MOST_FLOYD = 12_000_000
"""How many of these are held in all."""


@dataclass
class Part:
    """What is left of a graph: classes of compactly numbered nodes, by class and position."""

    nodes: Index
    indptr: Index
    targets: Index
    weights: Vector
    offsets: Index
    label: Index
    base: Index = field(init=False)
    back: Vector = field(init=False)

    def __post_init__(self) -> None:
        sizes = np.diff(self.offsets)
        self.rows: Index = np.repeat(np.arange(len(self.nodes)), np.diff(self.indptr))
        cells = np.where(sizes <= FLOYD, sizes, 0) ** 2
        cells[np.cumsum(cells) > MOST_FLOYD] = 0
        self.base = np.where(cells > 0, np.cumsum(cells) - cells, -1)
        self.back = np.full(int(cells.sum()), inf)
        self.starts: Index = np.empty(len(sizes) + 1, np.int64)
        self.starts[:-1] = self.indptr[self.offsets[:-1]]
        self.starts[-1] = self.indptr[-1]
        self._floyd(sizes, cells > 0)

    def _floyd(self, sizes: Index, some: Mask) -> None:
        """Work out the ways back within classes, those of about the same size together."""
        width = np.ceil(1.25 ** np.ceil(np.log(np.maximum(sizes, 2)) / np.log(1.25) - 1e-9)).astype(np.int64)
        for s in np.unique(width[some]).tolist():
            group = np.flatnonzero(some & (width == s))
            step = max(1, CELLS // s**2)
            for begin in range(0, len(group), step):
                self._together(group[begin : begin + step], s, sizes)

    def _together(self, group: Index, s: int, sizes: Index) -> None:
        D = np.full((len(group), s, s), inf)
        at = ranges(self.starts[group], self.starts[group + 1])
        which = np.repeat(np.arange(len(group)), self.starts[group + 1] - self.starts[group])
        first = self.offsets[group][which]
        D[which, self.rows[at] - first, self.targets[at] - first] = self.weights[at]
        back = np.empty_like(D)
        for r in range(s - 1, -1, -1):
            back[:, r, :] = D[:, :, r]
            if r and len(D) == 1:
                np.minimum(D[0], D[0, :, r, None] + D[0, r], out=D[0])
            elif r:
                np.minimum(D, D[:, :, r, None] + D[:, r, None, :], out=D)
        for b, c in enumerate(group.tolist()):
            k = int(sizes[c])
            self.back[self.base[c] : self.base[c] + k * k] = back[b, :k, :k].ravel()

    def onward(self, root: Index, node: Index) -> Vector:
        """Return what a way back to the root of a small class weighs at least, from a node after it."""
        c = self.label[root]
        first = self.offsets[c]
        here: Vector = self.back[self.base[c] + (root - first) * (self.offsets[c + 1] - first) + node - first]
        return here

    def classes(self) -> Iterator[tuple[Index, tuple[Index, Index, Vector]]]:
        """Yield the nodes of each class and its arrows: `indptr`, targets by place, weights."""
        for begin, end in zip(self.offsets[:-1].tolist(), self.offsets[1:].tolist(), strict=True):
            span = slice(self.indptr[begin], self.indptr[end])
            own = self.indptr[begin : end + 1] - self.indptr[begin]
            yield self.nodes[begin:end], (own, self.targets[span] - begin, self.weights[span])


def ranges(begins: Index, ends: Index) -> Index:
    """Return the numbers from each begin to before its end, one after the other."""
    lengths = ends - begins
    result: Index = np.arange(lengths.sum()) + np.repeat(begins - (np.cumsum(lengths) - lengths), lengths)
    return result


def strong(n: int, rows: Index, columns: Index) -> Index:
    """Return the strongly connected class of each node; the arrows are sorted by their sources."""
    indptr = np.zeros(n + 1, np.int32)
    np.cumsum(np.bincount(rows, minlength=n), out=indptr[1:])
    # A search needs no more than the arrows: floats are what it asks for.
    graph = sparse.csr_array((np.ones(len(rows)), columns.astype(np.int32), indptr), shape=(n, n))
    label: Index = csgraph.connected_components(graph, directed=True, connection="strong")[1].astype(np.int64)
    return label
