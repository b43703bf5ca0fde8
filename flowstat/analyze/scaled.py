"""A class's matrix scaled by its Perron vectors, its known eigenvalues deflated to 0."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import sparse

from flowstat.analyze.perron import Part
from flowstat.analyze.solve import Index, Vector
from flowstat.errors import AnalysisError

__all__ = ["Scaled", "scale"]

SYMMETRIC = 1e-12
"""How far a scaled matrix may be from symmetric, row by row, for the symmetric methods."""


ALIKE = 1e-8
"""How far two entries may be from each other, relatively: where both are tiny, too, they are to be alike."""


@dataclass(frozen=True)
class Scaled:
    """A class's scaled matrix, and the vectors that deflate the eigenvalues of its Perron circle.

    Attributes
    ----------
    matrix : (n, n) sparse
        `D P D^-1`.
    d, right, left : (n,)
        The scaling, and the Perron vectors of the scaled matrix, right with the root; of each phase, left has mass 1.
    phase, period
        Which states go round together; 0 and 1 where only the root itself is to be deflated.
    symmetric
        Whether the scaled matrix is, but for rounding.
    """

    matrix: sparse.csr_array
    d: Vector
    right: Vector
    left: Vector
    phase: Index
    period: int
    symmetric: bool

    def deflated(self, v: Any) -> Any:
        """Return the deflated matrix times a vector."""
        sums = np.bincount(self.phase, weights=self.left * v, minlength=self.period)
        return self.matrix @ v - self.right * np.roll(sums, -1)[self.phase]

    def transposed(self, v: Any) -> Any:
        """Return the transpose of the deflated matrix times a vector."""
        sums = np.bincount(self.phase, weights=self.right * v, minlength=self.period)
        return self.matrix.T @ v - self.left * np.roll(sums, 1)[self.phase]


def scale(part: Part, period: int) -> Scaled:
    """Scale a class by `sqrt(left / right)`: its 2-norm is its root then, and a reversible class symmetric.

    Parameters
    ----------
    part
        A class.
    period
        Its period, to deflate all eigenvalues of its Perron circle, or 1 to deflate the root only.
    """
    with np.errstate(all="ignore"):
        d = np.sqrt(part.left / part.right)
    if not (np.isfinite(d).all() and (d > 0).all() and d.max() / d.min() < 1e140):
        # No scaling helps where numbers end.
        d = np.ones(len(part.left))
    matrix = sparse.csr_array(sparse.diags_array(d) @ part.matrix() @ sparse.diags_array(1 / d))
    right, left = d * part.right, part.left / d
    phase = part.phase % period if period == part.period else np.zeros(len(d), np.int64)
    mass = np.bincount(phase, weights=right * left, minlength=period)
    if not (mass > 0).all():
        raise AnalysisError(f"the long-run law of a class of {len(d)} nodes spans too many orders of magnitude")
    skew = abs(matrix - matrix.T)
    uneven = skew - ALIKE * (matrix + matrix.T)
    symmetric = bool(np.asarray(skew.sum(axis=1)).max(initial=0.0) <= SYMMETRIC and not (uneven.data > 0).any())
    # The Perron root goes with the right vector, so that what is deflated is its product with the left one.
    return Scaled(matrix, d, part.root * right, left / mass[phase], phase, period, symmetric)
