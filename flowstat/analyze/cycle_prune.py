"""What is left of a graph for cycles of up to a weight: its classes, without arrows that no such cycle uses."""

from __future__ import annotations

from math import inf, isinf

import numpy as np
import numpy.typing as npt

from flowstat.analyze.cycle_ways import Part, strong

__all__ = ["Pruner"]

Vector = npt.NDArray[np.float64]
Index = npt.NDArray[np.int64]


class Pruner:
    """The arrows of a graph between different nodes, sorted by both; with a node to go through, those of its class.

    `within` has them cut down to those within classes: that is done first in a large graph, most of whose arrows may be
    in no cycle.
    """

    def __init__(self, n: int, arrows: tuple[Index, Index, Vector], through: int | None) -> None:
        self.n, self.through = n, through
        self.arrows = arrows
        self.label: Index | None = None

    def within(self) -> None:
        """Keep the arrows within strongly connected classes."""
        if self.label is None:
            # A cycle comes back by arrows to earlier nodes: where none goes back over a gap, none of its nodes are on
            # both sides. That is soon told, and in a program's order leaves little to search through.
            rows, columns, _ = self.arrows
            back = np.flatnonzero(columns < rows)
            over = np.bincount(columns[back], minlength=self.n) - np.bincount(rows[back], minlength=self.n)
            block = np.cumsum(np.cumsum(over) == 0)
            block[1:] = block[:-1].copy()
            block[:1] = 0
            self._keep(block)
            self.label = strong(self.n, *self.arrows[:2])
            self._keep(self.label)

    def _keep(self, label: Index) -> None:
        rows, columns, weights = self.arrows
        inside = np.flatnonzero(self._inside(label, rows, columns))
        self.arrows = rows[inside], columns[inside], weights[inside]

    def _inside(self, label: Index, rows: Index, columns: Index) -> npt.NDArray[np.bool_]:
        inside: npt.NDArray[np.bool_] = label[rows] == label[columns]
        if self.through is not None:
            inside &= label[rows] == label[self.through]
        return inside

    def pairs(self) -> Vector:
        """Return the weights of the cycles of two nodes."""
        rows, columns, weights = self.arrows
        key, other = rows * self.n + columns, columns * self.n + rows
        at = np.minimum(np.searchsorted(key, other), max(len(key) - 1, 0))
        both = (rows < columns) & (key[at] == other) if len(key) else np.zeros(0, bool)
        if self.through is not None:
            both &= (rows == self.through) | (columns == self.through)
        found: Vector = (weights + weights[at])[both]
        return found

    def run(self, level: float) -> tuple[Part | None, Index, float]:
        """Prune.

        Parameters
        ----------
        level
            The weight up to which cycles are sought.

        Returns
        -------
        What is left, None if nothing is; where cycles may begin in it; and the least that a cycle through an arrow may
        weigh that was left out as too heavy (`inf` if none was).
        """
        rows, columns, weights = self.arrows
        beyond = inf
        while len(rows):
            if not isinf(level):
                out, into = np.full(self.n, inf), np.full(self.n, inf)
                np.minimum.at(out, rows, weights)
                np.minimum.at(into, columns, weights)
                bound = weights + np.maximum(out[columns], into[rows])
                light = bound <= level
                if not light.all():
                    beyond = min(beyond, float(bound[~light].min()))
                    rows, columns, weights = rows[light], columns[light], weights[light]
            if isinf(beyond) and self.label is not None:
                label = self.label
                break
            label = strong(self.n, rows, columns)
            inside = self._inside(label, rows, columns)
            if inside.all():
                break
            rows, columns, weights = rows[inside], columns[inside], weights[inside]
            if isinf(level):
                break
        if not len(rows):
            return None, rows, beyond
        # Numbered by class, and by position in it; the node to go through comes first.
        few = 16 * len(rows) < self.n
        there = np.unique(rows) if few else np.flatnonzero(np.bincount(rows, minlength=self.n))
        rank = there if self.through is None else np.where(there == self.through, -1, there)
        nodes = there[np.lexsort([rank, label[there]])]
        number = np.full(self.n, -1)
        number[nodes] = np.arange(len(nodes))
        sources, targets = number[rows], number[columns]
        order = np.lexsort([targets, sources])
        indptr = np.concatenate([[0], np.cumsum(np.bincount(sources, minlength=len(nodes)))])
        marks = label[nodes]
        offsets = np.concatenate([[0], np.flatnonzero(np.diff(marks)) + 1, [len(nodes)]])
        own = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
        part = Part(nodes, indptr, targets[order], weights[order], offsets, own)
        return part, np.arange(len(nodes)) if self.through is None else number[[self.through]], beyond
