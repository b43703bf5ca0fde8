"""Eigenvalues next to 1, as distances from 1: sums of differences along arrows, where `1 - value` would be rounding.

Of a nearly decomposable class the slow eigenvectors hardly change along the arrows that are often taken. The
differences of two floats are right to their last digit, so that `u (I - P) f = sum u_i p_ij (f_i - f_j)` loses nothing
more, and what is wrong with the vectors comes in twice multiplied (Rayleigh and Ritz).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import sparse

from flowstat.analyze.elimination import UNIT
from flowstat.analyze.perron import Part
from flowstat.analyze.solve import Vector

__all__ = ["distances", "enclosed", "is_tree", "moves"]

Complex = npt.NDArray[np.complex128]

NEAR = 1e-6
"""Eigenvalues this near to 1 are worked out again."""


def moves(part: Part, f: Complex) -> Complex:
    """Return `(I - P) f`, (n, m), as sums of differences along the arrows: small where f hardly changes."""
    off = part.off.tocoo()
    result = part.exits[:, None] * f
    for k in range(f.shape[1]):
        change = off.data * (f[off.row, k] - f[off.col, k])
        result[:, k] += np.bincount(off.row, weights=change.real, minlength=len(f))
        result[:, k] += 1j * np.bincount(off.row, weights=change.imag, minlength=len(f))
    return np.asarray(result)


def distances(part: Part, apart: Complex, right: Complex, left: Complex) -> Complex:
    """Return `1 - eigenvalue`, (m,), those near 1 worked out again in the space of their vectors.

    Parameters
    ----------
    apart : (m,)
        As far as the eigenvalues tell.
    right : (n, m)
    left : (m, n)
        The eigenvectors.
    """
    near = np.flatnonzero(np.abs(apart) < NEAR)
    if not len(near):
        return apart
    mass = part.left @ part.right
    F, U = right[:, near], left[near]
    pairs = bool((np.sort_complex(apart[near]) == np.sort_complex(apart[near].conj())).all())
    if pairs:
        # In a real basis of the same space conjugates stay conjugates.
        turned = (apart[near].imag > 0)[None, :]
        F, U = np.where(turned, F.imag, F.real) + 0j, np.where(turned.T, U.imag, U.real) + 0j
    F = F - np.multiply.outer(part.right, part.left @ F / mass)
    U = U - np.multiply.outer(U @ part.right / mass, part.left)
    small = np.linalg.solve(U @ F, U @ moves(part, F))
    found = np.linalg.eigvals(small.real).conj() if pairs else np.linalg.eigvals(small)
    if np.abs(apart[near].imag).max() == 0 and np.abs(found.imag).max() <= 1e-8 * np.abs(found).max():
        found = found.real + 0j
    result = apart.copy()
    result[near[np.argsort(np.abs(apart[near]), kind="stable")]] = found[np.argsort(np.abs(found), kind="stable")]
    return result


def is_tree(part: Part) -> bool:
    """Whether the arrows between different states are a tree, there and back: then a closed class is reversible."""
    n = len(part.moving)
    pattern = sparse.csr_array((np.ones(part.off.nnz), part.off.indices, part.off.indptr), shape=part.off.shape)
    return part.off.nnz == 2 * (n - 1) and not (pattern - pattern.T).count_nonzero()


def enclosed(part: Part, f: Vector, third: float) -> tuple[float, float]:
    """Return the gap `1 - second eigenvalue` of a reversible closed class and its bound, relative to its size.

    With f any vector without a constant part, its Rayleigh quotient t is no less than the gap, and the gap no less than
    `t - r^2 / (third - t)` with r the norm of its residual (Temple and Kato; Parlett, The Symmetric Eigenvalue Problem
    (1998), section 10.3).

    Parameters
    ----------
    f : (n,)
        Nearly the second right eigenvector.
    third
        A lower bound of 1 minus the third eigenvalue.

    Returns
    -------
    gap, bound
        The bound is `inf` where the third eigenvalue may be as near to 1.

    Examples
    --------
    >>> from flowstat.analyze.perron import part_of
    >>> from flowstat.analyze.solve import Solver
    >>> part = part_of(Solver(sparse.csr_array([[1.0, 1e-20], [3e-20, 1.0]]), np.zeros(2)), 0)
    >>> gap, bound = enclosed(part, np.array([1.0, -3.0]), 2.0)
    >>> round(gap / 4e-20, 12), bound < 1e-32
    (1.0, True)
    """
    n = len(f)
    pi = part.left / part.left.sum()
    law = part.left_doubt + (n + 4) * UNIT
    off = part.off.tocoo()
    f = f - pi @ f
    change = f[off.row] - f[off.col]
    energy = float((pi[off.row] * off.data) @ change**2) / 2
    size = float(pi @ f**2)
    # The constant part that is left in f, as far as the law and rounding tell.
    constant = 1.01 * (law + (n + 2) * UNIT) * float(pi @ np.abs(f))
    least = size * (1 - law - (n + 4) * UNIT) - constant**2
    if not (energy > 0 and least > 0):
        return energy / size if size else 0.0, np.inf
    quotient = energy / size
    high = energy * (1 + law + (off.nnz + 8) * UNIT) / least
    left = np.bincount(off.row, weights=off.data * change, minlength=n) - quotient * f
    degree = np.bincount(off.row, minlength=n) + 6
    rounded = np.bincount(off.row, weights=off.data * np.abs(change), minlength=n) + quotient * np.abs(f)
    wrong = np.abs(left) + degree * UNIT * rounded + (high - quotient + UNIT * quotient) * np.abs(f)
    wrong += quotient * constant
    residual = float(pi @ wrong**2) * (1 + law + (n + 4) * UNIT) / least
    if third <= 1.01 * high:
        return quotient, np.inf
    low = quotient - residual / (third - high)
    return quotient, 1.01 * max(high - quotient, quotient - low) + 4 * UNIT * quotient
