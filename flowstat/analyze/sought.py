"""The leading eigenvalues of a large class, by ARPACK: from products, or from factors where they lie next to 1.

Often some stand out, and the others crowd: then those that stand out converge soon, and the others hardly ever. So
there is a limit to the work; what has converged by then, and lies outside of the crowd, is what is found. How far the
crowd reaches is how fast products with the matrix grow a vector that has nothing of what is found (power iteration).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import exp, log
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.sparse.linalg import ArpackError, ArpackNoConvergence, LinearOperator, eigs, eigsh

from flowstat.analyze.factored_inverse import good_order, inverse
from flowstat.analyze.perron import Part
from flowstat.analyze.scaled import Scaled
from flowstat.analyze.solve import Index, Vector

__all__ = ["Sought", "sought"]

Complex = npt.NDArray[np.complex128]

RESTARTS = 3000
"""How often ARPACK may restart."""

INVERSIONS = 20
"""How often, where each step is a solution with the factors."""

ROOM = 1e-2
"""How rough a first look at the largest and the least eigenvalue is."""

GROWN = 400
"""After how many products, at most, a vector grows by what is the largest modulus, nearly."""

PATIENCE = 4e9
"""Multiplications after which those that have converged are taken."""

VECTORS = 2e7
"""How many numbers the vectors of a search may have."""

WIDER = 4
"""How many times more are looked at than are wanted, where those nearest to 1 need not be those that lead."""

GOOD, FAIR = 1e-12, 1e-9
"""Residuals that are sought, and that are taken of what has converged when the work ends."""


@dataclass(frozen=True)
class Sought:
    """Eigenvalues of a class's deflated matrix: fewer than asked for where only some stand out from the others.

    Attributes
    ----------
    values, vectors : (m,), (n, m)
    left_values, left : (k,), (n, k) or None
        The same of its transpose, of a matrix that is not symmetric.
    nearest
        They are those nearest to 1.
    below
        Nearly the modulus that the others do not exceed, an estimate, or the Perron root where they may reach it; None
        where all that were asked for are found.
    """

    values: Complex
    vectors: Complex
    left_values: Complex | None
    left: Complex | None
    nearest: bool
    below: float | None


def sought(part: Part, scaled: Scaled, number: int, by: str) -> Sought:
    """Return eigenvalues and vectors by ARPACK, those that converge.

    Parameters
    ----------
    number
        How many are wanted.
    by
        Which lead, `modulus` or `real` part.
    """
    n = len(part.moving)
    begin = np.random.default_rng(0).standard_normal(n)
    ncv = min(n, max(3 * number + 1, int(min(150, max(40, VECTORS / n)))))
    options: dict[str, Any] = {"k": number, "v0": begin, "ncv": ncv, "tol": GOOD}
    restarts = PATIENCE / (ncv * (scaled.matrix.nnz + n * ncv))
    outer: dict[str, Any] = {"which": "LM" if by == "modulus" else "LA" if scaled.symmetric else "LR"}
    outer["maxiter"] = min(max(4, int(restarts)), RESTARTS)
    order = good_order(part, scaled.matrix)
    if order is not None and (_growth(scaled, begin, None) or 1.0) > 1 - ROOM:
        # They lie close together next to 1, in a slow class: from there they are far apart.
        near: dict[str, Any] = {"sigma": 1.0, "which": "LM", "maxiter": INVERSIONS}
        if by == "real" and not scaled.symmetric:
            # Pairs that turn are farther from 1 than their real parts tell: so many more are looked at.
            near["k"] = min(n - 2, max(number, min(WIDER * number, int(VECTORS / n))))
            near["ncv"] = min(n, max(ncv, 2 * near["k"] + 2))
        found = _near_one(part, scaled, options | near, order, by)
        if len(found.values):
            return found
    operator = LinearOperator((n, n), matvec=scaled.deflated, dtype=np.float64)
    values, V, whole = _converged(scaled, options | outer, operator)
    below = None
    if not whole:
        grown = _growth(scaled, begin, V)
        below = part.root if grown is None else min(grown, part.root)
        size = np.abs(values) if by == "modulus" else values.real
        # Inside of the crowd others may come before those that have converged.
        clear = size > below * (1 + ROOM)
        values, V = values[clear], V[:, clear]
    if scaled.symmetric or not len(values):
        return Sought(values, V, None, None, False, below)
    across = LinearOperator((n, n), matvec=scaled.transposed, dtype=np.float64)
    left_values, W, _ = _converged(scaled, options | outer | {"k": len(values)}, across, True)
    return Sought(values, V, left_values, W, False, below)


def _converged(
    scaled: Scaled, options: dict[str, Any], operator: LinearOperator, transposed: bool = False
) -> tuple[Complex, Complex, bool]:
    """Return the eigenvalues that have converged, their vectors, and whether those are all that were asked for."""
    n = operator.shape[0]
    solve: Any = eigsh if scaled.symmetric else eigs
    if not 0 < options["k"] < n - 1:
        return np.zeros(0, complex), np.zeros((n, 0), complex), True
    whole = True
    try:
        values, V = solve(operator, **options)
    except ArpackNoConvergence as error:
        values, V, whole = error.eigenvalues, error.eigenvectors, False
    except (ArpackError, RuntimeError):
        return np.zeros(0, complex), np.zeros((n, 0), complex), False
    values, V = np.asarray(values, complex), np.asarray(V, complex).reshape(n, -1)
    if whole:
        return values, V, True
    product = scaled.transposed if transposed else scaled.deflated
    good = []
    for value, v in zip(values, V.T, strict=True):
        off = product(v.real) + 1j * product(v.imag) - value * v
        good.append(bool(np.linalg.norm(off) <= FAIR * np.linalg.norm(v)))
    # Of a pair both are taken, or none.
    pairs = [ok and bool((values[good].conj() == value).any()) for ok, value in zip(good, values, strict=True)]
    return values[pairs], V[:, pairs], False


def _near_one(part: Part, scaled: Scaled, options: dict[str, Any], order: Index, by: str) -> Sought:
    """Return eigenvalues and vectors from factors; others of large modulus may be missing if it says so."""
    n = len(part.moving)
    matrix = LinearOperator((n, n), matvec=scaled.deflated, dtype=np.float64)
    try:
        values, V, _ = _converged(scaled, options | {"OPinv": inverse(part, scaled, 1.0, order)}, matrix)
    except RuntimeError:
        values, V = np.zeros(0, complex), np.zeros((n, 0), complex)
    if not len(values):
        return Sought(values, V, None, None, False, None)
    if not scaled.symmetric:
        across = LinearOperator((n, n), matvec=scaled.transposed, dtype=np.float64)
        backwards = inverse(part, scaled, 1.0, order, True)
        left_values, W, _ = _converged(
            scaled, options | {"k": len(values), "OPinv": backwards}, across, transposed=True
        )
        return Sought(values, V, left_values, W, True, None)
    nearest, least = False, float(np.abs(values).min())
    # Rows that stay hold all eigenvalues up (Gershgorin); else the least one is looked at, roughly.
    stays = 2 * float((1 - part.moving)[part.loops].min(initial=1.0)) - 1 if part.loops.all() else -1.0
    if by == "modulus" and stays < -least and _reaches(matrix, -least):
        try:
            below = inverse(part, scaled, -1.0, order)
            lowest, W, whole = _converged(scaled, options | {"sigma": -1.0, "OPinv": below}, matrix)
            fresh = lowest.real < values.real.min()
            values, V = np.concatenate([values, lowest[fresh]]), np.hstack([V, W[:, fresh]])
            nearest = not whole
        except RuntimeError:
            nearest = True
    return Sought(values, V, None, None, nearest, None)


def _growth(scaled: Scaled, v: Vector, without: Complex | None) -> float | None:
    """Return nearly the largest modulus, by how much products grow a vector in the end; None if that has not settled.

    Of a space that the matrix keeps, what is `without` it: then of the other eigenvalues.
    """
    logs: list[float] = []
    Q = np.zeros((len(v), 0))
    if without is not None and without.shape[1]:
        Q = np.linalg.qr(np.hstack([without.real, without.imag[:, np.abs(without.imag).max(axis=0) > 0]]))[0]
    products = max(60, min(GROWN, int(PATIENCE / 4 / (scaled.matrix.nnz + 2 * Q.size + 1))))
    for _ in range(products):
        v = scaled.deflated(v)
        v = v - Q @ (Q.T @ v)
        size = float(np.linalg.norm(v))
        if not size:
            return 0.0
        logs.append(log(size))
        v = v / size
    third = products // 3
    before, last = sum(logs[third : 2 * third]) / third, sum(logs[2 * third :]) / (products - 2 * third)
    # Next to 1 it takes long, and only seems to have settled.
    return exp(last) if exp(last) < 1 and abs(exp(last) - exp(before)) <= ROOM * (1 - exp(last)) else None


def _reaches(operator: LinearOperator, value: float) -> bool:
    """Whether a symmetric matrix may have eigenvalues below a value: by its least Ritz value, with some room."""
    n = operator.shape[0]
    begin = np.random.default_rng(1).standard_normal(n)
    options: dict[str, Any] = {"k": 1, "which": "SA", "tol": ROOM / 10, "maxiter": INVERSIONS, "v0": begin}
    try:
        least = eigsh(operator, ncv=min(n, 60), return_eigenvectors=False, **options)
    except ArpackError:
        return True
    return float(least[0]) - ROOM < value
