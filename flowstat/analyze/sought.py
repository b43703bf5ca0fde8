"""The leading eigenvalues of a large class, by ARPACK: from products, or from factors where they lie next to 1."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse
from scipy.sparse.linalg import ArpackError, LinearOperator, eigs, eigsh, splu

from flowstat.analyze.perron import Part
from flowstat.analyze.scaled import Scaled
from flowstat.analyze.solve import Vector
from flowstat.errors import AnalysisError

__all__ = ["sought"]

Complex = npt.NDArray[np.complex128]

RESTARTS = 3000
"""How often ARPACK may restart."""

INVERSIONS = 60
"""How often, where each step is a solution with the factors."""

ROOM = 1e-2
"""How far below the least Ritz value an eigenvalue is looked for."""

PATIENCE = 2e9
"""Multiplications after which a factorisation is tried in their place."""


def sought(part: Part, scaled: Scaled, number: int, by: str) -> tuple[Complex, Complex, bool]:
    """Return eigenvalues and vectors by ARPACK, and whether they are only those nearest to 1."""
    n = len(part.moving)
    operator = LinearOperator((n, n), matvec=scaled.deflated, dtype=np.float64)
    ncv = min(n, max(40, 3 * number + 1))
    more: dict[str, Any] = {"k": number, "v0": np.random.default_rng(0).standard_normal(n), "ncv": ncv, "tol": 0}
    solve: Any = eigsh if scaled.symmetric else eigs
    which = "LM" if by == "modulus" else "LA" if scaled.symmetric else "LR"
    restarts = max(10, int(PATIENCE / (ncv * (scaled.matrix.nnz + n * ncv))))
    try:
        values, V = solve(operator, which=which, maxiter=min(restarts, RESTARTS), **more)
        return np.asarray(values, complex), np.asarray(V, complex), False
    except ArpackError:
        # They lie close together, as next to 1 they do in a slow class: from there they are far apart.
        pass
    more["maxiter"] = INVERSIONS
    try:
        values, V = solve(operator, sigma=1.0, OPinv=_inverse(part, scaled, 1.0), **more)
    except (ArpackError, RuntimeError):
        raise AnalysisError(
            f"the leading eigenvalues of a class of {n} nodes do not converge: they lie too close together. "
            "Ask for fewer (top), or restrict the chain to a part of it"
        ) from None
    nearest = not scaled.symmetric
    if scaled.symmetric and by == "modulus" and _reaches(operator, -float(np.abs(values).min())):
        try:
            below, W = solve(operator, sigma=-1.0, OPinv=_inverse(part, scaled, -1.0), **more)
            fresh = below < values.min()
            values, V = np.concatenate([values, below[fresh]]), np.hstack([V, W[:, fresh]])
        except (ArpackError, RuntimeError):
            nearest = True
    return np.asarray(values, complex), np.asarray(V, complex), nearest


def _reaches(operator: LinearOperator, value: float) -> bool:
    """Whether a symmetric matrix may have eigenvalues below a value: by its least Ritz value, with some room."""
    begin = np.random.default_rng(1).standard_normal(operator.shape[0])
    try:
        least = eigsh(operator, k=1, which="SA", tol=ROOM / 10, maxiter=INVERSIONS, v0=begin, return_eigenvectors=False)
    except ArpackError:
        return True
    return float(least[0]) - ROOM < value


def _inverse(part: Part, scaled: Scaled, end: float) -> LinearOperator:
    """Return the inverse of the deflated matrix less 1 or -1; what was deflated is 0 times itself, and split off."""
    n = len(part.moving)
    matrix = sparse.csc_array(sparse.eye_array(n) - end * scaled.matrix)
    # The matrix of a closed class may be singular: a state that is often visited is pinned.
    pinned = part.closed and (end == 1.0 or scaled.period % 2 == 0)
    keep = np.delete(np.arange(n), int(np.argmax(part.left))) if pinned else np.arange(n)
    lu = splu(sparse.csc_array(matrix[keep][:, keep]))
    right = scaled.right / part.root
    off = part.off.tocoo()

    def deflated(v: Vector) -> Vector:
        sums = np.bincount(scaled.phase, weights=scaled.left * v, minlength=scaled.period)
        return np.asarray(right * sums[scaled.phase])

    def solved(v: Vector) -> Vector:
        y = np.zeros(n)
        y[keep] = lu.solve(v[keep])
        return y - deflated(y)

    def solve(v: Vector) -> Vector:
        v = np.asarray(v, np.float64).ravel()
        there = deflated(v)
        y = solved(v - there)
        if end == 1.0:
            # The residual by differences: the rounding of the factors is undone.
            f = y / scaled.d
            change = np.bincount(off.row, weights=off.data * (f[off.row] - f[off.col]), minlength=n)
            y += solved(v - there - scaled.d * (change + part.exits * f))
        return np.asarray(-end * (y + there))

    return LinearOperator((n, n), matvec=solve, dtype=np.float64)
