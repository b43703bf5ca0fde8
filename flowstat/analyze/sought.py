"""The leading eigenvalues of a large class, by ARPACK: from products, or from factors where they lie next to 1."""

from __future__ import annotations

from contextlib import suppress
from math import exp, log
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse
from scipy.sparse import csgraph
from scipy.sparse.linalg import ArpackError, ArpackNoConvergence, LinearOperator, eigs, eigsh, splu

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

GROWN = 400
"""After how many products a vector grows by what is the largest modulus, nearly."""

PATIENCE = 2e9
"""Multiplications after which another way is tried."""

FACTORS = 3e7
"""How many numbers the factors of a band may have."""

VECTORS = 2e7
"""How many numbers the vectors of a search may have."""

GOOD, ROUGH = 1e-12, 1e-6
"""Residuals that are sought, and that are taken where these do not come."""


def sought(part: Part, scaled: Scaled, number: int, by: str) -> tuple[Complex, Complex, bool]:
    """Return eigenvalues and vectors by ARPACK, and whether they are only those nearest to 1.

    They are fewer than asked for where only some stand out from the others.

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
    sure = 0
    for times, tolerance in ((1, GOOD), (10, ROUGH)):
        more |= {"which": which, "maxiter": min(max(10, int(times * restarts)), RESTARTS), "tol": tolerance}
        try:
            return _complex(solve(operator, **more))
        except ArpackNoConvergence as error:
            sure = len(error.eigenvalues)
        if tolerance == GOOD and _narrow(scaled.matrix) and _growth(scaled, more["v0"]) > 1 - ROOM:
            # They lie close together next to 1, in a slow class: from there they are far apart.
            return _near_one(part, scaled, operator, more, by)
    # Some stand out, and the others do not: those are found.
    while sure:
        with suppress(ArpackNoConvergence):
            return _complex(solve(operator, **more | {"k": sure}))
        sure -= 1
    raise AnalysisError(NOT_FOUND.format(n))


def _complex(found: tuple[Any, Any], nearest: bool = False) -> tuple[Complex, Complex, bool]:
    values, V = found
    return np.asarray(values, complex), np.asarray(V, complex), nearest


def _narrow(matrix: sparse.csr_array) -> bool:
    """Whether the factors are not much larger than the matrix: it has a narrow band, or hardly a cycle."""
    both = sparse.csr_array(matrix + matrix.T)
    if both.nnz <= 4 * both.shape[0]:
        return True
    order = csgraph.reverse_cuthill_mckee(both, symmetric_mode=True)
    place = np.argsort(order)
    rows = np.repeat(np.arange(both.shape[0]), np.diff(both.indptr))
    width = int(np.abs(place[rows] - place[both.indices]).max(initial=0))
    return bool(both.shape[0] * width <= FACTORS)


def _near_one(
    part: Part, scaled: Scaled, operator: LinearOperator, more: dict[str, Any], by: str
) -> tuple[Complex, Complex, bool]:
    """Return eigenvalues and vectors from factors, and whether others of large modulus may be missing."""
    solve: Any = eigsh if scaled.symmetric else eigs
    more = {key: more[key] for key in ("k", "v0", "ncv")}
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
    return _complex((values, V), nearest)


def _growth(scaled: Scaled, v: Vector) -> float:
    """Return roughly the largest modulus: by how much the last of many products grow a vector, each."""
    logs = []
    for _ in range(GROWN):
        v = scaled.deflated(v)
        size = float(np.linalg.norm(v))
        if not size:
            return 0.0
        logs.append(log(size))
        v = v / size
    return exp(sum(logs[GROWN // 2 :]) / (GROWN - GROWN // 2))


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
