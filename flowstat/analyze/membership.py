"""Fuzzy groups from slow eigenvectors: PCCA+ where they are those of a reversible class, GPCCA where not.

The slow right eigenvectors of a chain that is hard to leave in k places are nearly constant on each: as points in k
dimensions, its states lie near the corners of a simplex. The linear map that takes the corners to unit vectors makes
memberships of them, which sum to 1 and are at least 0 (Deuflhard and Weber, Linear Algebra and its Applications 398
(2005); Röblitz and Weber, Advances in Data Analysis and Classification 7 (2013)). Only the space that the vectors span
matters, so that real and imaginary parts of pairs of a chain that is not reversible serve as well (Reuter, Fackeldey,
Weber, Journal of Chemical Physics 150 (2019)).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.optimize import minimize

from flowstat.analyze.solve import Index, Vector

__all__ = ["basis", "memberships"]

POINTS = 5000
"""How many states are looked at while the map is improved: the ones farthest out; feasible it is made for all."""

WORK = 400
"""How often each entry of the map is varied while it is improved."""


def basis(columns: Vector, law: Vector) -> tuple[Vector, float]:
    """Return an orthonormal basis of a space under a law, the constant first, and how dependent the columns are.

    Parameters
    ----------
    columns : (n, k - 1)
        Span the space, with the constant.
    law : (n,)
        Weights of the states; sum to 1.

    Returns
    -------
    X : (n, k)
        `X.T @ diag(law) @ X` is the identity, and `X[:, 0]` is 1.
    least
        The least diagonal entry of the triangle, of columns of length 1: near 0 where they are dependent.
    """
    root = np.sqrt(law)[:, None]
    scaled = root * columns
    for _ in range(2):
        scaled = scaled - root * (root.T @ scaled)
    scaled = scaled / np.maximum(np.linalg.norm(scaled, axis=0), 1e-300)
    Q, R = np.linalg.qr(np.hstack([root, scaled]))
    least = float(np.abs(np.diag(R)).min())
    X = Q / np.where(root > 0, root, 1.0)
    # A state of no weight is where its column says, in the basis that the others make.
    return np.hstack([np.ones((len(law), 1)), X[:, 1:]]), least


def memberships(X: Vector) -> tuple[Vector, float]:
    """Return memberships (n, k) of n points in a simplex, and how crisp they are: 1 if each state is in one group.

    Parameters
    ----------
    X : (n, k)
        An orthonormal basis under the law, from `basis`.

    Notes
    -----
    The corners are found by the inner simplex algorithm, and the map from them is improved, by Nelder and Mead's
    method, for the crispness `trace(diag(chi' law)^-1 chi' diag(law) chi) / k`. Deterministic. O(n k^2), and for the
    improvement `WORK k^4` times `POINTS` at most.

    Examples
    --------
    >>> X, _ = basis(np.array([[1.0], [1.0], [-1.0], [-1.0]]), np.full(4, 0.25))
    >>> memberships(X)[0].round(12).tolist()
    [[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 1.0]]
    """
    k = X.shape[1]
    if k == 1:
        return np.ones((len(X), 1)), 1.0
    A = _feasible(np.asarray(np.linalg.inv(X[_corners(X)]), np.float64), X)
    if k > 2:
        points = _outer(X)

        def vague(inner: Vector) -> float:
            return -_crispness(_feasible(_filled(inner.reshape(k - 1, k - 1)), points))

        begin = A[1:, 1:].ravel()
        options: dict[str, Any] = {"maxfev": WORK * len(begin), "maxiter": WORK * len(begin), "fatol": 1e-12}
        options |= {"xatol": 1e-10, "adaptive": len(begin) > 4}
        search: Any = minimize
        found = search(vague, begin, method="Nelder-Mead", options=options)
        better = _feasible(_filled(found.x.reshape(k - 1, k - 1)), X)
        if _crispness(better) > _crispness(A):
            A = better
    chi = np.maximum(X @ A, 0.0)
    return chi / chi.sum(axis=1, keepdims=True), min(1.0, _crispness(A))


def _corners(X: Vector) -> Index:
    """Return k states that lie far out in the simplex: the inner simplex algorithm."""
    k = X.shape[1]
    Y = X[:, 1:].copy()
    corners = [int(np.argmax((Y * Y).sum(axis=1)))]
    Y -= Y[corners[0]]
    for _ in range(1, k):
        size = (Y * Y).sum(axis=1)
        corners.append(int(np.argmax(size)))
        axis = Y[corners[-1]] / np.sqrt(size[corners[-1]])
        Y -= np.multiply.outer(Y @ axis, axis)
    return np.array(corners)


def _outer(X: Vector) -> Vector:
    """Return the points that may bound a map: all, or of many those farthest out in many directions."""
    if len(X) <= POINTS:
        return X
    directions = np.random.default_rng(0).standard_normal((X.shape[1], POINTS // 2))
    step = max(1, 20_000_000 // len(X))
    far = [np.argmax(X @ directions[:, b : b + step], axis=0) for b in range(0, directions.shape[1], step)]
    points: Vector = X[np.unique(np.concatenate([*far, _corners(X)]))]
    return points


def _filled(inner: Vector) -> Vector:
    """Return a map with room for its first row, from its inner entries: rows but the first sum to 0."""
    k = len(inner) + 1
    A = np.zeros((k, k))
    A[1:, 1:] = inner
    A[1:, 0] = -inner.sum(axis=1)
    return A


def _feasible(A: Vector, X: Vector) -> Vector:
    """Return the map with the first row that makes the least membership in each group 0, and their sums 1."""
    A = A.copy()
    A[1:, 0] = -A[1:, 1:].sum(axis=1)
    A[0] = -(X[:, 1:] @ A[1:]).min(axis=0)
    total = A[0].sum()
    return np.asarray(A / total) if total > 0 else A


def _crispness(A: Vector) -> float:
    """Return how crisp the memberships of a map are, from 1 by k up to 1: `chi' law` is its first row."""
    if not (A[0] > 0).all():
        return 0.0
    return float((np.square(A).sum(axis=0) / A[0]).sum() / len(A))
