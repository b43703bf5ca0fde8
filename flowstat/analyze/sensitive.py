"""How far rounding may move an eigenvalue, to first order: an estimate, from its left and right eigenvectors."""

from __future__ import annotations

from contextlib import suppress

import numpy as np
import numpy.typing as npt

from flowstat.analyze.elimination import UNIT
from flowstat.analyze.near_one import distances, moves
from flowstat.analyze.perron import Part
from flowstat.analyze.scaled import Scaled
from flowstat.analyze.sought import Sought

__all__ = ["NOTHING", "SURE", "before", "conditions", "estimated"]

Vector = npt.NDArray[np.float64]
Complex = npt.NDArray[np.complex128]

SURE = 1e-6
"""By more than that, as estimated, an eigenvalue is off that is withheld."""

NOTHING = 10
"""How many times what it may be off a number is to be, to be told from 0: enough for Jordan blocks of 100, about."""

TOLD = 50
"""The same of a distance from 1."""

SAME = 1e-9
"""Left and right eigenvalues that are this near to each other count as the same."""


def conditions(
    values: Complex, right: Complex, left_values: Complex | None, left: Complex | None
) -> tuple[Vector, Vector]:
    """Return condition numbers of eigenvalues, (m,), and how far the left ones are from the right ones, (m,).

    Parameters
    ----------
    values, right : (m,), (n, m)
        Eigenvalues and right vectors.
    left_values, left : (k,), (n, k) or None
        Those of the transpose, in any order; all is `inf` if there are none.

    Notes
    -----
    A perturbation of a 2-norm of e moves a simple eigenvalue by `e |x| |y| / |y' x|`, to first order (Wilkinson, The
    Algebraic Eigenvalue Problem (1965), section 2.8); of one that is there several times, the space of its left vectors
    takes the place of y. An eigenvalue with a Jordan block of k is scattered by rounding by about its k-th root, of
    which this finds a k-th part: enough to tell that it is not known.

    Examples
    --------
    >>> A = np.array([[0.5, 1e9], [0.0, 0.25]])
    >>> values, V = np.linalg.eig(A)
    >>> left_values, W = np.linalg.eig(A.T)
    >>> bool(conditions(values + 0j, V + 0j, left_values + 0j, W + 0j)[0].min() > 1e9)
    True
    """
    result, apart = np.full(len(values), np.inf), np.full(len(values), np.inf)
    if left_values is None or left is None or not len(left_values):
        return result, apart
    for k, value in enumerate(values):
        away = np.abs(left_values - value)
        apart[k] = away.min()
        Q = np.linalg.qr(left[:, away <= max(SAME, apart[k])])[0]
        x = right[:, k] / np.linalg.norm(right[:, k])
        # Left vectors are those of the transpose: the product is without a conjugate.
        along = float(np.linalg.norm(Q.T @ x))
        if along > 0:
            result[k] = 1 / along
    return result, apart


def before(values: Complex, at: int) -> int:
    """Return how many values come before one, or before the pair that it is of."""
    return at - 1 if at and values[at].imag and values[at - 1] == values[at].conjugate() else at


def estimated(
    part: Part, scaled: Scaled, values: Complex, V: Complex, found: Sought, residual: Vector
) -> tuple[Complex, Vector, npt.NDArray[np.bool_]]:
    """Return `1 - eigenvalue` of a class that is not reversible, how far off to first order, and what is not known."""
    degree = int(np.diff(scaled.matrix.indptr).max(initial=0)) + 8
    condition, differ = conditions(values, V, found.left_values, found.left)
    estimate = np.maximum(condition * (residual + degree * UNIT * (part.root + np.abs(values))), differ)
    apart = np.asarray(1 - values, complex)
    known = estimate <= np.minimum(SURE, np.abs(apart) / TOLD)
    if found.left is None or found.left_values is None or known.all():
        return apart, estimate, ~known
    left = [int(np.argmin(np.abs(found.left_values - value))) for value in values]
    if len(set(left)) == len(left):
        # Those next to 1 by left and right vectors, which are checked with differences.
        right = np.asarray(V / scaled.d[:, None], complex)
        with suppress(np.linalg.LinAlgError):
            apart = distances(part, apart, right, np.asarray((found.left[:, left] * scaled.d[:, None]).T, complex))
        off, size = part.off.tocoo(), np.linalg.norm(V, axis=0)
        wrong = np.linalg.norm(scaled.d[:, None] * (moves(part, right) - right * apart), axis=0)
        for k in np.flatnonzero(~known):
            change = off.data * np.abs(right[off.row, k] - right[off.col, k])
            rounded = part.exits * np.abs(right[:, k]) + np.bincount(off.row, weights=change, minlength=len(right))
            near = condition[k] * (wrong[k] + degree * UNIT * np.linalg.norm(scaled.d * rounded)) / size[k]
            known[k] = near <= min(SURE, abs(apart[k]) / TOLD) and abs(apart[k] - (1 - values[k])) <= estimate[k]
            estimate[k] = min(estimate[k], near) if known[k] else estimate[k]
    return apart, estimate, ~known
