"""A large class that mixes too slowly to be relaxed: sparse factors, whole ones where they fit, else rough ones.

Whole factors are those of SuperLU. Rough ones (incomplete LU) come with a Krylov method, BiCGSTAB (van der Vorst, SIAM
Journal on Scientific and Statistical Computing 13 (1992)), which they precondition. Nothing is claimed of the answer:
`flowstat.analyze.large` proves a bound of it, or refuses it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse
from scipy.sparse import csgraph, linalg

__all__ = ["factored"]

Vector = npt.NDArray[np.float64]

FACTORED = 30_000
"""Up to how many states a class has whole factors, however much they fill up."""

FILL = 3e7
"""How many numbers whole factors of a larger class may have, at most: those within its band, row by row."""

DROPPED, ROUGH = 1e-4, 10.0
"""What rough factors leave out, and by how much they may be larger than the class."""

ROUNDS = 200
"""Steps of the Krylov method, each time."""

REFINED = 4
"""How often an answer is mended by solving for its residual."""


def factored(matrix: sparse.csr_array) -> Callable[[Vector], Vector] | None:
    """Return a function that solves a class's system for right sides, (n, q); None if it has no factors."""
    columns = sparse.csc_array(matrix)
    n = matrix.shape[0]
    try:
        if n <= FACTORED or _envelope(matrix) <= FILL:
            whole = linalg.splu(columns, permc_spec="MMD_AT_PLUS_A", options={"SymmetricMode": True})
            return lambda right: _refined(matrix, right, whole.solve)
        rough = linalg.spilu(columns, drop_tol=DROPPED, fill_factor=ROUGH, permc_spec="MMD_AT_PLUS_A")
    except (RuntimeError, MemoryError):
        return None  # singular, as rounded
    near = linalg.LinearOperator((n, n), matvec=rough.solve, dtype=np.float64)
    return lambda right: _refined(matrix, right, lambda left: _krylov(matrix, left, near))


def _envelope(matrix: sparse.csr_array) -> float:
    """Return how many numbers are in both factors, at most, if the states are put in an order of a narrow band."""
    both = sparse.csr_array(abs(matrix) + abs(matrix).T)
    place = np.argsort(csgraph.reverse_cuthill_mckee(both, symmetric_mode=True))
    rows = np.repeat(np.arange(both.shape[0]), np.diff(both.indptr))
    first = np.arange(both.shape[0])
    np.minimum.at(first, place[rows], place[both.indices])
    return 2.0 * float((np.arange(both.shape[0]) - first).sum())


def _refined(matrix: sparse.csr_array, right: Vector, solve: Callable[[Vector], Vector]) -> Vector:
    """Solve again and again for what is left, while that gets less."""
    x = np.zeros_like(right)
    left, size = right, np.inf
    for _ in range(REFINED):
        better = x + solve(left)
        rest = right - matrix @ better
        now = float(np.abs(rest).max(initial=0.0))
        if not now < size:
            break
        x, left = better, rest
        if now > 0.5 * size:
            break
        size = now
    return x


def _krylov(matrix: sparse.csr_array, right: Vector, near: linalg.LinearOperator) -> Vector:
    x = np.empty_like(right)
    solve: Any = linalg.bicgstab
    for k in range(right.shape[1]):
        with np.errstate(all="ignore"):
            x[:, k], _ = solve(matrix, right[:, k], rtol=1e-10, atol=0.0, maxiter=ROUNDS, M=near)
    return np.where(np.isfinite(x), x, 0.0)
