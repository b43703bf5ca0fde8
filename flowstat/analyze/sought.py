"""The leading eigenvalues of a large class, by ARPACK: from products, or from factors where they lie next to 1."""

from __future__ import annotations

from contextlib import suppress
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

NOT_FOUND = (
    "the leading eigenvalues of a class of {:,} nodes do not converge: they lie too close together. "
    "Ask for fewer (top), or restrict the chain to a part of it"
)

Complex = npt.NDArray[np.complex128]

RESTARTS = 3000
"""How often ARPACK may restart."""

INVERSIONS = 60
"""How often, where each step is a solution with the factors."""

ROOM = 1e-2
"""How rough a first look at the largest and the least eigenvalue is."""

PATIENCE = 2e9
"""Multiplications after which another way is tried."""

VECTORS = 2e7
"""How many numbers the vectors of a search may have."""

GOOD, ROUGH = 1e-12, 1e-6
"""Residuals that are sought, and that are taken where these do not come."""


def sought(part: Part, scaled: Scaled, number: int, by: str) -> tuple[Complex, Complex, bool]:
    """Return eigenvalues and vectors by ARPACK, and whether they are only those nearest to 1.

    Raises
    ------
    AnalysisError
        If they do not converge.
    """
    n = len(part.moving)
    operator = LinearOperator((n, n), matvec=scaled.deflated, dtype=np.float64)
    ncv = min(n, max(3 * number + 1, int(min(150, max(40, VECTORS / n)))))
    more: dict[str, Any] = {"k": number, "v0": np.random.default_rng(0).standard_normal(n), "ncv": ncv}
    solve: Any = eigsh if scaled.symmetric else eigs
    which = "LM" if by == "modulus" else "LA" if scaled.symmetric else "LR"
    restarts = PATIENCE / (ncv * (scaled.matrix.nnz + n * ncv))
    for times, tolerance in ((1, GOOD), (10, ROUGH)):
        most = min(max(10, int(times * restarts)), RESTARTS)
        with suppress(ArpackError):
            values, V = solve(operator, which=which, maxiter=most, tol=tolerance, **more)
            return np.asarray(values, complex), np.asarray(V, complex), False
        if _far(operator, which, solve) > 1 - ROOM:
            # They lie close together next to 1, in a slow class: from there they are far apart.
            return _near_one(part, scaled, operator, more, by)
    raise AnalysisError(NOT_FOUND.format(n))


def _near_one(
    part: Part, scaled: Scaled, operator: LinearOperator, more: dict[str, Any], by: str
) -> tuple[Complex, Complex, bool]:
    """Return eigenvalues and vectors from factors, and whether others of large modulus may be missing."""
    solve: Any = eigsh if scaled.symmetric else eigs
    try:
        values, V = solve(operator, sigma=1.0, OPinv=_inverse(part, scaled, 1.0), maxiter=INVERSIONS, tol=0, **more)
    except (ArpackError, RuntimeError):
        raise AnalysisError(NOT_FOUND.format(operator.shape[0])) from None
    nearest = not scaled.symmetric
    if scaled.symmetric and by == "modulus" and _reaches(operator, -float(np.abs(values).min())):
        below = _inverse(part, scaled, -1.0)
        try:
            least, W = solve(operator, sigma=-1.0, OPinv=below, maxiter=INVERSIONS, tol=0, **more)
            fresh = least < values.min()
            values, V = np.concatenate([values, least[fresh]]), np.hstack([V, W[:, fresh]])
        except (ArpackError, RuntimeError):
            nearest = True
    return np.asarray(values, complex), np.asarray(V, complex), nearest


def _far(operator: LinearOperator, which: str, solve: Any) -> float:
    """Return roughly the modulus, or real part, of the first one."""
    begin = np.random.default_rng(1).standard_normal(operator.shape[0])
    found = {"k": 1, "tol": ROOM / 10, "maxiter": INVERSIONS, "v0": begin, "return_eigenvectors": False}
    try:
        value = solve(operator, which=which, **found)[0]
    except ArpackError:
        return 1.0
    return float(abs(value)) if which == "LM" else float(value.real)


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
