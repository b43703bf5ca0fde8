"""Where the eigenvalues of a class that is decomposed whole are, proven; and how many are exactly 0."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import sparse
from scipy.optimize import linear_sum_assignment
from scipy.sparse import csgraph

from flowstat.analyze.elimination import UNIT
from flowstat.analyze.perron import Part
from flowstat.analyze.solve import Vector

__all__ = ["covered", "discs"]

Complex = npt.NDArray[np.complex128]


def covered(part: Part) -> int:
    """Return how many states disjoint cycles of arrows can cover: as many eigenvalues, at most, are not 0."""
    arrows = part.off.toarray() > 0
    np.fill_diagonal(arrows, part.loops)
    # A state that no cycle covers stays where it is, which costs more than an arrow.
    cost = np.where(arrows, 0.0, np.inf)
    np.fill_diagonal(cost, np.where(np.diag(arrows), 0.0, 1.0))
    rows, columns = linear_sum_assignment(cost)
    return len(rows) - int(cost[rows, columns].sum())


def discs(values: Complex, V: Complex, W: Complex, wrong: Vector) -> Vector:
    """Return how far each value may be from its eigenvalue, by Gershgorin's discs of `V^-1 P V`."""
    n = len(values)
    with np.errstate(all="ignore"):
        size = np.abs(W)
        defect = np.abs(W @ V - np.eye(n)) + (n + 3) * UNIT * (size @ np.abs(V))
        far = float(defect.sum(axis=1).max())
        if not far < 0.5:
            return np.full(n, np.inf)
        row = (size @ wrong).sum(axis=1)
        radius = 1.01 * (row + far / (1 - far) * row.max())
    between = np.abs(values[:, None] - values[None, :])
    label = csgraph.connected_components(sparse.csr_array(between <= radius[:, None] + radius[None, :]))[1]
    reach = np.where(label[:, None] == label[None, :], between + radius[None, :], 0.0)
    return np.asarray(reach.max(axis=1))
